"""No flight stays without a pilot, for which who asks next would wait; and what a reader has found is his."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from gridfs.cache.memory import MemoryCache
from gridfs.cache.tiered import TieredCache
from gridfs.config import MIB, PART_SIZE_BYTES
from gridfs.errors import GridfsError, StoreUnavailable
from gridfs.model import ByteRange
from gridfs.read.failures import FAILURE_MEMORY_S
from gridfs.read.plan import Run
from gridfs.read.prefetch import Priority, Want
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import CHUNK_SIZE_BYTES, Fault, Network, SimulatedStore
from tests.support.layout import ListLayout
from tests.support.on_trio import on_mock_clock, on_trio
from tests.support.reading import BLOCK, reading


@dataclass
class Subject:
    """A reader of one object, by blocks."""

    layout: ListLayout
    store: SimulatedStore
    reader: Reader

    async def read(self, first: int, stop: int) -> None:
        """Reads blocks; at once, or something is waited for that never comes."""
        (obj,), wanted = self.layout.objects, ByteRange(first * BLOCK, stop * BLOCK)
        with trio.fail_after(5):
            data = self.reader.read_nowait(obj, wanted) or await self.reader.read(obj, wanted)
        assert data == self.layout.data[obj.key][wanted.start : wanted.stop]

    def nothing_is_under_way(self) -> bool:
        statistics = self.reader.statistics()
        return not statistics.memory_in_flight_bytes and not self.reader._block_map.flights


@asynccontextmanager
async def running(budget_bytes: int = 64 * MIB) -> AsyncIterator[Subject]:
    async with reading([2 * MIB], TieredCache(MemoryCache()), ReaderSettings(budget_bytes, prefetch="none")) as found:
        yield Subject(*found)


@on_trio
async def test_a_failure_that_is_remembered_leaves_nothing_of_the_rest_behind() -> None:
    async with running() as subject:
        await subject.read(2, 4)
        subject.store.inject(Fault.UNAVAILABLE)
        with pytest.raises(StoreUnavailable):
            await subject.read(4, 5)
        with pytest.raises(StoreUnavailable):
            await subject.read(0, 8)  # lacks 0 and 1, has 2 and 3, and remembers 4
        assert subject.nothing_is_under_way()
        await subject.read(0, 4)


@on_trio
async def test_a_defect_before_the_flight_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(first: int, stop: int, outcome: object) -> None:
        raise ZeroDivisionError

    async with running() as subject:
        with monkeypatch.context() as patch:
            patch.setattr(subject.reader._prefetcher, "observe", observe)
            with pytest.raises(ZeroDivisionError):
                await subject.read(0, 2)
        assert subject.nothing_is_under_way()
        await subject.read(0, 2)
        assert len(subject.store.requests) == 1


@on_trio
async def test_a_cancelled_pilot_leaves_nothing_behind() -> None:
    async with running() as subject:
        subject.store.inject(Fault.STALLED)
        with trio.move_on_after(0.05) as patience:
            await subject.read(0, 2)
        assert patience.cancelled_caught
        assert subject.nothing_is_under_way()
        await subject.read(0, 2)


@on_trio
async def test_what_was_found_is_not_evicted_for_what_lacks_beside_it() -> None:
    async with running(2 * BLOCK) as subject:
        await subject.read(1, 2)
        await subject.read(5, 6)
        await subject.read(0, 2)  # block 0 takes the place of block 1, which was found already
        assert subject.nothing_is_under_way()


@on_trio
async def test_a_store_that_can_t_be_prepared_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: SimulatedStore) -> None:
        raise RuntimeError("credentials were refreshed, but the refreshed credentials are still expired")

    monkeypatch.setattr(SimulatedStore, "prepare", fail)
    async with running() as subject:
        await trio.testing.wait_all_tasks_blocked()
        await subject.read(0, 1)


@on_mock_clock
async def test_a_failure_is_remembered_for_seconds_only() -> None:
    async with running() as subject:
        subject.store.inject(Fault.UNAVAILABLE)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await subject.read(0, 1)
        assert len(subject.store.requests) == 1
        await trio.sleep(FAILURE_MEMORY_S)
        await subject.read(0, 1)


@on_trio
async def test_of_a_flight_that_was_made_wide_only_what_was_asked_for_is_remembered() -> None:
    async with running() as subject:
        subject.reader._fetcher._is_dense = lambda obj, block: True
        subject.store.inject(Fault.UNAVAILABLE)
        with pytest.raises(StoreUnavailable):
            await subject.read(0, 1)
        await subject.read(1, 2)
        with pytest.raises(StoreUnavailable):
            await subject.reader._fetcher.collect(subject.layout.objects[0], Run(0, 1))


@on_mock_clock
async def test_who_asked_for_the_first_of_a_wide_flight_does_not_wait_for_the_last() -> None:
    async with reading(
        [PART_SIZE_BYTES], TieredCache(MemoryCache()), ReaderSettings(64 * MIB, prefetch="none")
    ) as found:
        subject = Subject(*found)
        subject.store.network = Network(connection_bytes_per_s=10 * CHUNK_SIZE_BYTES)
        subject.reader._fetcher._is_dense = lambda obj, block: True
        assert await seconds_to_read(subject, 0) == pytest.approx(0.1)
        assert await seconds_to_read(subject, PART - 1) == pytest.approx(3.1)
        assert len(subject.store.requests) == 1


@on_trio
async def test_an_answer_that_is_too_short_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 3, also where no checksum would tell (no-copy)."""
    get_range = SimulatedStore.get_range

    async def shorter(
        store: SimulatedStore, key: str, byte_range: ByteRange, *, if_match: str | None = None
    ) -> memoryview:
        return (await get_range(store, key, byte_range, if_match=if_match))[:-1]

    monkeypatch.setattr(SimulatedStore, "get_range", shorter)
    async with reading([5000], TieredCache(MemoryCache()), ReaderSettings(64 * MIB, prefetch="none")) as found:
        layout, _, reader = found
        layout._checksummed = False
        with pytest.raises(GridfsError, match=r"4999 bytes of .* came where 5000 were asked for"):
            await reader.read(layout.objects[0], ByteRange(0, 5000))
        assert reader.statistics().memory_in_flight_bytes == 0


@on_trio
async def test_memory_for_what_readers_have_fetched_meanwhile_is_given_back() -> None:
    """Invariant 6: a background flight that waited for memory may need less of it then."""
    async with running() as subject:
        await subject.read(0, 12)
        (obj,), want = subject.layout.objects, Want(Run(0, 16), Priority.WINDOW, PART_SIZE_BYTES)
        with trio.fail_after(5):
            await subject.reader._background._fetch(obj, want.run, want)
        assert subject.reader.statistics().fetched_bytes["window"] == 4 * BLOCK
        assert subject.nothing_is_under_way()


PART = PART_SIZE_BYTES // BLOCK
"""Blocks of a part: 64, of which a chunk of the simulated store has two."""


@asynccontextmanager
async def in_background(chunk_s: float, fault: Fault | None = None) -> AsyncIterator[Subject]:
    """A window of one part is on its way, a chunk in that many seconds; reads may take 20."""
    settings = ReaderSettings(64 * MIB, prefetch="none")
    async with reading([PART_SIZE_BYTES], TieredCache(MemoryCache()), settings) as found:
        subject = Subject(*found)
        subject.store.network = Network(connection_bytes_per_s=CHUNK_SIZE_BYTES / chunk_s)
        if fault is not None:
            subject.store.inject(fault)
        subject.reader._background.submit(Want(Run(0, PART), Priority.WINDOW, PART_SIZE_BYTES))
        await trio.testing.wait_all_tasks_blocked()
        yield subject


async def seconds_to_read(subject: Subject, block: int) -> float:
    (obj,), started_s = subject.layout.objects, trio.current_time()
    data = await subject.reader.read(obj, ByteRange(block * BLOCK, (block + 1) * BLOCK))
    assert data == subject.layout.data[obj.key][block * BLOCK : (block + 1) * BLOCK]
    return trio.current_time() - started_s


@on_mock_clock
async def test_a_background_flight_may_take_its_time_while_blocks_come() -> None:
    async with in_background(2.0) as subject:
        await trio.sleep(65)
        assert subject.reader.statistics().gets["window"] == 1
        assert subject.nothing_is_under_way()


@on_mock_clock
async def test_one_that_brings_nothing_ends() -> None:
    async with in_background(0.1, Fault.STALLED) as subject:
        await trio.sleep(1.6 + 9.9)
        assert not subject.nothing_is_under_way()
        await trio.sleep(0.2)
        assert subject.nothing_is_under_way()
        assert subject.reader.statistics().failed["window"] == 1


@on_mock_clock
async def test_who_has_joined_waits_while_the_rest_will_come_in_time() -> None:
    async with in_background(0.5) as subject:
        assert await seconds_to_read(subject, PART - 1) == pytest.approx(16)
        assert len(subject.store.requests) == 1


@pytest.mark.parametrize(
    ("chunk_s", "fault", "block", "read_s"),
    [
        (0.1, Fault.STALLED, PART - 4, 11.65),  # half of it comes at once, and then nothing: its own limit
        (1.0, None, PART - 1, 10.5),  # a third of it comes in half of the time
        (0.5, Fault.STALLED, PART // 2 + 15, 15.25),  # two thirds of what is asked for, and then nothing
        (9.0, None, 9, 14.5),  # a trickle, which never comes to its limit
    ],
)
def test_who_has_joined_has_the_time_for_an_own_request(
    chunk_s: float, fault: Fault | None, block: int, read_s: float
) -> None:
    @on_mock_clock
    async def read() -> None:
        async with in_background(chunk_s, fault) as subject:
            assert await seconds_to_read(subject, block) == pytest.approx(read_s)
            assert subject.nothing_is_under_way()
            assert len(subject.store.requests) == 2

    read()


@on_mock_clock
async def test_what_comes_late_for_a_read_takes_of_the_time_for_its_rest() -> None:
    sizes, settings = [2 * PART_SIZE_BYTES], ReaderSettings(64 * MIB, prefetch="none")
    async with reading(sizes, TieredCache(MemoryCache()), settings) as (layout, store, reader):
        store.network = Network(connection_bytes_per_s=CHUNK_SIZE_BYTES / 0.9)
        store.inject(Fault.STALLED, times=2)
        reader._background.submit(Want(Run(0, 2 * PART), Priority.WINDOW, PART_SIZE_BYTES))
        await trio.testing.wait_all_tasks_blocked()
        (obj,), started_s = layout.objects, trio.current_time()
        # The first part is given up after 10 s, the second hangs from 14.4 s on.
        await reader.read(obj, ByteRange((PART - 1) * BLOCK, (PART + PART // 2 + 2) * BLOCK))
        assert trio.current_time() - started_s == pytest.approx(18.5, abs=0.1)


@pytest.mark.logs_warnings
@on_trio
async def test_a_defect_of_who_is_told_of_parts_fails_no_read() -> None:
    def told(*_: object) -> None:
        raise TypeError("a defect")

    settings = ReaderSettings(64 * MIB)
    async with reading([9 * MIB], TieredCache(MemoryCache()), settings) as (layout, _, reader):
        reader.on_part = told
        obj = layout.objects[0]
        for start in range(0, 9 * MIB, MIB):
            found = await reader.read(obj, ByteRange(start, start + MIB))
            assert bytes(found) == layout.data[obj.key][start : start + MIB]
