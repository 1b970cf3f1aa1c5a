"""Committing, leasing and fetching on every store there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_keys import collections_prefix, leases_prefix, manifest_key
from gridfs.catalog_lease import live_leases, take_lease
from gridfs.errors import NotFound
from gridfs.model import Mode, Version, VersionSpec
from gridfs.store.simulated import SimulatedStore
from tests.contract.conftest import MakeStore
from tests.support.manifests import Node, write_tree
from tests.support.on_trio import on_trio


async def prepared(catalog: Catalog, scratch: Path, number: int) -> Version:
    """A version that only wants its commit."""
    sqlite_file = scratch / f"manifest-{number}"
    info = write_tree(sqlite_file, [Node(b"dir/file %d" % number)])
    packed = await catalog.store_manifest("set", sqlite_file)
    key = manifest_key("set", packed.sha256)
    return Version("set", 0, "", "/x", Mode.COPY, info.file_count, info.directory_count, 0, 0, key, packed.sha256,
                   packed.size_bytes)  # fmt: skip


@on_trio
async def test_committers_at_once_get_a_version_each(make_store: MakeStore, tmp_path: Path) -> None:
    """Invariant 2, with a store object for each, as separate processes have."""
    stores = [make_store() for _ in range(4)]
    if isinstance(stores[0], SimulatedStore):
        stores = stores[:1] * 4  # in memory: there is one
    drafts = [await prepared(Catalog(stores[0]), tmp_path, number) for number in range(4)]
    made: list[Version] = []

    async def commit(number: int) -> None:
        made.append(await Catalog(stores[number]).commit(drafts[number]))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(commit, number)
    assert sorted(version.version for version in made) == [1, 2, 3, 4]
    assert await Catalog(stores[0]).versions("set") == sorted(made, key=lambda version: version.version)
    for store in stores:
        await store.aclose()


@on_trio
async def test_the_life_of_a_version(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    catalog = Catalog(store)
    assert await catalog.names() == []
    with pytest.raises(NotFound):
        await catalog.resolve(VersionSpec("set"))
    version = await catalog.commit(await prepared(catalog, tmp_path, 1))
    assert await catalog.names() == ["set"]
    assert await catalog.resolve(VersionSpec("set")) == version
    path = await catalog.fetch_manifest(version, tmp_path / "cache")
    assert path.read_bytes() == (tmp_path / "manifest-1").read_bytes()
    tombstone = await catalog.delete(version)
    assert tombstone == replace(version, deleted_at=tombstone.deleted_at)
    assert await catalog.versions("set") == [tombstone]
    assert (await catalog.commit(await prepared(catalog, tmp_path, 2))).version == 2
    await store.aclose()


@on_trio
async def test_a_lease_is_seen_by_others_and_given_back(make_store: MakeStore) -> None:
    store = make_store()
    lease = await take_lease(store, "set", versions=[1, 2])
    [head] = [head async for head in store.list(leases_prefix("set"))]
    [(_, record)] = await live_leases(store, "set", head.last_modified_ns)
    assert (record.versions, record.since_ns) == ((1, 2), lease.since_ns)
    assert 0 <= head.last_modified_ns - lease.since_ns < 60e9
    await lease.confirm()
    await lease.release()
    await lease.release()
    assert await live_leases(store, "set", head.last_modified_ns) == []
    assert [head async for head in store.list(collections_prefix("set"))] == []
    await store.aclose()
