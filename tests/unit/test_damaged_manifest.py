"""A manifest that can't be read in places: whoever reads elsewhere goes on (background.py, reader.py)."""

from __future__ import annotations

import pytest
import trio

from gridfs.cache.memory import MemoryCache
from gridfs.cache.tiered import TieredCache
from gridfs.config import MIB
from gridfs.errors import FormatError
from gridfs.model import ByteRange, ObjectRecord
from gridfs.read.reader import ReaderSettings
from tests.support.layout import ListLayout
from tests.support.on_trio import on_trio
from tests.support.reading import BLOCK, reading


def unreadable(*_: object) -> ObjectRecord:
    raise FormatError("a page of the manifest can't be read")


@pytest.mark.logs_warnings
@on_trio
async def test_a_window_into_what_can_t_be_looked_up_ends_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading([16 * MIB], TieredCache(MemoryCache()), ReaderSettings(64 * MIB)) as (layout, store, reader):
        first = layout.object(1)
        monkeypatch.setattr(layout, "object_at_block", unreadable)
        for block in range(8):
            data = await reader.read(first, ByteRange(block * BLOCK, (block + 1) * BLOCK))
            assert data == layout.data[first.key][block * BLOCK : (block + 1) * BLOCK]
        await trio.testing.wait_all_tasks_blocked()
        assert len(store.requests) == 8, "nothing came ahead"


@on_trio
async def test_what_is_cached_of_an_unreadable_version_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListLayout, "object", unreadable)
    monkeypatch.setattr(ListLayout, "object_at_block", unreadable)
    async with reading([MIB], TieredCache(MemoryCache()), ReaderSettings(64 * MIB)) as (_, _, reader):
        await trio.testing.wait_all_tasks_blocked()
        assert reader.statistics().reads_waited == 0
