"""Leases by their holder: heartbeats, sleep, removals that are waited for. By collectors: tests/sim/test_collect.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from gridfs.catalog_keys import collections_prefix, leases_prefix
from gridfs.catalog_lease import (
    ANNOUNCEMENT_EXPIRY_S,
    EXPIRY_S,
    HEARTBEAT_S,
    LeaseRecord,
    live_leases,
    parse_lease,
    take_lease,
)
from gridfs.errors import Busy, FormatError
from gridfs.model import Buffer
from gridfs.store.base import ObjectHead
from gridfs.store.simulated import Fault, SimulatedStore
from tests.support.on_trio import on_mock_clock


class ClockedStore(SimulatedStore):
    """Its time is trio's."""

    def place(self, key: str, data: Buffer, *, storage_class: str | None = None) -> ObjectHead:
        super().place(key, data, storage_class=storage_class)
        self._objects[key] = replace(self._objects[key], last_modified_ns=self.now_ns())
        return self._head(key)

    def now_ns(self) -> int:
        return int(trio.current_time() * 1e9)


def only_lease(store: SimulatedStore) -> str:
    [key] = [key for key in store.contents() if key.startswith(leases_prefix("set"))]
    return key


@on_mock_clock
async def test_a_lease_lives_as_long_as_it_is_kept() -> None:
    store = ClockedStore()
    lease = await take_lease(store, "set", versions=[3])
    record = LeaseRecord((3,), lease.since_ns)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        await trio.sleep(5 * EXPIRY_S)
        assert [found for _, found in await live_leases(store, "set", store.now_ns())] == [record]
        await lease.confirm()
        nursery.cancel_scope.cancel()
    await trio.sleep(EXPIRY_S + HEARTBEAT_S)
    assert await live_leases(store, "set", store.now_ns()) == []


@on_mock_clock
async def test_a_creation_that_is_ended_while_it_waits_for_a_removal_leaves_no_lease() -> None:
    store = ClockedStore()
    announcement = f"{collections_prefix('set')}0.json"
    await store.put(announcement, b"{}")
    waits: list[float] = []
    with trio.move_on_after(5) as scope:
        await take_lease(store, "set", on_wait=lambda: waits.append(trio.current_time()))
    assert scope.cancelled_caught
    assert len(waits) == 1, "someone is told what is waited for"
    assert store.contents().keys() == {announcement}


@on_mock_clock
async def test_a_heartbeat_that_fails_is_made_good() -> None:
    store = ClockedStore()
    lease = await take_lease(store, "set")
    store.inject(Fault.UNAVAILABLE, key=only_lease(store), times=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        await trio.sleep(2 * EXPIRY_S)
        await lease.confirm()
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_creator_that_slept_too_long_must_look_again() -> None:
    lease = await take_lease(ClockedStore(), "set")
    await trio.sleep(EXPIRY_S + 1)
    with pytest.raises(Busy, match=r"asleep for more than 24 hours.*same command again"):
        await lease.confirm()


@on_mock_clock
async def test_a_lease_that_was_collected_is_noticed() -> None:
    store = ClockedStore()
    lease = await take_lease(store, "set")
    store.remove(only_lease(store))
    with pytest.raises(Busy):
        await lease.confirm()


@on_mock_clock
async def test_a_creation_that_is_continued_protects_what_it_put_before() -> None:
    store = ClockedStore()
    await trio.sleep(100)
    first = await take_lease(store, "set")
    await first.release()
    assert store.contents() == {}
    await trio.sleep(3 * EXPIRY_S)
    again = await take_lease(store, "set", since_ns=first.since_ns)
    assert again.since_ns == first.since_ns == 100e9
    [(_, record)] = await live_leases(store, "set", store.now_ns())
    assert record == LeaseRecord((), first.since_ns)


@on_mock_clock
async def test_taking_waits_for_a_removal_and_not_for_one_that_died() -> None:
    store = ClockedStore()
    store.place(f"{collections_prefix('set')}a.json", b"{}")
    started_s = trio.current_time()
    with trio.move_on_after(ANNOUNCEMENT_EXPIRY_S / 2) as scope:
        await take_lease(store, "set")
    assert scope.cancelled_caught
    await take_lease(store, "set")
    assert 0 <= trio.current_time() - started_s - ANNOUNCEMENT_EXPIRY_S < 5
    await take_lease(store, "other")


def test_leases_that_can_t_be_understood_are_refused() -> None:
    for content in (b"", b"{}", b"[]", b'{"format": 1, "versions": 3, "since_ns": 1}', b'{"format": 2}'):
        with pytest.raises(FormatError):
            parse_lease(content, "leases/x.json")
