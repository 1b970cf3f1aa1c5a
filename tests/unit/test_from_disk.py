"""gridfs.read over a disk cache that has all of a version already: an epoch at random asks no store, and the disk for
each byte about once.
"""

from __future__ import annotations

from pathlib import Path

import trio

from gridfs.cache.tiered import open_cache
from gridfs.config import MIB, CacheSettings
from gridfs.model import ByteRange, ObjectRecord
from gridfs.read.reader import Reader, ReaderSettings
from tests.support.on_trio import on_trio
from tests.support.reading import BLOCK, reading

PACK = 64 * MIB
SHUFFLED = [block * 37 % (PACK // BLOCK) for block in range(PACK // BLOCK)]
UNTIL_DENSE = 8 * MIB // BLOCK


async def fill_cache(directory: Path) -> None:
    async with reading([PACK], open_cache(CacheSettings(directory)), ReaderSettings(256 * MIB)) as (_, _, reader):
        assert (await reader.warm()).complete


async def read_block(reader: Reader, pack: ObjectRecord, block: int) -> bytes:
    wanted = ByteRange(block * BLOCK, (block + 1) * BLOCK)
    found = reader.read_nowait(pack, wanted)
    return bytes(await reader.read(pack, wanted) if found is None else found)


@on_trio
async def test_a_pack_that_is_read_at_random_is_loaded_behind_its_readers(tmp_path: Path) -> None:
    await fill_cache(tmp_path)
    cache = open_cache(CacheSettings(tmp_path))
    async with reading([PACK], cache, ReaderSettings(256 * MIB)) as (layout, store, reader):
        pack, told = layout.object(1), dict[ByteRange, bool]()
        reader.on_ahead = lambda obj, part, of_stream: told.update({part: of_stream})
        for block in SHUFFLED[:UNTIL_DENSE]:
            await read_block(reader, pack, block)
        while (now := reader.statistics()).memory_used_bytes < PACK or now.memory_in_flight_bytes:
            await trio.sleep(0.001)
        for block in SHUFFLED[UNTIL_DENSE:]:
            found = reader.read_nowait(pack, ByteRange(block * BLOCK, (block + 1) * BLOCK))
            assert found == layout.data[pack.key][block * BLOCK : (block + 1) * BLOCK]
        assert not store.requests
        assert reader.statistics().disk.read_bytes <= PACK + UNTIL_DENSE * BLOCK
        assert set(told.values()) == {False}
        assert sum(part.size_bytes for part in told) >= PACK - UNTIL_DENSE * BLOCK


@on_trio
async def test_what_memory_can_t_hold_is_not_loaded_for_readers_elsewhere(tmp_path: Path) -> None:
    await fill_cache(tmp_path)
    cache = open_cache(CacheSettings(tmp_path))
    async with reading([PACK], cache, ReaderSettings(32 * MIB)) as (layout, store, reader):
        pack = layout.object(1)
        for block in SHUFFLED:
            assert await read_block(reader, pack, block) == layout.data[pack.key][block * BLOCK : (block + 1) * BLOCK]
        assert not store.requests
        assert reader.statistics().disk.read_bytes <= 1.5 * PACK
