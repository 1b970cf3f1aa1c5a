"""Lists of objects on the node: read once from the manifest, never believed without their hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.catalog import Catalog
from gridfs.errors import ObjectMissing
from gridfs.life.reachable import object_ids
from gridfs.store.simulated import SimulatedStore
from tests.support.data import ramp
from tests.support.made_versions import make_version
from tests.support.on_trio import on_trio

TREE = {b"%d" % number: ramp(100, number) for number in range(10)}


@on_trio
async def test_a_manifest_is_looked_into_once_and_not_kept(tmp_path: Path) -> None:
    store = SimulatedStore()
    catalog = Catalog(store)
    version = await make_version(catalog, tmp_path, TREE)
    ids = await object_ids(catalog, version, tmp_path / "cache")
    assert {f"datastores/set/objects/{each[:2]}/{each}" for each in ids} == {
        key for key in store.contents() if "/objects/" in key
    }
    assert len(ids) == 4
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["reachable"]
    store.remove(version.manifest_key)
    assert await object_ids(catalog, version, tmp_path / "cache") == ids


@on_trio
async def test_the_node_s_manifest_is_used_if_there_is_one(tmp_path: Path) -> None:
    store = SimulatedStore()
    catalog = Catalog(store)
    version = await make_version(catalog, tmp_path, TREE)
    await catalog.fetch_manifest(version, tmp_path / "cache")
    store.remove(version.manifest_key)
    assert len(await object_ids(catalog, version, tmp_path / "cache")) == 4


@pytest.mark.parametrize("damage", [b"", b"0" * 64 + b"\nx\n", None])
@on_trio
async def test_a_damaged_list_is_no_list(tmp_path: Path, damage: bytes | None) -> None:
    """Invariant 4: a list that lacks an object would have it removed."""
    store = SimulatedStore()
    catalog = Catalog(store)
    version = await make_version(catalog, tmp_path, TREE)
    ids = await object_ids(catalog, version, tmp_path / "cache")
    path = tmp_path / "cache" / "reachable" / version.manifest_sha256
    path.write_bytes(path.read_bytes()[:-33] if damage is None else damage)
    assert await object_ids(catalog, version, tmp_path / "cache") == ids
    path.write_bytes(b"damaged again")
    store.remove(version.manifest_key)
    with pytest.raises(ObjectMissing):
        await object_ids(catalog, version, tmp_path / "cache")
