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
from gridfs.config import MIB
from gridfs.errors import StoreUnavailable
from gridfs.model import ByteRange
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import Fault, SimulatedStore
from tests.support.layout import ListLayout
from tests.support.on_trio import on_trio
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
        return not statistics.memory_in_flight_bytes and not self.reader._fetcher.flights


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
