"""Leases: how a creation in progress keeps the garbage collection away from what it is about to name.

A lease is an object under `leases/` that its creator puts again every HEARTBEAT_S; it is alive while the store's own
clock says that it is younger than EXPIRY_S. It protects two things (catalog_roots.py):

- all that the versions it lists refer to, even when they are deleted meanwhile: what is reused;
- every object of the datastore that is not older than `since_ns`: what this creation has put. A creation that is
  continued gives the `since_ns` of its first lease, so that what it put then is protected again.

The creator and the collector exclude each other as two processes with a flag each do: the creator puts its lease and
then waits until no removal is announced; the collector announces its removal and then reads the leases. One of them
sees the other. So a creator does, in this order:

    lease = await take_lease(...)        before it looks at what it can reuse, and at what it has put before
    nursery.start_soon(lease.keep)
    ...                                  resolve the versions again: one may have been deleted before the lease
    await lease.confirm()                before it commits: was the lease alive all the time?
    await catalog.commit(...)
    await lease.release()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import trio

from gridfs.catalog_keys import collections_prefix, lease_key, leases_prefix
from gridfs.errors import Busy, FormatError, GridfsError, ObjectMissing, StoreUnavailable
from gridfs.model import Buffer
from gridfs.store.base import ObjectHead, ObjectStore

HEARTBEAT_S = 600.0
"""A creation of a day makes 150 heartbeats; their cost in an object store is below a cent."""

EXPIRY_S = 24 * 3600.0
"""A laptop may sleep over night. Too long costs nothing but the storage of what a killed creator left."""

ANNOUNCEMENT_EXPIRY_S = 300.0
"""An announced removal is over after this at the latest: the collector stops by its own clock at a third of it. So long
a creator waits if a collector was killed in the middle of one."""

FORMAT = 1
"""Of a lease's content."""

RELEASE_TIMEOUT_S = 5.0
"""Of a creation that failed: a lease that is not given back expires by itself."""

_WAIT_FOR_REMOVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the collector learns from a lease."""

    versions: tuple[int, ...]
    since_ns: int | None
    """In the store's time. None for the moment between the first put and the second: protects everything."""


def format_lease(record: LeaseRecord) -> bytes:
    """The content of a lease's object."""
    return json.dumps({"format": FORMAT, "versions": record.versions, "since_ns": record.since_ns}).encode()


def parse_lease(data: Buffer, key: str) -> LeaseRecord:
    """Raises FormatError; a collector that meets it removes nothing."""
    try:
        document = json.loads(bytes(data))
        if document["format"] > FORMAT:
            raise FormatError(f"the lease {key} is of a newer gridfs", remedy="collect garbage with that one")
        since_ns = document["since_ns"]
        return LeaseRecord(tuple(map(int, document["versions"])), None if since_ns is None else int(since_ns))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the lease {key} is damaged", remedy="remove it if no creation is in progress") from error


class Lease:
    """A lease that has been taken."""

    def __init__(self, store: ObjectStore, name: str, key: str, record: LeaseRecord, put_at_ns: int) -> None:
        self._store = store
        self._name = name
        self._key = key
        self._record = record
        self._put_at_ns = put_at_ns
        self._lapsed = False

    @property
    def since_ns(self) -> int:
        """To be remembered with a creation, and given to `take_lease` when it is continued."""
        assert self._record.since_ns is not None
        return self._record.since_ns

    async def keep(self) -> None:
        """Puts the lease again every HEARTBEAT_S, until it is cancelled. A failure is made good by the next one."""
        while True:
            await trio.sleep(HEARTBEAT_S)
            try:
                await self._beat()
            except StoreUnavailable:
                continue

    async def confirm(self) -> None:
        """Returns if the lease was alive from when it was taken until now, and stays so for EXPIRY_S.

        Raises Busy if not: something that this creation relies on may be gone, and it must look again.
        """
        await self._beat()
        if self._lapsed:
            raise Busy(
                f"the creation of {self._name} was asleep for more than {EXPIRY_S / 3600:.0f} hours, and what it has "
                "stored may have been collected meanwhile",
                remedy="run the same command again: it looks what is still there and goes on from that",
            )

    async def release(self) -> None:
        """Gives the lease back. Idempotent; one that is not given back expires."""
        await self._store.delete(self._key)

    async def _beat(self) -> None:
        try:
            await self._store.head(self._key)
        except ObjectMissing:
            self._lapsed = True  # collected: it had expired
        await self._store.put(self._key, format_lease(self._record))
        put_at_ns = (await self._store.head(self._key)).last_modified_ns
        if put_at_ns - self._put_at_ns > EXPIRY_S * 1e9:
            self._lapsed = True
        self._put_at_ns = put_at_ns


async def take_lease(
    store: ObjectStore,
    name: str,
    *,
    versions: Sequence[int] = (),
    since_ns: int | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Lease:
    """Takes a lease for a creation of *name* that may reuse the data of *versions*.

    Returns once no removal is going on that could have missed it; *on_wait* is told once if one is, which may take
    ANNOUNCEMENT_EXPIRY_S. What it raises leaves no lease, as far as the store can be reached.
    """
    key = lease_key(name, uuid4().hex)
    try:
        await store.put_if_absent(key, format_lease(LeaseRecord(tuple(versions), since_ns)))
        put_at_ns = (await store.head(key)).last_modified_ns
        record = LeaseRecord(tuple(versions), put_at_ns if since_ns is None else since_ns)
        await store.put(key, format_lease(record))
        started_s, is_told = trio.current_time(), False
        while await _is_removing(store, name, put_at_ns + int((trio.current_time() - started_s) * 1e9)):
            if not is_told:
                on_wait()
                is_told = True
            await trio.sleep(_WAIT_FOR_REMOVAL_S)
    except BaseException:
        with trio.move_on_after(RELEASE_TIMEOUT_S, shield=True), suppress(GridfsError):
            await store.delete(key)
        raise
    return Lease(store, name, key, record, put_at_ns)


async def _is_removing(store: ObjectStore, name: str, now_ns: int) -> bool:
    """Whether a removal was announced that can still be going on at *now_ns* of the store's clock."""
    announced = [head.last_modified_ns async for head in store.list(collections_prefix(name))]
    return any(now_ns - announced_ns < ANNOUNCEMENT_EXPIRY_S * 1e9 for announced_ns in announced)


async def live_leases(store: ObjectStore, name: str, now_ns: int) -> list[tuple[ObjectHead, LeaseRecord]]:
    """The leases of *name* that are alive at *now_ns* of the store's clock. Raises FormatError for a damaged one."""
    found = []
    async for head in store.list(leases_prefix(name)):
        if now_ns - head.last_modified_ns < EXPIRY_S * 1e9:
            try:
                found.append((head, parse_lease(await store.get(head.key), head.key)))
            except ObjectMissing:
                continue  # given back since it was listed
    return found
