"""Versions: who gets which number, what a lost answer does, what a name that is not there says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifest_key, version_key
from gridfs.catalog_record import format_record
from gridfs.errors import (
    FormatError,
    GridfsError,
    NotFound,
    ObjectMissing,
    StoreUnavailable,
)
from gridfs.manifest.reader import Manifest
from gridfs.model import Buffer, Mode, Version, VersionSpec
from gridfs.store.simulated import Fault, Network, SimulatedStore
from tests.support.manifests import Node, write_tree
from tests.support.on_trio import on_mock_clock, on_trio

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def draft(name: str = "set", sha256: str = "ab" * 32) -> Version:
    return Version(name, 0, "", "/data/set", Mode.COPY, 3, 1, 0, 300, manifest_key(name, sha256), sha256, 4096)


def catalog_of(store: SimulatedStore) -> Catalog:
    return Catalog(store, now=lambda: NOW)


@on_trio
async def test_numbers_follow_each_other() -> None:
    catalog = catalog_of(SimulatedStore())
    first = await catalog.commit(draft())
    assert first == replace(draft(), version=1, created_at="2026-03-04T05:06:07.890123Z")
    second = await catalog.commit(draft(sha256="cd" * 32))
    assert second.version == 2
    assert (await catalog.commit(draft("other"))).version == 1
    assert await catalog.names() == ["other", "set"]
    assert await catalog.versions("set") == [first, second]
    assert await catalog.resolve(VersionSpec("set")) == second
    assert await catalog.resolve(VersionSpec("set", 1)) == first
    assert await catalog.latest("set") == second


@on_mock_clock
async def test_two_committers_get_two_versions() -> None:
    """Invariant 2."""
    catalog = catalog_of(SimulatedStore(Network(latency_s=0.05)))
    made: list[Version] = []

    async def commit(number: int) -> None:
        made.append(await catalog.commit(draft(sha256=f"{number:064x}")))

    async with trio.open_nursery() as nursery:
        for number in range(7):
            nursery.start_soon(commit, number)
    assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(made, key=lambda version: version.version) == await catalog.versions("set")


@on_trio
async def test_a_number_is_never_used_again() -> None:
    """Invariant 2."""
    catalog = catalog_of(SimulatedStore())
    await catalog.commit(draft())
    second = await catalog.commit(draft())
    tombstone = await catalog.delete(second)
    assert tombstone == replace(second, deleted_at="2026-03-04T05:06:07Z")
    assert await catalog.delete(second) == tombstone
    assert (await catalog.commit(draft())).version == 3
    assert [version.deleted_at is None for version in await catalog.versions("set")] == [True, False, True]


@on_trio
async def test_a_number_below_the_highest_is_not_used_though_it_is_free() -> None:
    """Invariant 2: a store may have lost a record."""
    store = SimulatedStore()
    catalog = catalog_of(store)
    for _ in range(3):
        await catalog.commit(draft())
    await store.delete(version_key("set", 2))
    assert (await catalog.commit(draft())).version == 4


@on_trio
async def test_what_a_record_names_is_synced_before_it_and_the_record_after() -> None:
    """Invariant 1."""

    class Recording(SimulatedStore):
        async def sync(self) -> None:
            done.append("sync")

        async def put_if_absent(self, key: str, data: Buffer) -> None:
            await super().put_if_absent(key, data)
            done.append("record")

        async def put(self, key: str, data: Buffer) -> None:
            await super().put(key, data)
            done.append("tombstone")

    done: list[str] = []
    catalog = catalog_of(Recording())
    version = await catalog.commit(draft())
    assert done == ["sync", "record", "sync"]
    done.clear()
    await catalog.delete(version)
    assert done == ["tombstone", "sync"]


@on_trio
async def test_a_lost_answer_makes_one_version() -> None:
    store = SimulatedStore()
    catalog = catalog_of(store)
    store.inject(Fault.LOST_ANSWER, key=version_key("set", 1))
    assert (await catalog.commit(draft())).version == 1
    assert await catalog.numbers("set") == [1]


@on_trio
async def test_an_answer_that_was_lost_and_asked_again_makes_one_version() -> None:
    """The store's retry sends the put again and finds the key taken: by ourselves."""
    store = SimulatedStore()
    catalog = catalog_of(store)
    mine = replace(draft(), version=1, created_at="2026-03-04T05:06:07.890123Z")

    class Retrying(SimulatedStore):
        async def put_if_absent(self, key, data):
            self.place(key, data)
            await super().put_if_absent(key, data)

    assert await catalog_of(Retrying()).commit(draft()) == mine
    assert catalog.store is store


@on_trio
async def test_a_commit_that_fails_makes_none() -> None:
    store = SimulatedStore()
    store.inject(Fault.UNAVAILABLE, key=version_key("set", 1))
    with pytest.raises(StoreUnavailable):
        await catalog_of(store).commit(draft())
    assert store.contents() == {}


@on_trio
async def test_unknown_names_say_near_ones() -> None:
    catalog = catalog_of(SimulatedStore())
    with pytest.raises(NotFound, match=r"no datastore imagenet .*`grid datastore`"):
        await catalog.resolve(VersionSpec("imagenet"))
    await catalog.commit(draft("imagenet"))
    with pytest.raises(NotFound, match=r"no datastore imagnet .*is it imagenet\?"):
        await catalog.resolve(VersionSpec("imagnet"))
    with pytest.raises(NotFound, match="is it imagenet"):
        await catalog.resolve(VersionSpec("imagnet", 3))


@on_trio
async def test_unknown_versions_say_which_there_are() -> None:
    catalog = catalog_of(SimulatedStore())
    for _ in range(3):
        await catalog.commit(draft())
    await catalog.delete(await catalog.resolve(VersionSpec("set", 2)))
    with pytest.raises(NotFound, match="no version 9 of set; those that exist: 1, 3"):
        await catalog.resolve(VersionSpec("set", 9))
    with pytest.raises(NotFound, match=r"no version 2 of set: it was deleted at 2026-03-04T05:06:07Z; .*: 1, 3"):
        await catalog.resolve(VersionSpec("set", 2))
    await catalog.delete(await catalog.resolve(VersionSpec("set", 3)))
    assert (await catalog.resolve(VersionSpec("set"))).version == 1
    await catalog.delete(await catalog.resolve(VersionSpec("set", 1)))
    with pytest.raises(NotFound, match="no datastore set"):
        await catalog.resolve(VersionSpec("set"))


@on_trio
async def test_unreadable_records_hide_no_others() -> None:
    store = SimulatedStore()
    catalog = catalog_of(store)
    made = [await catalog.commit(draft()) for _ in range(4)]
    store.place(version_key("set", 2), b"{")
    store.place(version_key("set", 4), b'{"format": 2, "readable_since": "3.1.0"}')
    readable, unreadable = await catalog.readable_versions("set")
    assert readable == [made[0], made[2]]
    assert list(unreadable) == [2, 4]
    with pytest.raises(NotFound, match="no version 9 of set; those that exist: 1, 2, 3, 4"):
        await catalog.resolve(VersionSpec("set", 9))
    with pytest.raises(FormatError, match=r"00000004.*gridfs 3\.1\.0"):  # no older version in its place
        await catalog.resolve(VersionSpec("set"))
    with pytest.raises(FormatError, match="00000002"):  # the data of each must be known to be kept
        await catalog.versions("set")
    await catalog.delete(made[0])
    await catalog.delete(made[2])
    with pytest.raises(NotFound, match=r"no version 1 of set: it was deleted.*those that exist: 2, 4"):
        await catalog.resolve(VersionSpec("set", 1))


@on_trio
async def test_a_record_in_another_s_place_is_refused() -> None:
    store = SimulatedStore()
    catalog = catalog_of(store)
    store.place(version_key("set", 1), format_record(replace(draft("other"), version=1, created_at="2026Z")))
    with pytest.raises(FormatError, match="other@1"):
        await catalog.resolve(VersionSpec("set", 1))
    store.place(version_key("set", 1), format_record(replace(draft(), version=1, manifest_key="objects/x")))
    with pytest.raises(FormatError, match="objects/x"):
        await catalog.versions("set")


async def committed(store: SimulatedStore, tmp_path: Path, files: int = 3) -> Version:
    """A version whose manifest is in the store."""
    sqlite_file = tmp_path / f"made-{files}"
    write_tree(sqlite_file, [Node(b"file %d" % number) for number in range(files)])
    catalog = catalog_of(store)
    packed = await catalog.store_manifest("set", sqlite_file)
    key = manifest_key("set", packed.sha256)
    return await catalog.commit(
        replace(draft(), manifest_key=key, manifest_sha256=packed.sha256, manifest_bytes=packed.size_bytes)
    )


@on_trio
async def test_a_manifest_is_fetched_once(tmp_path: Path) -> None:
    store = SimulatedStore()
    version = await committed(store, tmp_path)
    catalog = catalog_of(store)
    path = await catalog.fetch_manifest(version, tmp_path / "cache")
    assert path == tmp_path / "cache" / "manifests" / f"{version.manifest_sha256}.sqlite"
    assert path.read_bytes() == (tmp_path / "made-3").read_bytes()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with Manifest.open(path) as manifest:
        assert manifest.info.file_count == 3
    before = len(store.requests)
    assert await catalog.fetch_manifest(version, tmp_path / "cache") == path
    assert len(store.requests) == before


@on_trio
async def test_a_damaged_copy_on_the_node_is_a_miss(tmp_path: Path) -> None:
    """Invariant 4: a cache is never trusted."""
    store = SimulatedStore()
    version = await committed(store, tmp_path)
    catalog = catalog_of(store)
    path = await catalog.fetch_manifest(version, tmp_path / "cache")
    whole = path.read_bytes()
    for damaged in (whole[:-4096], whole[:5000] + b"x" + whole[5001:], b""):
        path.write_bytes(damaged)
        assert await catalog.fetch_manifest(version, tmp_path / "cache") == path
        assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@on_trio
async def test_a_manifest_that_differs_from_its_record_is_refused(tmp_path: Path) -> None:
    store = SimulatedStore()
    version = await committed(store, tmp_path)
    other = await committed(store, tmp_path, files=4)
    store.place(version.manifest_key, store.contents()[other.manifest_key])
    with pytest.raises(FormatError, match=r"set@1 .* refused"):
        await catalog_of(store).fetch_manifest(version, tmp_path / "cache")
    assert list((tmp_path / "cache" / "manifests").iterdir()) == []


@on_trio
async def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    store = SimulatedStore()
    version = await committed(store, tmp_path)
    store.remove(version.manifest_key)
    with pytest.raises(ObjectMissing, match="manifest of set@1"):
        await catalog_of(store).fetch_manifest(version, tmp_path / "cache")


@on_trio
async def test_a_cache_that_can_t_be_written_says_what_to_do(tmp_path: Path) -> None:
    store = SimulatedStore()
    version = await committed(store, tmp_path)
    (tmp_path / "cache").write_bytes(b"a file in its place")
    with pytest.raises(GridfsError, match="--cache-dir"):
        await catalog_of(store).fetch_manifest(version, tmp_path / "cache")


@on_trio
async def test_manifests_that_nobody_opens_go(tmp_path: Path) -> None:
    import os

    store = SimulatedStore()
    catalog = catalog_of(store)
    first = await catalog.fetch_manifest(await committed(store, tmp_path), tmp_path / "cache")
    os.utime(first, (0, 0))
    second = await catalog.fetch_manifest(await committed(store, tmp_path, files=4), tmp_path / "cache")
    assert list(first.parent.iterdir()) == [second]
