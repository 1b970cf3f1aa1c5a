"""The simulation notices what it is there for: each defect that is put in makes it fail, and without one it passes."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import pytest

from gridfs.model import ObjectRecord
from gridfs.read.fetch import Fetcher
from gridfs.read.flight import Flight
from gridfs.read.pieces import Piece
from gridfs.read.plan import Run
from gridfs.store.simulated import Fault, Network
from tests.sim.simulation import BLOCK_SIZE_BYTES, Read, Scenario, Violation, simulate

MIB = 1 << 20

READS = tuple(tuple(Read(0, start + shift, 131_072) for start in range(0, 2 * MIB, 131_072)) for shift in (0, 50_000))
CLEAN = Scenario(sizes=(2 * MIB,), readers=READS, network=Network(0.015, 90e6), budget_bytes=4 * MIB)
CORRUPT = Scenario(sizes=(2 * MIB,), readers=READS, network=Network(0.015, 90e6), faults={Fault.CORRUPT: 0.5})


class Unverified(Fetcher):
    """Does not compare checksums."""

    def _check(self, flight: Flight, arrived: int) -> None:
        flight.expected = None
        super()._check(flight, arrived)


class Swapped(Fetcher):
    """Swaps the first two blocks of a part once it is verified."""

    def _publish(self, flight: Flight, ready_bytes: int, checksums: Sequence[int]) -> None:
        part, size = flight.part, BLOCK_SIZE_BYTES
        if part is not None and ready_bytes >= 2 * size and not flight.seen:
            data = bytearray(part.buffer)
            data[:size], data[size : 2 * size] = data[size : 2 * size], data[:size]
            part.buffer = memoryview(data)
        super()._publish(flight, ready_bytes, checksums)


class Early(Fetcher):
    """Publishes a part when its buffer is there, before its bytes are."""

    def _hold(self, flight: Flight, buffer: memoryview, area: mmap.mmap | None = None) -> None:
        super()._hold(flight, buffer, area)
        if flight.part is not None and area is not None:
            self._memory.publish(flight.part, flight.part.stop)


class Twice(Fetcher):
    """Forgets what is on its way."""

    def _start(self, obj: ObjectRecord, run: Run, *arguments: object, **names: object) -> Flight:
        self._block_map.flights.clear()
        return super()._start(obj, run, *arguments, **names)  # type: ignore[arg-type]


class Leaking(Fetcher):
    """Never lets go of a part that has landed."""

    def _land(self, flight: Flight) -> None:
        if flight.part is not None:
            self._memory.pin(flight.part)
        super()._land(flight)


class Shifted(Fetcher):
    """Answers with the piece before the one that was asked for."""

    async def collect(self, obj: ObjectRecord, run: Run) -> list[Piece]:
        before = Run(run.first - 1, run.stop - 1) if run.first else run
        pieces = await super().collect(obj, before)
        return [Piece(_Relabelled(piece), run, piece.guard) for piece in pieces[:1]] if run.first else pieces  # type: ignore[arg-type]


class _Relabelled:
    """A part whose views are a block too early."""

    def __init__(self, piece: Piece) -> None:
        self._part = piece.part
        self.block_size_bytes = piece.part.block_size_bytes
        self.stop = 1 << 60
        self.unread_bytes = 1 << 60

    def view(self, start: int, stop: int) -> memoryview:
        size = self.block_size_bytes
        return self._part.view(max(start - size, self._part.start), min(stop - size, self._part.ready))


@pytest.mark.logs_warnings
def test_without_a_defect_the_scenarios_pass() -> None:
    assert simulate(CLEAN).right == 32
    assert simulate(CORRUPT).right


@pytest.mark.logs_warnings
@pytest.mark.parametrize(
    ("defect", "scenario", "invariant"),
    [
        (Unverified, CORRUPT, "invariant 4"),
        (Swapped, CLEAN, "invariant 4"),
        (Early, CLEAN, "invariant 4"),
        (Twice, CLEAN, "invariant 5"),
        (Leaking, CLEAN, "invariant 6"),
        (Shifted, CLEAN, "invariant 3"),
    ],
)
def test_a_defect_is_noticed(defect: type[Fetcher], scenario: Scenario, invariant: str) -> None:
    with pytest.raises((BaseExceptionGroup, Violation)) as caught:
        simulate(scenario, fetcher=defect)
    assert invariant in _all_messages(caught.value)


def _all_messages(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(_all_messages(inner) for inner in error.exceptions)
    return f"{error}"
