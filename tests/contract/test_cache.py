"""What every cache of blocks promises (gridfs/cache/base.py), asked of each implementation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
import xxhash

from gridfs.cache import write_queue
from gridfs.cache.base import BlockCache, Span
from gridfs.cache.disk import DiskCache
from gridfs.cache.memory import MemoryCache, Part
from gridfs.cache.tiered import TieredCache
from gridfs.config import KIB, CacheSettings
from tests.support.data import ramp
from tests.support.on_trio import on_trio

BLOCK = 64 * KIB
OBJECT_SIZE = 100 * BLOCK + 77
IDENTITY = "fedcba9876543210fedcba9876543210"

Open: TypeAlias = Callable[[], "BlockCache"]


def _disk(directory: Path) -> BlockCache:
    return DiskCache(CacheSettings(directory))


def _tiered(directory: Path) -> BlockCache:
    return TieredCache(MemoryCache(), DiskCache(CacheSettings(directory)))


@pytest.fixture(params=[_disk, _tiered], ids=["disk", "tiered"])
def open_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Makes a cache; made again, it is another process' cache of the same directory."""
    monkeypatch.setattr(write_queue, "GATHER_S", 0)  # each part is waited for
    return lambda: request.param(tmp_path / "cache")


def span(first: int, stop: int, identity: str = IDENTITY) -> Span:
    return Span(identity, OBJECT_SIZE, BLOCK, first, stop)


def data_of(blocks: Span) -> bytes:
    return ramp(blocks.size_bytes, blocks.start_byte)


def checksums_of(blocks: Span) -> Sequence[int]:
    data = data_of(blocks)
    return [xxhash.xxh3_64_intdigest(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]


@asynccontextmanager
async def running(cache: BlockCache) -> AsyncIterator[BlockCache]:
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)  # type: ignore[attr-defined]
        yield cache
        nursery.cancel_scope.cancel()


async def keep(cache: BlockCache, blocks: Span) -> None:
    part = Part(blocks.identity, BLOCK, blocks.start_byte, blocks.stop_byte, memoryview(data_of(blocks)))
    part.ready = part.stop
    written = trio.Event()
    assert cache.keep(blocks, part, checksums_of(blocks), written.set)
    await written.wait()


@on_trio
async def test_what_was_kept_is_there_block_by_block(open_cache: Open) -> None:
    async with running(open_cache()) as cache:
        await keep(cache, span(3, 9))
        for blocks in (span(3, 9), span(3, 4), span(5, 8)):
            assert cache.present(blocks) == blocks.stop - blocks.first
            assert bytes(await cache.load(blocks, checksums_of(blocks)) or b"") == data_of(blocks)
        assert cache.present(span(3, 12)) == 6
        assert cache.present(span(2, 9)) == 0


@pytest.mark.parametrize("checksummed", [True, False])
@on_trio
async def test_the_last_block_has_its_real_length(open_cache: Open, checksummed: bool) -> None:
    async with running(open_cache()) as cache:
        last = span(98, 101)
        await keep(cache, last)
        data = await cache.load(last, checksums_of(last) if checksummed else None)
        assert bytes(data or b"") == data_of(last)


@on_trio
async def test_what_is_lacking_is_a_miss(open_cache: Open) -> None:
    async with running(open_cache()) as cache:
        await keep(cache, span(3, 5))
        assert await cache.load(span(3, 6), checksums_of(span(3, 6))) is None
        assert cache.load_nowait(span(50, 51), checksums_of(span(50, 51))) is None
        other = span(3, 5, "0" * 32)
        assert cache.present(other) == 0
        assert await cache.load(other, checksums_of(other)) is None


@on_trio
async def test_without_waiting_it_is_the_same_or_nothing(open_cache: Open) -> None:
    async with running(open_cache()) as cache:
        await keep(cache, span(0, 4))
        assert bytes(cache.load_nowait(span(0, 4), checksums_of(span(0, 4))) or data_of(span(0, 4))) == data_of(
            span(0, 4)
        )


@on_trio
async def test_another_process_finds_it(open_cache: Open) -> None:
    """Also while the first one is running, and after it has ended."""
    async with running(open_cache()) as first, running(open_cache()) as second:
        await keep(first, span(0, 4))
        assert bytes(await second.load(span(0, 4), None) or b"") == data_of(span(0, 4))
    async with running(open_cache()) as third:
        assert bytes(await third.load(span(0, 4), None) or b"") == data_of(span(0, 4))


@pytest.mark.logs_warnings
@pytest.mark.parametrize("checksummed", [True, False])
@on_trio
async def test_a_damaged_block_is_a_miss_and_forgotten(open_cache: Open, tmp_path: Path, checksummed: bool) -> None:
    """Invariant 4: a cache is never trusted."""
    blocks = span(0, 4)
    expected = checksums_of(blocks) if checksummed else None
    async with running(open_cache()) as cache:
        await keep(cache, blocks)
        (segment,) = (path for path in (tmp_path / "cache").rglob("*.0"))
        with segment.open("r+b") as file:
            file.seek(4096 + 2 * BLOCK + 11)
            file.write(b"!")
        assert await cache.load(blocks, expected) is None
        assert cache.present(blocks) == 2
        assert cache.statistics().mismatches == 1
        await keep(cache, span(2, 3))
        assert bytes(await cache.load(blocks, expected) or b"") == data_of(blocks)


@on_trio
async def test_a_segment_that_vanishes_is_written_anew(open_cache: Open, tmp_path: Path) -> None:
    """Another process' evictor may remove any file at any time."""
    async with running(open_cache()) as cache:
        await keep(cache, span(0, 4))
        for segment in (tmp_path / "cache").rglob("*.0"):
            os.unlink(segment)
        await keep(cache, span(4, 6))
    async with running(open_cache()) as again:
        assert again.present(span(0, 4)) == 0
        assert bytes(await again.load(span(4, 6), None) or b"") == data_of(span(4, 6))


@on_trio
async def test_it_says_how_much_room_there_is(open_cache: Open) -> None:
    async with running(open_cache()) as cache:
        await cache.wait_until_measured()  # type: ignore[attr-defined]
        before = cache.room_bytes()
        await keep(cache, span(0, 64))
        assert before - cache.room_bytes() == pytest.approx(64 * BLOCK, rel=0.01)
        statistics = cache.statistics()
        assert statistics.active
        assert statistics.written_bytes == 64 * BLOCK
