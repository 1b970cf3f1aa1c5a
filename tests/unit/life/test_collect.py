"""Garbage collection where there is no room for what it writes; all else of it is in tests/sim (life/collect.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.catalog import Catalog
from gridfs.errors import StoreFull
from gridfs.life.collect import collect
from gridfs.model import Buffer
from gridfs.store.directory import DirectoryStore
from tests.support.data import ramp
from tests.support.made_versions import make_version
from tests.support.on_trio import on_trio


class Full(DirectoryStore):
    """Takes empty objects only, until data is removed."""

    is_full = False

    async def put(self, key: str, data: Buffer) -> None:
        if self.is_full and memoryview(data).nbytes:
            raise StoreFull(f"the store {self.url} is full")
        await super().put(key, data)

    async def delete(self, key: str) -> None:
        await super().delete(key)
        if "/objects/" in key:
            self.is_full = False


@on_trio
async def test_without_room_for_marks_what_is_due_goes(tmp_path: Path) -> None:
    store = Full(tmp_path / "store")
    catalog, cache = Catalog(store), tmp_path / "cache"
    first = await make_version(catalog, tmp_path, {b"a": ramp(3000)})
    await make_version(catalog, tmp_path, {b"a": ramp(3000, 1)})
    await catalog.delete(first)
    store.is_full = True
    collection = await collect(catalog, "set", cache, grace_s=0)
    assert (collection.kept.count, collection.removed.count) == (2, 2)


@on_trio
async def test_marks_that_can_t_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    store = Full(tmp_path / "store")
    catalog, cache = Catalog(store), tmp_path / "cache"
    await make_version(catalog, tmp_path, {b"a": ramp(3000)})
    await store.put("datastores/set/objects/00/00000000000000000000000000000000", b"of nobody")
    before = {head.key async for head in store.list("")}
    store.is_full = True
    with pytest.raises(StoreFull):
        await collect(catalog, "set", cache)
    assert {head.key async for head in store.list("")} == before
