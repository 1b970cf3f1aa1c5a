"""What `verify` finds: each kind of damage by the names of the files that it harms, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_contents import Contents, open_contents
from gridfs.catalog_keys import objects_prefix
from gridfs.config import StoreSettings
from gridfs.errors import StoreUnavailable
from gridfs.life.verify import Finding, verify
from gridfs.manifest.reader import Manifest
from gridfs.model import ByteRange, Entry
from gridfs.store.simulated import Fault, SimulatedStore
from gridfs.store.wrap import WrappedStore
from tests.support.data import ramp
from tests.support.made_versions import Link, make_version
from tests.support.on_trio import on_trio

TREE = {
    b"a": ramp(3000),
    b"dir/b": ramp(5000, 1),
    b"dir/c": ramp(50, 2),
    b"large": ramp(20_000_000, 3),
    b"link": Link(b"a"),
    b"none": None,
    b"zero": b"",
}
FILES_WITH_BYTES = 4


@asynccontextmanager
async def opened(store: SimulatedStore, scratch: Path) -> AsyncIterator[Contents]:
    catalog = Catalog(store)
    version = await make_version(catalog, scratch, TREE)
    async with open_contents(catalog, version, scratch / "cache", StoreSettings("simulated://")) as contents:
        yield contents


def objects(store: SimulatedStore) -> list[str]:
    """Keys of the objects: of the pack of three, and of the large file."""
    return sorted(
        (key for key in store.contents() if key.startswith(objects_prefix("set"))),
        key=lambda key: len(store.contents()[key]),
    )


def damage(store: SimulatedStore, key: str, at: int) -> None:
    data = bytearray(store.contents()[key])
    data[at] ^= 0xFF
    store.place(key, data)


@on_trio
async def test_a_sound_version(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        result = await verify(contents)
    assert result.is_sound
    assert result.whole_files == FILES_WITH_BYTES
    assert result.read_bytes == sum(len(store.contents()[key]) for key in objects(store))


@pytest.mark.parametrize(
    ("which", "at", "harmed"),
    [
        (0, 0, [b"a", b"dir/b"]),  # of the first block, which both share
        (0, 4096, [b"dir/b"]),
        (0, 8349, [b"dir/c"]),  # in the last block, of which only the file before the gap is read
        (1, 19_999_999, [b"large"]),
        (1, 0, [b"large"]),
        (1, 9_000_000, [b"large"]),
    ],
)
@on_trio
async def test_a_flipped_bit_is_found_by_the_files_of_its_block(
    tmp_path: Path, which: int, at: int, harmed: list[bytes]
) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        damage(store, objects(store)[which], at)
        result = await verify(contents)
    assert result.findings == [Finding(path, "differs from what was stored") for path in harmed]


@on_trio
async def test_a_block_that_is_bad_only_once_is_not_wrong(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        store.inject(Fault.CORRUPT, key=objects(store)[0])
        result = await verify(contents)
    assert result.is_sound


@on_trio
async def test_an_object_that_is_gone_is_told_by_its_files(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        store.remove(objects(store)[0])
        result = await verify(contents)
    assert result.findings == [Finding(path, "gone from the store") for path in (b"a", b"dir/b", b"dir/c")]
    assert result.whole_files == 1


@pytest.mark.parametrize("size_bytes", [0, 100, 8349])
@on_trio
async def test_an_object_that_was_cut_short_is_told_by_its_files(tmp_path: Path, size_bytes: int) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        key = objects(store)[0]
        whole = len(store.contents()[key])
        store.place(key, store.contents()[key][:size_bytes])
        result = await verify(contents)
    problem = f"the object that holds it has {size_bytes} bytes instead of {whole}"
    assert result.findings == [Finding(path, problem) for path in (b"a", b"dir/b", b"dir/c")]
    assert result.whole_files == 1


@on_trio
async def test_counts_are_compared_with_the_record(tmp_path: Path) -> None:
    async with opened(SimulatedStore(), tmp_path) as contents:
        result = await verify(replace(contents, version=replace(contents.version, file_count=9)))
    assert result.findings == [Finding(b"", "file_count is 5 in the manifest and 9 in the commit record")]


@on_trio
async def test_a_store_that_fails_is_no_finding(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        store.inject(Fault.UNAVAILABLE, key=objects(store)[1])
        with pytest.raises(StoreUnavailable):
            await verify(contents)


class Backwards(WrappedStore):
    """Parts of the large file come when all of them were asked for, the last one first."""

    PARTS = 3

    def __init__(self, inner: SimulatedStore, large: str) -> None:
        super().__init__(inner)
        self.large = large
        self.came: list[int] = []
        self._asked: dict[int, trio.Event] = {}

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        if key == self.large:
            self._asked[byte_range.start] = trio.Event()
            if len(self._asked) == self.PARTS:
                self._asked[max(self._asked)].set()
            await self._asked[byte_range.start].wait()
            self.came.append(byte_range.start)
            before = [start for start in self._asked if start < byte_range.start]
            if before:
                self._asked[max(before)].set()
        return await super().get_range(key, byte_range, if_match=if_match)


@on_trio
async def test_parts_of_one_object_are_read_together_and_hashed_in_order(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        backwards = Backwards(store, objects(store)[1])
        found = await verify(replace(contents, objects=backwards))
    assert backwards.came == [16 << 20, 8 << 20, 0]
    assert found.is_sound
    assert found.whole_files == FILES_WITH_BYTES


@on_trio
async def test_a_file_whose_blocks_are_right_and_whose_hash_is_another_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries_of_object = Manifest.entries_of_object

    def hashed_otherwise(manifest: Manifest, number: int) -> Iterator[Entry]:
        for entry in entries_of_object(manifest, number):
            yield entry._replace(sha256=bytes(32)) if entry.name in (b"b", b"large") else entry

    async with opened(SimulatedStore(), tmp_path) as contents:
        monkeypatch.setattr(Manifest, "entries_of_object", hashed_otherwise)
        result = await verify(contents)
    assert result.findings == [Finding(path, "differs from what was stored") for path in (b"dir/b", b"large")]


@pytest.mark.parametrize("seed", range(6))
@on_trio
async def test_a_sample_reads_some_and_at_least_one_part(tmp_path: Path, seed: int) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        everything = await verify(contents)
        half = await verify(contents, sample=0.5, random=Random(seed))
        least = await verify(contents, sample=0.0, random=Random(seed))
        for key in objects(store):
            damage(store, key, 0)
        damaged = await verify(contents, sample=0.5, random=Random(seed))
    assert half.is_sound
    assert least.is_sound
    assert 0 < least.read_bytes <= 8 << 20
    assert 0 < half.read_bytes <= everything.read_bytes
    assert {finding.path for finding in damaged.findings} <= {b"a", b"dir/b", b"large"}
