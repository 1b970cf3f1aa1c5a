"""Creations, deletions and collections beside each other, at moments that Hypothesis chooses, over weeks of mock time.

The model is the store itself: whenever an object is removed, no version that is listed may refer to it, and whenever a
version is listed, all it refers to must be there (invariant 1). In the end everything that can go has gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gridfs import catalog_lease
from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifest_key, object_key, objects_prefix, version_of_key
from gridfs.catalog_lease import ANNOUNCEMENT_EXPIRY_S, take_lease
from gridfs.catalog_record import parse_record
from gridfs.errors import Busy, StoreUnavailable
from gridfs.life.collect import GRACE_S, Collection, collect
from gridfs.manifest.reader import Manifest
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Buffer, Mode, Version
from gridfs.store.base import ObjectHead
from gridfs.store.simulated import Fault, Network, SimulatedStore
from tests.support import manifests
from tests.support.on_trio import on_mock_clock

DAY_S = 86_400.0
NAME = "set"
latency_s: ContextVar[float] = ContextVar("latency_s", default=0.5)
"""Of each request of a command."""
OBJECT = bytes(100)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
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

    async def create(self, pauses_s: list[float], journal: Journal | None = None) -> None:
        """Makes a version of what the versions before it have and of new objects, with a pause before each step."""
        journal = journal or Journal()
        lease = await take_lease(self.store, NAME, versions=await self.catalog.numbers(NAME), since_ns=journal.since_ns)
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
            await self.publish(lambda: lease.confirm(), objects)
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


moments = st.builds(lambda day, second: day * DAY_S + second, st.integers(0, 30), st.integers(0, 12))
"""Few days and few seconds, so that commands meet."""
pauses = st.lists(st.sampled_from([0.0, 1.0, 5.0, 2 * DAY_S, 9 * DAY_S]), max_size=3)
latencies = st.sampled_from([0.1, 0.5, 3.0])
commands = st.one_of(
    st.tuples(st.just("create"), moments, latencies, pauses),
    st.tuples(st.just("killed"), moments, latencies, pauses, st.sampled_from([1.0, 2.5, 4.0, 3 * DAY_S])),
    st.tuples(st.just("resume"), moments, latencies, pauses),
    st.tuples(st.just("delete"), moments, latencies, st.integers(0, 3)),
    st.tuples(st.just("collect"), moments, latencies),
    st.tuples(st.just("collect"), moments, latencies),
)


@given(st.lists(commands, max_size=16))
@settings(max_examples=60)
def test_nothing_reachable_is_ever_removed(
    tmp_path_factory: pytest.TempPathFactory, commands: list[tuple[Any, ...]]
) -> None:
    @on_mock_clock
    async def live() -> None:
        world = World(tmp_path_factory.mktemp("world"))

        async def give(command: str, at_s: float, distance_s: float, *arguments: Any) -> None:
            latency_s.set(distance_s)
            await trio.sleep_until(trio_start_s + at_s)
            await getattr(world, command)(*arguments)

        trio_start_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for command in commands:
                nursery.start_soon(give, *command)
        assert world.store.violations == []
        assert world.store.needed() <= world.store.contents().keys()
        await everything_goes(world)

    live()


async def everything_goes(world: World) -> None:
    """With all versions deleted and all leases expired, two graces later only tombstones are left."""
    for version in list(world.store.listed()):
        await world.catalog.delete(version)
    for _ in range(17):
        await trio.sleep(DAY_S)
        await world.collect()
    left = [key for key in world.store.contents() if version_of_key(key) is None]
    assert left == []
    assert world.store.violations == []


async def meet(scratch: Path, after_requests: int, pause_s: float) -> int:
    """A creation goes on with what a collection is about to remove, from the moment of one of the collector's requests.

    Returns how many requests the collector made before that.
    """
    world = World(scratch)
    store = world.store
    await world.killed([0.0, 100.0], 50.0)
    [journal] = world.journals
    await trio.sleep(2 * DAY_S)  # its lease expires
    await world.collect()
    await trio.sleep(GRACE_S)
    before = len(store.requests)

    async def collect_slowly() -> None:
        latency_s.set(5.0)
        await world.collect()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_slowly)
        while len(store.requests) - before < after_requests and len(nursery.child_tasks):
            await trio.sleep(0.5)
        met = len(store.requests) - before
        latency_s.set(0.1)
        await world.create([pause_s], journal)
    assert store.violations == []
    assert store.needed() <= store.contents().keys()
    assert len(list(store.listed())) == 1
    return met


@pytest.mark.parametrize("pause_s", [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 40.0])
def test_a_creation_that_begins_at_any_moment_of_a_removal(tmp_path: Path, pause_s: float) -> None:
    """What it would have found is gone before it looks, or is kept: each of the collector's requests is tried."""

    @on_mock_clock
    async def live() -> None:
        for requests in range(100):
            (tmp_path / str(requests)).mkdir()
            if await meet(tmp_path / str(requests), requests, pause_s) < requests:
                break
        assert 12 < requests < 100

    live()


@on_mock_clock
async def test_a_version_that_is_deleted_while_its_data_is_reused(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.create([0.0])
    await trio.sleep(DAY_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.create, [1.0, 30 * DAY_S])
        await trio.sleep(10)
        await world.delete(0)
        for _ in range(29):
            await trio.sleep(DAY_S)
            await world.collect()
    assert world.store.violations == []
    [version] = world.store.listed()
    assert (version.version, len(world.store.referred[version.manifest_key])) == (2, 4)


@on_mock_clock
async def test_the_grace_periods_of_tombstone_and_mark(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.create([0.0])
    await world.delete(0)
    days = []
    for day in range(16):
        collection = await world.collect()
        days.append((day, collection.kept.count, collection.waiting.count, collection.removed.count))
        await trio.sleep(DAY_S)
    kept = [(day, 2, 0, 0) for day in range(7)]
    waiting = [(day, 0, 2, 0) for day in range(7, 14)]
    assert days == [*kept, *waiting, (14, 0, 0, 2), (15, 0, 0, 0)]


@on_mock_clock
async def test_two_collections_at_once(tmp_path: Path) -> None:
    """Regression: the marks that one has listed, the other has taken over."""
    for apart_s in (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4, 2.7, 3.0):
        scratch = tmp_path / str(apart_s)
        scratch.mkdir()
        world = World(scratch)
        await world.create([0.0])
        await world.delete(0)
        await trio.sleep(8 * DAY_S)
        await world.collect()
        await trio.sleep(GRACE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.collect)
            await trio.sleep(apart_s)
            nursery.start_soon(world.collect)
        await world.collect()
        assert [key for key in world.store.contents() if version_of_key(key) is None] == []


@on_mock_clock
async def test_a_removal_whose_requests_hang_ends_before_its_announcement_does(tmp_path: Path) -> None:
    """Else a creator that no longer waits for it could find what it then removes."""
    world = World(tmp_path)
    await world.killed([0.0, 100.0], 50.0)
    await trio.sleep(2 * DAY_S)
    await world.collect()
    await trio.sleep(GRACE_S)
    [key] = [key for key in world.store.contents() if key.startswith(objects_prefix(NAME))]
    world.store.inject(Fault.STALLED, key=key)
    started_s = trio.current_time()
    with pytest.raises(StoreUnavailable, match="too slow"):
        await world.collect()
    assert trio.current_time() - started_s < ANNOUNCEMENT_EXPIRY_S
    assert key in world.store.contents()
    assert not any("/collections/" in each for each in world.store.contents())


@on_mock_clock
async def test_a_dry_run_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    await world.killed([0.0, 100.0], 50.0)
    await world.collect()
    await trio.sleep(9 * DAY_S)
    before = world.store.contents()
    monkeypatch.setattr("time.time_ns", lambda: int((1_700_000_000 + trio.current_time()) * 1e9))
    dry = await collect(world.catalog, NAME, tmp_path / "cache", dry_run=True)
    assert world.store.contents() == before
    assert (await world.collect()).removed == dry.removed


@on_mock_clock
async def test_a_version_that_can_t_be_looked_into_stops_the_collection(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.create([0.0])
    await world.killed([0.0, 100.0], 50.0)
    [version] = world.store.listed()
    world.store.remove(version.manifest_key)
    shutil.rmtree(tmp_path / "cache")  # the killed creator has read it
    for _ in range(20):
        with pytest.raises(Exception, match=r"nothing of set is removed, because set@1"):
            await world.collect()
        await trio.sleep(DAY_S)
    assert len([key for key in world.store.contents() if "/objects/" in key]) == 2
    await world.catalog.delete(version)
    await everything_goes(world)
