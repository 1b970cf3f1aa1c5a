"""A store on the disk of the cache is read where it lies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gridfs.cache import in_place
from gridfs.cache.base import Span
from gridfs.cache.disk import DiskCache
from gridfs.cache.in_place import ObjectFiles, is_read_in_place
from gridfs.cache.tiered import TieredCache, open_cache
from gridfs.config import MIB, CacheSettings
from gridfs.errors import IntegrityError, ObjectMissing
from gridfs.model import ByteRange
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.directory import DirectoryStore
from tests.support.layout import ListLayout
from tests.support.on_trio import on_trio
from tests.support.reading import BLOCK

SIZES = [9 * MIB + 5, 3 * BLOCK, 1]


@asynccontextmanager
async def reading(
    tmp_path: Path, prefetch: str = "auto"
) -> AsyncIterator[tuple[ListLayout, Path, TieredCache, Reader]]:
    """A reader of a store in a directory, beside its cache."""
    layout, store = ListLayout(SIZES, block_size_bytes=BLOCK), tmp_path / "store"
    store.mkdir()
    (tmp_path / "cache").mkdir()
    for key, data in layout.data.items():
        (store / key).write_bytes(data)
    cache = open_cache(CacheSettings(tmp_path / "cache"), store, lambda identity: f"{store}/{identity}")
    settings = ReaderSettings(64 * MIB, prefetch=prefetch)
    reader = Reader(layout, DirectoryStore(store), lambda obj: obj.key, cache, settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield layout, store, cache, reader
        nursery.cancel_scope.cancel()


@on_trio
async def test_everything_comes_from_the_objects_and_nothing_is_written(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, store, _, reader):
        for obj in layout.objects:
            for start in range(0, obj.size_bytes, MIB):
                wanted = ByteRange(start, min(start + MIB, obj.size_bytes))
                found = reader.read_nowait(obj, wanted) or await reader.read(obj, wanted)
                assert bytes(found) == layout.data[obj.key][wanted.start : wanted.stop]
        statistics = reader.statistics()
    assert sum(statistics.gets.values()) == 0
    assert statistics.disk.is_store
    assert statistics.disk.directory == os.fspath(store)
    assert statistics.disk.read_bytes == sum(SIZES)
    assert os.listdir(tmp_path / "cache") == []


@on_trio
async def test_what_was_read_leaves_memory(tmp_path: Path) -> None:
    async with reading(tmp_path, prefetch="none") as (layout, _, cache, reader):
        for start in range(0, 8 * MIB, MIB):
            await reader.read(layout.objects[0], ByteRange(start, start + MIB))
        assert cache.memory.parts()
        cache.release_spent()
        assert not cache.memory.parts()


@pytest.mark.logs_warnings
@on_trio
async def test_a_damaged_object_is_told_by_the_store(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, store, cache, reader):
        obj = layout.objects[1]
        with (store / obj.key).open("r+b") as file:
            file.seek(BLOCK)
            file.write(b"wrong")
        good = await reader.read(obj, ByteRange(2 * BLOCK, 3 * BLOCK))
        assert bytes(good) == layout.data[obj.key][2 * BLOCK :]
        with pytest.raises(IntegrityError, match="not as stored"):
            await reader.read(obj, ByteRange(0, 2 * BLOCK))
        assert cache.statistics().mismatches


@on_trio
async def test_an_object_that_is_gone_is_told_by_the_store(tmp_path: Path) -> None:
    async with reading(tmp_path) as (layout, store, _, reader):
        obj = layout.objects[1]
        (store / obj.key).unlink()
        with pytest.raises(ObjectMissing):
            await reader.read(obj, ByteRange(0, BLOCK))


@on_trio
async def test_a_short_object_is_a_miss(tmp_path: Path) -> None:
    layout = ListLayout([3 * BLOCK], block_size_bytes=BLOCK)
    obj = layout.objects[0]
    (tmp_path / obj.identity).write_bytes(layout.data[obj.key][: 2 * BLOCK])
    files = ObjectFiles(tmp_path, lambda identity: f"{tmp_path}/{identity}")
    for stop, there in (2, True), (3, False):
        span, checksums = Span(obj.identity, obj.size_bytes, BLOCK, 0, stop), layout.checksums(1, 0, stop)
        found = await files.load(span, checksums)
        assert (found is not None) is there
        assert (files.load_nowait(span, checksums) is not None) <= there  # the kernel may not have it in memory


@on_trio
async def test_a_version_is_warm_as_it_is(tmp_path: Path) -> None:
    async with reading(tmp_path) as (_, _, _, reader):
        warmth = await reader.warm()
        assert warmth.complete
        assert reader.statistics().disk.read_bytes == 0


def test_where_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cached, off = tmp_path / "store", CacheSettings(tmp_path / "cache"), CacheSettings(tmp_path / "cache", 0)
    assert not is_read_in_place(store, cached)  # whoever opens it finds that there is none
    for place in store, cached.directory:
        place.mkdir()
    assert is_read_in_place(store, cached)
    assert is_read_in_place(store, off)
    monkeypatch.setattr(in_place, "file_system_of", lambda _: "nfs4")
    assert not is_read_in_place(store, cached)
    assert not is_read_in_place(store, off)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_a_store_on_another_disk_is_cached(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    assert os.stat(other).st_dev != os.stat(tmp_path).st_dev
    assert not is_read_in_place(other, CacheSettings(tmp_path))
    assert is_read_in_place(other, CacheSettings(tmp_path, 0))
    assert isinstance(open_cache(CacheSettings(tmp_path), other, str).disk, DiskCache)
