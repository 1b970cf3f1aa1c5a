"""Real creations, deletions and collections at once on one store, with no grace at all: only roots and leases protect.

What tests/sim/test_collect.py does with a model of a creator, this does with the real one, which reuses what versions
before it hold, is interrupted, and continues.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_contents import open_contents
from gridfs.catalog_keys import object_key, version_of_key
from gridfs.catalog_record import parse_record
from gridfs.config import Paths, StoreSettings
from gridfs.create.creation import create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.errors import GridfsError, NotFound
from gridfs.life import roots
from gridfs.life.collect import collect
from gridfs.life.verify import verify
from gridfs.manifest.reader import Manifest
from gridfs.manifest.transport import Unpacker
from gridfs.model import Buffer, Version, VersionSpec
from gridfs.store.base import ObjectHead
from gridfs.store.simulated import Network, SimulatedStore
from tests.support.data import ramp
from tests.support.on_trio import on_trio

BLOCK = 1024
PACK = 16 * BLOCK
ROUNDS = 6


class DistantStore(SimulatedStore):
    """Each request takes another time, by seed; the store's clock is the machine's.

    Judges every commit and every removal: all that a listed version refers to must be there.
    """

    def __init__(self, seed: int, scratch: Path) -> None:
        self._distances = Random(seed)
        self._scratch = scratch
        self._referred: dict[str, set[str]] = {}
        self.violations: list[str] = []
        super().__init__()

    @property
    def network(self) -> Network:
        return Network(latency_s=self._distances.choice([0.0, 0.001, 0.01]))

    @network.setter
    def network(self, value: Network) -> None:
        """Drawn for each request."""

    def place(self, key: str, data: Buffer, *, storage_class: str | None = None) -> ObjectHead:
        super().place(key, data, storage_class=storage_class)
        self._objects[key] = replace(self._objects[key], last_modified_ns=time.time_ns())
        if version_of_key(key) is not None:
            version = parse_record(data, key)
            if version.deleted_at is None:
                self.judge(version)
        return self._head(key)

    async def delete(self, key: str) -> None:
        await super().delete(key)
        for other, data in self.contents().items():
            if version_of_key(other) is not None and (version := parse_record(data, other)).deleted_at is None:
                self.judge(version)

    def judge(self, version: Version) -> None:
        missing = self._needed(version) - self.contents().keys()
        self.violations += [f"{version.name}@{version.version} lacks {key}" for key in sorted(missing)]

    def _needed(self, version: Version) -> set[str]:
        key = version.manifest_key
        if key not in self._referred:
            self._referred[key] = {key}
            path = self._scratch / version.manifest_sha256
            with Unpacker(path, sha256=version.manifest_sha256, size_bytes=version.manifest_bytes) as unpacker:
                unpacker.feed(self.contents()[key])
                unpacker.finish()
            with Manifest.open(path) as manifest:
                self._referred[key] |= {object_key(version.name, record.key) for record in manifest.objects()}
        return self._referred[key]


class Town:
    """Several people with a node each, and one store."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch = scratch
        self.store = DistantStore(seed, scratch)
        self.catalog = Catalog(self.store)
        self.random = Random(seed)
        self.at_work = 0
        self.made = 0

    async def creator(self, number: int) -> None:
        """Changes a folder and makes a version of it, again and again; now and then is interrupted and continues."""
        home = self.scratch / f"home-{number}"
        paths = Paths.from_environment({"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")})
        folder = self.scratch / f"folder-{number}"
        folder.mkdir()
        for file in range(30):
            (folder / str(file)).write_bytes(ramp(700 + file, file))
        request = CreateRequest("set", str(folder))
        for version in range(ROUNDS):
            (folder / str(self.random.randrange(30))).write_bytes(ramp(900, version * 31 + number))
            done = False
            while not done:
                with trio.move_on_after(self.random.choice([0.05, 0.2, 60.0])):
                    await create_datastore(
                        request, self.store, paths, Silent(), block_size_bytes=BLOCK, pack_size_bytes=PACK
                    )
                    done = True
            self.made += 1
        self.at_work -= 1

    async def deleter(self) -> None:
        while self.at_work:
            await trio.sleep(self.random.uniform(0, 0.1))
            try:
                numbers = await self.catalog.numbers("set")
                number = self.random.choice(numbers) if numbers else 1
                await self.catalog.delete(await self.catalog.resolve(VersionSpec("set", number)))
            except NotFound:
                continue

    async def collector(self, number: int) -> None:
        while self.at_work:
            await collect(self.catalog, "set", self.scratch / f"cache-{number}", grace_s=0)

    async def listed_versions_are_sound(self) -> int:
        sound = 0
        for version in await self.catalog.versions("set"):
            if version.deleted_at is None:
                settings = StoreSettings(self.store.url)
                async with open_contents(self.catalog, version, self.scratch / "cache", settings) as contents:
                    result = await verify(contents)
                assert result.findings == []
                assert result.whole_files == 30
                sound += 1
        return sound


@pytest.mark.parametrize("seed", range(3))
@on_trio
async def test_nothing_reachable_is_removed_and_nothing_half_made_is_listed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariants 1, 2 and 7."""
    monkeypatch.setattr(roots, "SINCE_MARGIN_NS", 0)
    town = Town(tmp_path, seed)
    town.at_work = 2
    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(town.creator, number)
            nursery.start_soon(town.collector, number)
        nursery.start_soon(town.deleter)
    assert town.store.violations == []
    assert town.made == 2 * ROUNDS
    assert await town.catalog.numbers("set") == list(range(1, 1 + len(await town.catalog.numbers("set"))))
    await town.listed_versions_are_sound()
    last = await create_last(town)
    assert await town.listed_versions_are_sound() >= 1
    assert last == max(await town.catalog.numbers("set"))
    await collect(town.catalog, "set", tmp_path / "cache-0", grace_s=0)
    assert await town.listed_versions_are_sound() >= 1


async def create_last(town: Town) -> int:
    paths = Paths.from_environment({"HOME": str(town.scratch / "last"), "XDG_RUNTIME_DIR": str(town.scratch / "run")})
    request = CreateRequest("set", str(town.scratch / "folder-0"))
    try:
        result = await create_datastore(request, town.store, paths, Silent(), block_size_bytes=BLOCK)
    except GridfsError as error:
        raise AssertionError("a creation fails after all others have ended") from error
    return result.version.version
