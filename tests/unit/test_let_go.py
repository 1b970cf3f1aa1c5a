"""What was read in order and is on disk leaves memory, also where gaps between files are as wide as packs have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from gridfs.cache.tiered import open_cache
from gridfs.config import KIB, MIB, CacheSettings
from gridfs.create.pack import ALIGN_FRACTION
from gridfs.model import ByteRange
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import SimulatedStore
from tests.support.layout import ListLayout
from tests.support.on_trio import on_trio

BLOCK = 128 * KIB
PACK = 32 * MIB
WIDEST_GAP = BLOCK - BLOCK * ALIGN_FRACTION // (ALIGN_FRACTION + 1)


@on_trio
async def test_only_what_surely_is_read_on_is_told(tmp_path: Path) -> None:
    layout, store = ListLayout([PACK], block_size_bytes=BLOCK), SimulatedStore()
    (pack,) = layout.objects
    store.place(pack.key, layout.data[pack.key])
    reader = Reader(layout, store, lambda obj: obj.key, open_cache(CacheSettings(tmp_path)), ReaderSettings(256 * MIB))
    told: list[int] = []
    reader.on_window = lambda obj, part: told.append(part.start)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        for start in range(8 * MIB, 8 * MIB + 3 * BLOCK, BLOCK):
            await reader.read(pack, ByteRange(start, start + BLOCK))
        while not reader.statistics().gets["window"]:
            await trio.sleep(0.001)
        assert told == []
        for start in range(8 * MIB + 3 * BLOCK, 16 * MIB, BLOCK):
            await reader.read(pack, ByteRange(start, start + BLOCK))
        assert told
        assert min(told) > 8 * MIB + 3 * BLOCK
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("gap_bytes", [0, 18 * KIB, WIDEST_GAP])
@on_trio
async def test_an_epoch_in_order_does_not_gather_in_memory(tmp_path: Path, gap_bytes: int) -> None:
    layout, store = ListLayout([PACK], block_size_bytes=BLOCK), SimulatedStore()
    (pack,) = layout.objects
    store.place(pack.key, layout.data[pack.key])
    cache = open_cache(CacheSettings(tmp_path))
    reader = Reader(layout, store, lambda obj: obj.key, cache, ReaderSettings(256 * MIB))
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        for start in range(0, PACK, BLOCK):
            file = ByteRange(start, start + BLOCK - gap_bytes)
            if reader.read_nowait(pack, file) is None:
                await reader.read(pack, file)
            if not start % MIB:
                await cache.drain()
        assert reader.statistics().disk.written_bytes == PACK
        assert reader.statistics().memory_used_bytes < PACK // 2
        nursery.cancel_scope.cancel()
