"""Creations, deletions and collections beside each other, at moments that Hypothesis chooses or one after the other.

In the end everything that can go has gone. tests/sim/test_collect_bites.py shows that this would notice a defect.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gridfs.catalog_keys import objects_prefix, version_of_key
from gridfs.catalog_lease import ANNOUNCEMENT_EXPIRY_S
from gridfs.errors import IntegrityError, StoreUnavailable
from gridfs.life.collect import GRACE_S, collect
from gridfs.store.simulated import Fault
from tests.sim.collecting import DAY_S, NAME, World, beside_a_slow_collection, latency_s, meet, without_threads
from tests.support.on_trio import on_mock_clock


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


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


@pytest.mark.parametrize("pause_s", [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 40.0])
def test_a_creation_that_begins_at_any_moment_of_a_removal(tmp_path: Path, pause_s: float) -> None:
    """What it would have found is gone before it looks, or is kept: each of the collector's requests is tried."""

    @on_mock_clock
    async def live() -> None:
        for requests in range(100):
            (tmp_path / str(requests)).mkdir()
            world, met = await meet(tmp_path / str(requests), requests, pause_s)
            assert world.store.violations == []
            assert world.store.needed() <= world.store.contents().keys()
            assert len(list(world.store.listed())) == 1
            if met < requests:
                break
        assert 12 < requests < 100

    live()


@pytest.mark.parametrize("hold_s", [0.0, 8.0, 20.0, 40.0])
def test_a_manifest_that_is_put_again_at_any_moment_of_its_removal(tmp_path: Path, hold_s: float) -> None:
    """The same content has the same manifest: that of a bucket, without a copy, which was deleted once and is back."""

    @on_mock_clock
    async def live() -> None:
        for requests in range(100):
            scratch = tmp_path / str(requests)
            scratch.mkdir()
            world = World(scratch)
            await world.create([])
            await world.delete(0)
            await trio.sleep(8 * DAY_S)
            await world.collect()
            await trio.sleep(GRACE_S)
            met = await beside_a_slow_collection(world, requests, partial(world.create, [], hold_s=hold_s))
            assert world.store.violations == []
            assert world.store.needed() <= world.store.contents().keys()
            [version] = world.store.listed()
            assert version.version == 2
            if met < requests:
                break
        assert 8 < requests < 100

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
        with pytest.raises(IntegrityError, match=r"nothing of set is removed, because set@1"):
            await world.collect()
        await trio.sleep(DAY_S)
    assert len([key for key in world.store.contents() if "/objects/" in key]) == 2
    await world.catalog.delete(version)
    await everything_goes(world)
