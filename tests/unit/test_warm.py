"""gridfs.read.warm over a real disk cache: all of a version, as far as it fits, and once."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from gridfs.cache.base import Span
from gridfs.cache.tiered import TieredCache, open_cache
from gridfs.config import MIB, CacheSettings
from gridfs.errors import ObjectMissing, ReadTimeout, StoreUnavailable
from gridfs.model import ByteRange
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.read.warm import Warmth, measure
from gridfs.store.simulated import Fault, Network, SimulatedStore
from tests.support import reading as support
from tests.support.layout import ListLayout
from tests.support.on_trio import on_mock_clock, on_trio

SIZES = (20 * MIB, 110_000, 5, 3 * MIB)


@asynccontextmanager
async def reading(
    directory: Path,
    *,
    max_size_bytes: int | None = None,
    prefetch: str = "auto",
    sizes: Sequence[int] = SIZES,
) -> AsyncIterator[tuple[ListLayout, SimulatedStore, TieredCache, Reader]]:
    cache, settings = open_cache(CacheSettings(directory, max_size_bytes)), ReaderSettings(64 * MIB, prefetch=prefetch)
    async with support.reading(sizes, cache, settings) as (layout, store, reader):
        yield layout, store, cache, reader


@on_trio
async def test_a_warm_version_needs_no_store(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, store, cache, reader):
        assert (await measure(layout, cache)).cached_bytes == 0
        told: list[int] = []
        assert (await reader.warm(told.append)).complete
        assert store.sent_bytes == sum(SIZES)
        assert told == sorted(told)
        assert told[-1] >= sum(SIZES)
        assert (await reader.warm()).complete
        assert store.sent_bytes == sum(SIZES)
    async with reading(tmp_path) as (layout, store, cache, reader):
        for obj in layout.objects:
            assert bytes(await reader.read(obj, ByteRange(0, obj.size_bytes))) == layout.data[obj.key]
        assert not store.requests


@on_trio
async def test_warming_ends_where_it_would_evict(tmp_path: Path) -> None:
    async with reading(tmp_path, max_size_bytes=12 * MIB) as (_, _, cache, reader):
        warmth = await reader.warm()
        assert not warmth.complete
        assert cache.statistics().evicted_segments == 0


@on_trio
async def test_a_store_that_fails_is_told_and_the_rest_comes_later(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, store, cache, reader):
        store.inject(StoreUnavailable("503"), times=2)
        with pytest.raises(StoreUnavailable):
            await reader.warm()
        lacking = sum(SIZES) - (await measure(layout, cache)).cached_bytes
        sent = store.sent_bytes
        assert (await reader.warm()).complete
        assert store.sent_bytes - sent == lacking


@on_trio
async def test_what_came_of_a_part_that_failed_is_fetched_again_for_the_disk(tmp_path: Path) -> None:
    async with reading(tmp_path) as (_, store, _, reader):
        store.inject(Fault.TRUNCATED)
        with pytest.raises(StoreUnavailable):
            await reader.warm()
        assert (await reader.warm()).complete


@on_mock_clock
async def test_a_slow_link_warms_all_the_same(tmp_path: Path) -> None:
    """16 parts at once over 100 Mbit/s: each takes 10.7 s, and is fetched once."""
    async with reading(tmp_path) as (_, store, _, reader):
        store.network = Network(connection_bytes_per_s=100e6 / 8 / 16)
        assert (await reader.warm()).complete
        assert store.sent_bytes == sum(SIZES)


@on_mock_clock
async def test_a_dead_store_is_given_up_after_a_step(tmp_path: Path) -> None:
    async with reading(tmp_path, sizes=[1 * MIB] * 400) as (_, store, _, reader):
        store.inject(Fault.STALLED, times=1000)
        told: list[int] = []
        with pytest.raises(ReadTimeout):
            await reader.warm(told.append)
        assert len(store.requests) <= 128
        assert not told


@on_trio
async def test_objects_that_are_gone_do_not_keep_the_others_back(tmp_path: Path) -> None:
    async with reading(tmp_path, sizes=[5] * 1100) as (layout, store, cache, reader):
        for obj in layout.objects[:1024]:
            store.remove(obj.key)
        with pytest.raises(ObjectMissing):
            await reader.warm()
        assert (await measure(layout, cache)).cached_bytes == 5 * 76


@on_trio
async def test_what_the_queue_of_writes_dropped_is_asked_for_again(tmp_path: Path) -> None:
    async with reading(tmp_path, sizes=[64 * MIB]) as (_, _, _, reader):
        assert (await reader.warm()).complete


@on_trio
async def test_prefetch_all_warms_by_itself(tmp_path: Path) -> None:
    async with reading(tmp_path, prefetch="all") as (layout, _, cache, _):
        while not (await measure(layout, cache)).complete:
            await trio.sleep(0.01)


@on_trio
async def test_a_large_file_is_measured_beside_its_readers(tmp_path: Path) -> None:
    """An object of 131,072 parts is 1 TiB: whoever reads just then must not wait for all of them."""
    cache, turns = open_cache(CacheSettings(tmp_path)), 0
    layout = ListLayout([64 * MIB], block_size_bytes=support.BLOCK)

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert (await measure(layout, cache)) == Warmth(0, 64 * MIB)
        assert turns >= 6
        nursery.cancel_scope.cancel()


@on_trio
async def test_what_is_held_is_counted_to_the_byte(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, _, cache, reader):
        big, small, block = layout.object(1), layout.object(2), support.BLOCK
        await reader.read(big, ByteRange(9 * MIB, 9 * MIB + 300_000))
        await reader.read(small, ByteRange(0, 10))
        await cache.drain()
        assert await cache.held_bytes([Span(big.identity, big.size_bytes, block, 64, 128)]) == 3 * block
        assert await cache.held_bytes([Span(small.identity, small.size_bytes, block, 0, 1)]) == small.size_bytes


@pytest.fixture
def no_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a reboot, and always where RWF_NOWAIT is not known: no read is answered at once."""
    preadv = os.preadv

    def read(fd: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError(errno.EAGAIN, "would wait")
        return preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", read)


@pytest.mark.usefixtures("no_page_cache")
@on_trio
async def test_tables_that_only_the_disk_has_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both for what is told and for what is fetched."""
    monkeypatch.setattr("gridfs.read.reader.MEASURED_OBJECTS", 0)  # nobody else has looked at them
    sizes = 12 * MIB, 5, 9 * MIB
    async with reading(tmp_path, sizes=sizes, prefetch="none") as (layout, _, cache, reader):
        for obj in layout.objects:
            await reader.read(obj, ByteRange(0, min(obj.size_bytes, support.BLOCK)))
        await cache.drain()
    held_bytes = 2 * support.BLOCK + 5
    async with reading(tmp_path, sizes=sizes, prefetch="none") as (layout, _, cache, _):
        assert await measure(layout, cache) == Warmth(held_bytes, sum(sizes))
    async with reading(tmp_path, sizes=sizes, prefetch="none") as (layout, store, cache, reader):
        await reader._warmer._pass(lambda _: None)
        assert store.sent_bytes == sum(sizes) - held_bytes
        assert (await measure(layout, cache)).complete


@pytest.mark.usefixtures("no_page_cache")
@on_trio
async def test_many_tables_take_few_turns_of_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, turns, run_sync = (7,) * 100, 0, trio.to_thread.run_sync
    async with reading(tmp_path, sizes=sizes) as (_, _, _, reader):
        assert (await reader.warm()).complete

    async def count(*arguments: Any, **options: Any) -> Any:
        nonlocal turns
        turns += 1
        return await run_sync(*arguments, **options)

    layout, cache = ListLayout(sizes, block_size_bytes=support.BLOCK), open_cache(CacheSettings(tmp_path))
    monkeypatch.setattr(trio.to_thread, "run_sync", count)
    assert (await measure(layout, cache)).complete
    assert turns == 4
