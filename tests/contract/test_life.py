"""A version's life on every store there is: read back, copied out, deleted, collected."""

from __future__ import annotations

from pathlib import Path

from gridfs.catalog import Catalog
from gridfs.catalog_contents import open_contents
from gridfs.catalog_keys import version_key
from gridfs.config import StoreSettings
from gridfs.life.collect import collect
from gridfs.life.download import download
from gridfs.life.verify import verify
from gridfs.model import ByteRange, Version
from gridfs.store.base import ObjectStore
from tests.contract.conftest import MakeStore
from tests.support.data import ramp
from tests.support.made_versions import make_version
from tests.support.on_trio import on_trio

FIRST = {b"a": ramp(3000), b"dir/b": ramp(100_000, 1), b"large": ramp(17 << 20, 2), b"zero": b""}
SECOND = FIRST | {b"dir/b": ramp(100_000, 3)}


async def keys_in(store: ObjectStore) -> set[str]:
    return {head.key async for head in store.list("datastores/set/")}


async def read_back(catalog: Catalog, version: Version, scratch: Path) -> None:
    """Verifies the version, downloads it, and compares what came with what was stored."""
    settings = StoreSettings(catalog.store.url)
    async with open_contents(catalog, version, scratch / "cache", settings) as contents:
        result = await verify(contents)
        assert (result.findings, result.whole_files) == ([], 3)
        top = contents.manifest.entry(1)
        assert top is not None
        await download(contents, top, scratch / f"to-{version.version}")


@on_trio
async def test_two_versions_to_the_end(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    catalog = Catalog(store)
    first = await make_version(catalog, tmp_path, FIRST)
    second = await make_version(catalog, tmp_path, SECOND)
    for version, tree in ((first, FIRST), (second, SECOND)):
        await read_back(catalog, version, tmp_path)
        for path, data in tree.items():
            assert (tmp_path / f"to-{version.version}" / path.decode()).read_bytes() == data
    everything = await keys_in(store)
    assert (await collect(catalog, "set", tmp_path / "cache", grace_s=0)).removed.count == 0
    assert await keys_in(store) == everything

    await catalog.delete(first)
    assert (await collect(catalog, "set", tmp_path / "cache")).kept.count == 4
    assert (await collect(catalog, "set", tmp_path / "cache", grace_s=0)).removed.count == 2
    await read_back(catalog, second, tmp_path)

    await catalog.delete(second)
    await collect(catalog, "set", tmp_path / "cache", grace_s=0)
    assert await keys_in(store) == {version_key("set", 1), version_key("set", 2)}
    await store.aclose()


@on_trio
async def test_a_byte_that_was_changed_in_the_store_is_found(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    catalog = Catalog(store)
    version = await make_version(catalog, tmp_path, FIRST, pack_files=1)
    [key] = [head.key async for head in store.list("datastores/set/objects/") if 3000 < head.size_bytes < 4000]
    size_bytes = (await store.head(key)).size_bytes
    data = bytearray(await store.get_range(key, ByteRange(0, size_bytes)))
    data[2999] ^= 1
    await store.put(key, data)
    async with open_contents(catalog, version, tmp_path / "cache", StoreSettings(store.url)) as contents:
        result = await verify(contents)
    assert [finding.path for finding in result.findings] == [b"a"]
    await store.aclose()
