"""What was read in order and is on disk leaves memory, also where gaps between files are as wide as packs have them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gridfs.cache import handles, tiered, write_queue
from gridfs.cache.tiered import TieredCache, open_cache
from gridfs.config import KIB, MIB, CacheSettings
from gridfs.create.pack import ALIGN_FRACTION
from gridfs.model import ByteRange, ObjectRecord
from gridfs.read.reader import Reader, ReaderSettings
from tests.support.on_trio import on_trio
from tests.support.reading import BLOCK, reading

PACK = 32 * MIB
WIDEST_GAP = BLOCK - BLOCK * ALIGN_FRACTION // (ALIGN_FRACTION + 1)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Reader, TieredCache, ObjectRecord]]:
    """A reader of one pack, what it caches in *directory*, and the pack."""
    cache = open_cache(CacheSettings(directory))
    async with reading([PACK], cache, ReaderSettings(256 * MIB)) as (layout, _, reader):
        yield reader, cache, layout.objects[0]


async def read_file(reader: Reader, pack: ObjectRecord, start: int, size_bytes: int) -> None:
    """Reads a file that begins at *start* of the pack, as the file system does."""
    file = ByteRange(start, start + size_bytes)
    if reader.read_nowait(pack, file) is None:
        await reader.read(pack, file)


@on_trio
async def test_only_what_surely_is_read_on_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (reader, _, pack):
        told: list[int] = []
        reader.on_ahead = lambda obj, part, of_stream: told.append(part.start)
        for start in range(8 * MIB, 8 * MIB + 3 * BLOCK, BLOCK):
            await reader.read(pack, ByteRange(start, start + BLOCK))
        while not reader.statistics().gets["window"]:
            await trio.sleep(0.001)
        assert told == []
        for start in range(8 * MIB + 3 * BLOCK, 16 * MIB, BLOCK):
            await reader.read(pack, ByteRange(start, start + BLOCK))
        assert told
        assert min(told) > 8 * MIB + 3 * BLOCK


@pytest.mark.parametrize("gap_bytes", [0, 18 * KIB, WIDEST_GAP])
@on_trio
async def test_an_epoch_in_order_does_not_gather_in_memory(tmp_path: Path, gap_bytes: int) -> None:
    async with running(tmp_path) as (reader, cache, pack):
        for start in range(0, PACK, BLOCK):
            await read_file(reader, pack, start, BLOCK - gap_bytes)
            if not start % MIB:
                await cache.drain()
        assert reader.statistics().disk.written_bytes == PACK
        cache.release_spent()  # as the next flight would
        assert reader.statistics().memory_used_bytes < PACK // 8


@on_trio
async def test_readers_that_overtake_each_other_do_not_make_it_gather(tmp_path: Path) -> None:
    """The kernel reads the files of an image ahead, so the last read of a part is rarely that of its last file."""
    file_bytes = BLOCK - 18 * KIB
    async with running(tmp_path) as (reader, cache, pack):
        reader.file_bytes_in = lambda number, part: part.size_bytes // BLOCK * file_bytes
        for mib in range(0, PACK, MIB):
            for start in [mib, *reversed(range(mib + BLOCK, mib + MIB, BLOCK))]:
                await read_file(reader, pack, start, file_bytes)
            await cache.drain()
        assert reader.statistics().disk.written_bytes == PACK
        cache.release_spent()  # as the next flight would
        assert reader.statistics().memory_used_bytes < PACK // 8


@pytest.mark.parametrize("share", [1, 1 / 2])
@on_trio
async def test_a_slow_disk_makes_only_what_is_unread_gather(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Of what was read out only so much waits for a disk that does not come on; what will be read is kept anyway."""
    monkeypatch.setattr(write_queue, "WRITE_AFTER_S", 3600)
    monkeypatch.setattr(tiered, "LATE_BYTES", 4 * MIB)
    async with running(tmp_path) as (reader, cache, pack):
        for start in range(0, PACK, BLOCK):
            await read_file(reader, pack, start, int(BLOCK * share))
        cache.release_spent()
        found = reader.statistics()
        assert found.disk.queued_bytes + found.disk.dropped_bytes == PACK
        if share == 1:
            assert found.disk.queued_bytes <= 4 * MIB
            assert found.memory_used_bytes < PACK // 4
        else:
            assert found.disk.dropped_bytes == 0


@on_trio
async def test_objects_whose_segments_are_closed_leave_memory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small objects of a bucket have a segment each, of which few are open: a fill brings them, readers come later."""
    monkeypatch.setattr(handles, "OPEN_SEGMENTS", 4)
    cache = open_cache(CacheSettings(tmp_path))
    async with reading([100 * KIB] * 40, cache, ReaderSettings(256 * MIB, prefetch="none")) as (layout, _, reader):
        *objects, last = layout.objects
        for obj in objects:
            await reader.read(obj, ByteRange(0, 4 * KIB))
        await cache.drain()
        for obj in objects:
            assert reader.read_nowait(obj, ByteRange(0, obj.size_bytes)) == layout.data[obj.key]
        await reader.read(last, ByteRange(0, last.size_bytes))
        assert reader.statistics().memory_used_bytes < 4 * BLOCK
