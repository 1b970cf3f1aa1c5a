"""Keeps what a creation relies on from the garbage collection, and finds out what is still there.

The order is that of catalog_lease.py: first the lease, then the look at what can be reused. What an earlier run of the
same creation has put is asked for by size: garbage collection may have taken it since, and a power cut may have
shortened it. So is what the version before holds: a store may have lost it, and a new version that names it too would
be as damaged, though the source is here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from gridfs.catalog import Catalog
from gridfs.catalog_lease import RELEASE_TIMEOUT_S, Lease, take_lease
from gridfs.catalog_parallel import in_parallel
from gridfs.create.groups import single_error
from gridfs.create.journal import Journal
from gridfs.create.progress import Progress
from gridfs.errors import FormatError, GridfsError, NotFound, ObjectMissing
from gridfs.model import Version, VersionSpec
from gridfs.store.base import ObjectStore


@dataclass(frozen=True, slots=True)
class Protection:
    """A lease that is kept alive, and the version before, if there is one."""

    lease: Lease
    base: Version | None


@asynccontextmanager
async def protected(catalog: Catalog, name: str, journal: Journal, progress: Progress) -> AsyncIterator[Protection]:
    """Holds a lease meanwhile; *journal* knows afterwards what of its objects is gone."""
    base = await _latest(catalog, name)
    since = journal.get("lease_since_ns")
    versions = () if base is None else (base.version,)
    lease = await take_lease(
        catalog.store,
        name,
        versions=versions,
        since_ns=None if since is None else int(since),
        on_wait=lambda: progress.on_phase("waiting for a garbage collection"),
    )
    try:
        journal.put("lease_since_ns", str(lease.since_ns))
        journal.commit()
        if base is not None:
            base = await _still(catalog, base)
        with single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lease.keep, name="keep the lease")
                yield Protection(lease, base)
                nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(RELEASE_TIMEOUT_S, shield=True):
            try:
                await lease.release()
            except GridfsError:  # the store is gone, which ended the creation too
                pass


async def forget_what_is_gone(
    store: ObjectStore, journal: Journal, key_of: Callable[[str], str], objects: Sequence[tuple[int, str, int]]
) -> int:
    """Asks *store* for each of *objects* (`journal.durable_objects` or `base_objects`); what is gone, or of another
    size, will be read and put again. How many were.
    """

    async def is_there(stored: tuple[int, str, int]) -> bool:
        _, key, size_bytes = stored
        try:
            return (await store.head(key_of(key))).size_bytes == size_bytes
        except ObjectMissing:
            return False

    found = await in_parallel(is_there, objects)
    gone = [number for (number, _, _), there in zip(objects, found, strict=True) if not there]
    await trio.to_thread.run_sync(journal.forget_objects, gone)
    return len(gone)


async def _latest(catalog: Catalog, name: str) -> Version | None:
    try:
        return await catalog.latest(name)
    except NotFound:
        return None
    except FormatError:  # damaged, or a newer gridfs's: that costs what could be taken over, and not the new version
        readable, _ = await catalog.readable_versions(name)
        return next((version for version in reversed(readable) if version.deleted_at is None), None)


async def _still(catalog: Catalog, version: Version) -> Version | None:
    """*version*, unless it was deleted before the lease was taken."""
    try:
        return await catalog.resolve(VersionSpec(version.name, version.version))
    except NotFound:
        return None
