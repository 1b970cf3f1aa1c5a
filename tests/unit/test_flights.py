"""No flight stays without a pilot: who asks for its blocks next would wait for nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from gridfs.cache.memory import MemoryCache
from gridfs.cache.tiered import TieredCache
from gridfs.config import KIB, MIB
from gridfs.errors import StoreUnavailable
from gridfs.model import ByteRange
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import Fault, SimulatedStore
from tests.support.layout import ListLayout
from tests.support.on_trio import on_trio

BLOCK = 128 * KIB


class Subject:
    """A reader of one object, by blocks."""

    def __init__(self) -> None:
        self.layout, self.store = ListLayout([2 * MIB], block_size_bytes=BLOCK), SimulatedStore()
        (self.object,) = self.layout.objects
        self.store.place(self.object.key, self.layout.data[self.object.key])
        settings = ReaderSettings(64 * MIB, prefetch="none")
        self.reader = Reader(self.layout, self.store, lambda obj: obj.key, TieredCache(MemoryCache()), settings)

    async def read(self, first: int, stop: int) -> None:
        """Reads blocks; at once, or something is waited for that never comes."""
        wanted = ByteRange(first * BLOCK, stop * BLOCK)
        with trio.fail_after(5):
            data = self.reader.read_nowait(self.object, wanted) or await self.reader.read(self.object, wanted)
        assert data == self.layout.data[self.object.key][wanted.start : wanted.stop]

    def nothing_is_under_way(self) -> bool:
        statistics = self.reader.statistics()
        return not statistics.memory_in_flight_bytes and not self.reader._fetcher.flights


@asynccontextmanager
async def running() -> AsyncIterator[Subject]:
    subject = Subject()
    async with trio.open_nursery() as nursery:
        await nursery.start(subject.reader.run)
        yield subject
        nursery.cancel_scope.cancel()


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
