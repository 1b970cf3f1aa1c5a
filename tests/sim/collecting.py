"""A world of creators, deleters and collectors on one store, which judges every removal and every commit.

The model is the store itself: whenever an object is removed, no version that is listed may refer to it, and whenever a
version is listed, all it refers to must be there (invariant 1). Time is trio's; each command has its own distance to
the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from gridfs import catalog_lease
from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifest_key, object_key, objects_prefix, version_of_key
from gridfs.catalog_lease import take_lease
from gridfs.catalog_record import parse_record
from gridfs.errors import Busy
from gridfs.life.collect import GRACE_S, Collection, collect
from gridfs.manifest.reader import Manifest
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Buffer, Mode, Version
from gridfs.store.base import ObjectHead
from gridfs.store.simulated import Network, SimulatedStore
from tests.support import manifests

DAY_S = 86_400.0
NAME = "set"
latency_s: ContextVar[float] = ContextVar("latency_s", default=0.5)
"""Of each request of a command."""
OBJECT = bytes(100)


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock clock jumps ahead while a thread works, which would leave the moments to chance."""

    async def run_sync(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    # Weeks of heartbeats every ten minutes are most of what would happen; a lease lives four of these.
    monkeypatch.setattr(catalog_lease, "HEARTBEAT_S", catalog_lease.EXPIRY_S / 4)


class WatchedStore(SimulatedStore):
    """A store on trio's clock that judges every removal and every commit."""

    def __init__(self) -> None:
        super().__init__()
        self.referred: dict[str, set[str]] = {}
        """By a manifest's key what a version with it needs, itself included."""
        self.violations: list[str] = []

    @property
    def network(self) -> Network:
        return Network(latency_s=latency_s.get())

    @network.setter
    def network(self, value: Network) -> None:
        """Each command has its own distance to the store."""

    def place(self, key: str, data: Buffer, *, storage_class: str | None = None) -> ObjectHead:
        super().place(key, data, storage_class=storage_class)
        now_ns = int((1_700_000_000 + trio.current_time()) * 1e9)
        self._objects[key] = replace(self._objects[key], last_modified_ns=now_ns)
        if version_of_key(key) is not None and not self.needed() <= self.contents().keys():
            self.violations.append(f"{key} names what is not there")
        return self._head(key)

    async def delete(self, key: str) -> None:
        await super().delete(key)
        if key in self.needed():
            self.violations.append(f"{key} was removed at {trio.current_time() / DAY_S:.6f} days")

    def listed(self) -> Iterator[Version]:
        for key, data in self.contents().items():
            if version_of_key(key) is not None:
                version = parse_record(data, key)
                if version.deleted_at is None:
                    yield version

    def needed(self) -> set[str]:
        """What the versions that are listed refer to."""
        return set().union(*(self.referred[version.manifest_key] for version in self.listed()))


@dataclass
class Journal:
    """What a creator remembers when it is killed."""

    since_ns: int | None = None
    stored: list[str] = field(default_factory=list)


class World:
    """The actors, on one store; each method is one command that somebody gives."""

    def __init__(self, scratch: Path) -> None:
        self.store = WatchedStore()
        self.catalog = Catalog(self.store)
        self.scratch = scratch
        self.journals: list[Journal] = []
        self._made = 0

    def unique(self) -> str:
        self._made += 1
        return UUID(int=self._made).hex

    async def create(self, pauses_s: list[float], journal: Journal | None = None, hold_s: float = 0.0) -> None:
        """Makes a version of what the versions before it have and of new objects, with a pause before each step, and
        one of *hold_s* before the commit.
        """
        journal = journal or Journal()
        live = [version.version for version in await self.catalog.versions(NAME) if version.deleted_at is None]
        lease = await take_lease(self.store, NAME, versions=live, since_ns=journal.since_ns)
        journal.since_ns = lease.since_ns
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lease.keep)
            there = {head.key async for head in self.store.list(objects_prefix(NAME))}
            objects = [stored for stored in journal.stored if object_key(NAME, stored) in there]
            for version in await self.catalog.versions(NAME):
                if version.deleted_at is None:
                    objects += await self.objects_of(version)
            for pause_s in pauses_s:
                await trio.sleep(pause_s)
                new = self.unique()
                await self.store.put(object_key(NAME, new), OBJECT)
                journal.stored.append(new)
                objects.append(new)

            async def confirm() -> None:
                await trio.sleep(hold_s)
                await lease.confirm()

            await self.publish(confirm, objects)
            nursery.cancel_scope.cancel()
        await lease.release()

    async def publish(self, confirm: Callable[[], Any], objects: list[str]) -> None:
        sqlite_file = self.scratch / self.unique()
        with ManifestWriter(sqlite_file, manifests.settings()) as writer:
            for each in dict.fromkeys(objects):
                writer.add_object(each, len(OBJECT), bytes(8))
            writer.finish()
        packed = await self.catalog.store_manifest(NAME, sqlite_file)
        key = manifest_key(NAME, packed.sha256)
        self.store.referred[key] = {key, *(object_key(NAME, each) for each in objects)}
        try:
            await confirm()
        except Busy:
            return
        await self.catalog.commit(
            Version(NAME, 0, "", "/x", Mode.COPY, 0, 0, 0, 0, key, packed.sha256, packed.size_bytes)
        )

    async def objects_of(self, version: Version) -> list[str]:
        path = await self.catalog.fetch_manifest(version, self.scratch / "cache")
        with Manifest.open(path) as manifest:
            return [record.key for record in manifest.objects()]

    async def killed(self, pauses_s: list[float], after_s: float) -> None:
        journal = Journal()
        with trio.move_on_after(after_s) as scope:
            await self.create(pauses_s, journal)
        if scope.cancelled_caught:
            self.journals.append(journal)

    async def resume(self, pauses_s: list[float]) -> None:
        if self.journals:
            await self.create(pauses_s, self.journals.pop(0))

    async def delete(self, which: int) -> None:
        versions = list(self.store.listed())
        if versions:
            await self.catalog.delete(versions[which % len(versions)])

    async def collect(self) -> Collection:
        return await collect(self.catalog, NAME, self.scratch / "cache")


async def meet(scratch: Path, after_requests: int, pause_s: float) -> tuple[World, int]:
    """A creation goes on with what a collection is about to remove, from the moment of one of the collector's requests.

    Returns the world after that, and how many requests the collector made before.
    """
    world = World(scratch)
    await world.killed([0.0, 100.0], 50.0)
    [journal] = world.journals
    await trio.sleep(2 * DAY_S)  # its lease expires
    await world.collect()
    await trio.sleep(GRACE_S)
    return world, await beside_a_slow_collection(world, after_requests, lambda: world.create([pause_s], journal))


async def beside_a_slow_collection(world: World, after_requests: int, act: Callable[[], Awaitable[None]]) -> int:
    """Collects, and does *act* from the moment of one of the collector's requests; how many it had made."""
    before = len(world.store.requests)

    async def collect_slowly() -> None:
        latency_s.set(5.0)
        await world.collect()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_slowly)
        while len(world.store.requests) - before < after_requests and len(nursery.child_tasks):
            await trio.sleep(0.5)
        met = len(world.store.requests) - before
        latency_s.set(0.1)
        await act()
    return met
