"""A reader over a simulated store, with everything that must always hold watched from outside.

    oracle           the objects as plain bytes
    WatchedMemory    every block that becomes visible is compared with the oracle at that moment (invariant 4)
    WatchedStore     no block of an object is asked for while it is on its way (invariant 5)
    budget           its peak is within the limit, and nothing is in flight at rest (invariant 6)
    DiskInMemory     a disk tier with delays, losses and flipped bits by seed, which verifies as the real one does

`simulate` runs readers against it on trio's MockClock and raises Violation for what must never be.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf
from random import Random

import trio
import xxhash
from trio.testing import MockClock

from gridfs.cache.base import Checksums, DiskStatistics, Span
from gridfs.cache.memory import MemoryCache, Part
from gridfs.cache.tiered import TieredCache
from gridfs.errors import GridfsError
from gridfs.model import ByteRange
from gridfs.read.fetch import Fetcher
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.read.statistics import ReaderStatistics
from gridfs.store.base import Deliver
from gridfs.store.simulated import Fault, Network, SimulatedStore
from tests.support.layout import ListLayout

BLOCK_SIZE_BYTES = 16 << 10
"""Small, so that a few MiB are many blocks; parts and windows keep their real sizes."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class WatchedMemory(MemoryCache):
    """Compares what is published with what it should be."""

    def __init__(self, oracle: dict[str, bytes]) -> None:
        super().__init__()
        self._oracle = oracle

    def publish(self, part: Part, ready: int) -> None:
        right = self._oracle[part.identity][part.ready : ready]
        if part.buffer[part.ready - part.start : ready - part.start] != right:
            raise Violation(f"invariant 4: bytes {part.ready} to {ready} of {part} are published and wrong")
        super().publish(part, ready)


class WatchedStore(SimulatedStore):
    """Notes which blocks are on their way, and what was begun; every other time it says that it has begun."""

    def __init__(self, network: Network, *, fault_rates: dict[Fault, float], seed: int) -> None:
        super().__init__(network, fault_rates=fault_rates, seed=seed)
        self._flying: set[tuple[str, int]] = set()
        self._asked_to_begin = 0
        self.begun: set[tuple[str, ByteRange]] = set()
        """And not called for yet."""

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        self._one_flight(key, byte_range).close()
        self._asked_to_begin += 1
        if self._asked_to_begin % 2:
            return False
        self.begun.add((key, byte_range))
        return True

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        with self._one_flight(key, byte_range):
            return await super().get_range(key, byte_range, if_match=if_match)

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        with self._one_flight(key, byte_range):
            await super().stream_range(key, byte_range, deliver, if_match=if_match, into=into)

    def _one_flight(self, key: str, byte_range: ByteRange) -> ExitStack:
        blocks = range(byte_range.start // BLOCK_SIZE_BYTES, -(-byte_range.stop // BLOCK_SIZE_BYTES))
        flights = {(key, block) for block in blocks}
        if flights & self._flying:
            raise Violation(f"invariant 5: bytes {byte_range} of {key} are asked for while they are on their way")
        self._flying |= flights
        self.begun.discard((key, byte_range))
        leave = ExitStack()
        leave.callback(self._flying.difference_update, flights)
        return leave


class DiskInMemory:
    """A disk tier that keeps its promises badly: it is slow, forgets, and flips bits, which its verification finds."""

    def __init__(self, *, capacity_bytes: int, flip_rate: float, seed: int) -> None:
        self._blocks: dict[tuple[str, int], tuple[bytes, int]] = {}
        self._capacity_bytes = capacity_bytes
        self._flip_rate = flip_rate
        self._random = Random(seed)
        self._queue: list[tuple[Span, Part, Sequence[int], Callable[[], None]]] = []
        self._parked = trio.lowlevel.ParkingLot()
        """The writer while the queue is empty: one that looked every 10 ms took nine tenths of a simulation's time."""

    def present(self, span: Span) -> int:
        there = 0
        while span.first + there < span.stop and (span.identity, span.first + there) in self._blocks:
            there += 1
        return there

    async def held_bytes(self, spans: Sequence[Span]) -> int:
        await trio.lowlevel.checkpoint()
        blocks = [(span.identity, block) for span in spans for block in range(span.first, span.stop)]
        return sum(len(self._blocks.get(block, (b"",))[0]) for block in blocks)

    def load_nowait(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        if self._random.random() < 0.5:
            return None
        data = bytearray()
        for position, block in enumerate(range(span.first, span.stop)):
            stored, checksum = self._blocks.get((span.identity, block), (b"", 0))
            if xxhash.xxh3_64_intdigest(stored) != (checksum if checksums is None else checksums[position]):
                self._blocks.pop((span.identity, block), None)
                return None
            data += stored
        if area is None:
            return memoryview(data)
        area[: len(data)] = data
        return memoryview(area)[: len(data)]

    async def load(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        await trio.sleep(self._random.random() / 100)
        return self.load_nowait(span, checksums, area)

    def keep(
        self, span: Span, part: Part, checksums: Sequence[int], on_written: Callable[[], None] = lambda: None
    ) -> bool:
        if self._random.random() < 0.2:
            return False
        self._queue.append((span, part, checksums, on_written))
        self._parked.unpark_all()
        return True

    def limit_queue(self, size_bytes: int) -> None:
        pass

    async def wait_until_measured(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_for_queue(self, size_bytes: int) -> None:
        await trio.lowlevel.checkpoint()

    async def drain(self) -> None:
        while self._queue:
            await trio.sleep(0.01)

    def holds(self, part: Part) -> bool:
        return all((part.identity, block) in self._blocks for block in range(part.first_block, part.stop_block))

    def room_bytes(self) -> int:
        return max(0, self._capacity_bytes - sum(len(stored) for stored, _ in self._blocks.values()))

    def statistics(self) -> DiskStatistics:
        return DiskStatistics("memory", True, None, self._capacity_bytes, 0, 0, 0, 0, 0, 0, 0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while not self._queue:
                await self._parked.park()
            await trio.sleep(0.01)
            queue, self._queue = self._queue, []
            for span, part, checksums, on_written in queue:
                for position, block in enumerate(range(span.first, span.stop)):
                    start = position * span.block_size_bytes
                    self._write(
                        span.identity,
                        block,
                        bytes(part.buffer[start : start + span.block_size_bytes]),
                        checksums[position],
                    )
                on_written()

    def _write(self, identity: str, block: int, stored: bytes, checksum: int) -> None:
        if self._random.random() < self._flip_rate:
            stored = bytes([stored[0] ^ 1]) + stored[1:]
        while self._blocks and self.room_bytes() < len(stored):
            del self._blocks[next(iter(self._blocks))]
        self._blocks[identity, block] = (stored, checksum)


@dataclass(frozen=True)
class Read:
    """One read of one of the readers."""

    obj: int
    """Index of the object."""
    start: int
    size: int
    patience_s: float | None = None
    """The reader is cancelled after this."""


@dataclass(frozen=True)
class Scenario:
    """What happens in one run."""

    sizes: tuple[int, ...]
    readers: tuple[tuple[Read, ...], ...]
    network: Network = field(default_factory=lambda: Network(0.015, 90e6))
    faults: dict[Fault, float] = field(default_factory=dict)
    budget_bytes: int = 4 << 20
    disk_bytes: int | None = None
    flip_rate: float = 0.0
    checksummed: bool = True
    prefetch: str = "auto"
    seed: int = 0


@dataclass
class Report:
    """What came of a run."""

    right: int = 0
    cancelled: int = 0
    errors: list[GridfsError] = field(default_factory=list)
    elapsed_s: float = 0.0
    statistics: ReaderStatistics | None = None
    store: WatchedStore | None = None


def simulate(scenario: Scenario, *, fetcher: type[Fetcher] = Fetcher) -> Report:
    """Runs *scenario* to its end and checks all that must hold. Raises Violation."""
    return trio.run(_simulate, scenario, fetcher, clock=MockClock(autojump_threshold=0))


async def _simulate(scenario: Scenario, fetcher: type[Fetcher]) -> Report:
    layout = ListLayout(scenario.sizes, block_size_bytes=BLOCK_SIZE_BYTES, checksummed=scenario.checksummed)
    store = WatchedStore(scenario.network, fault_rates=scenario.faults, seed=scenario.seed)
    for key, data in layout.data.items():
        store.place(key, data)
    disk = None
    if scenario.disk_bytes is not None:
        disk = DiskInMemory(capacity_bytes=scenario.disk_bytes, flip_rate=scenario.flip_rate, seed=scenario.seed)
    # Without checksums nobody can know that a store lies, so the bytes are watched only where there are some.
    memory = WatchedMemory(layout.data) if scenario.checksummed else MemoryCache()
    defects: list[BaseException] = []
    settings = ReaderSettings(scenario.budget_bytes, prefetch=scenario.prefetch)
    reader = Reader(
        layout,
        store,
        lambda obj: obj.key,
        TieredCache(memory, disk),
        settings,
        on_defect=lambda error, _: defects.append(error),
        fetcher_type=fetcher,
    )
    report = Report(store=store)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        started_s = trio.current_time()
        async with trio.open_nursery() as readers:
            for reads in scenario.readers:
                readers.start_soon(_read_all, reader, layout, reads, report)
        report.elapsed_s = trio.current_time() - started_s
        await trio.sleep(60)  # the longest that a background flight may hang
        report.statistics = reader.statistics()
        nursery.cancel_scope.cancel()
    for defect in defects:
        raise Violation(f"a defect inside a flight: {defect!r}") from defect
    if report.statistics.memory_peak_bytes > scenario.budget_bytes:
        raise Violation(f"invariant 6: {report.statistics.memory_peak_bytes} bytes of {scenario.budget_bytes}")
    if store.begun:
        raise Violation(f"{store.begun} were begun and never called for")
    if report.statistics.memory_in_flight_bytes:
        raise Violation(f"invariant 6: {report.statistics.memory_in_flight_bytes} bytes in flight at rest")
    return report


async def _read_all(reader: Reader, layout: ListLayout, reads: Sequence[Read], report: Report) -> None:
    for read in reads:
        obj = layout.objects[read.obj % len(layout.objects)]
        start = read.start % obj.size_bytes
        byte_range = ByteRange(start, min(start + read.size, obj.size_bytes))
        with trio.move_on_after(inf if read.patience_s is None else read.patience_s) as patience:
            try:
                data = reader.read_nowait(obj, byte_range)
                if data is None:
                    data = await reader.read(obj, byte_range)
            except GridfsError as error:
                report.errors.append(error)
                continue
            if bytes(data) != layout.data[obj.key][byte_range.start : byte_range.stop]:
                raise Violation(f"invariant 3: {byte_range} of object {read.obj} has wrong bytes")
            report.right += 1
        if patience.cancelled_caught:
            report.cancelled += 1
        await trio.lowlevel.checkpoint()
