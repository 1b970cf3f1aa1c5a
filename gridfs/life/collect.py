"""Garbage collection of one datastore: mark what no root reaches, remove it a grace period later.

    1  list what is there, then read the roots: whatever was named in between is seen to be named
    2  write the marks: when each unreachable thing was first seen so
    3  for what is due: announce a removal, read the roots again, remove what they still don't reach, take it back

A store that is full may have no room for marks: what is due goes all the same, and they are written after it.

Step 3 and a creator's lease exclude each other (catalog_lease.py), so it may run beside anything: creations that reuse
what was about to go, deletions, another collection. Every age is a difference of two times of the store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import trio

from gridfs.catalog import Catalog
from gridfs.catalog_keys import (
    collections_prefix,
    leases_prefix,
    manifests_prefix,
    marks_prefix,
    objects_prefix,
)
from gridfs.catalog_lease import ANNOUNCEMENT_EXPIRY_S, EXPIRY_S
from gridfs.catalog_parallel import in_parallel
from gridfs.errors import ObjectMissing, StoreFull, StoreUnavailable
from gridfs.life.marks import Decision, decide, format_marks, merged, parse_marks
from gridfs.life.roots import RootReader
from gridfs.store.base import ObjectHead, ObjectStore

GRACE_S = 7 * 24 * 3600.0
"""Of tombstones, and again of marks: so long a mount or a suspended creation may go on without anyone knowing of it."""

_REMOVAL_S = ANNOUNCEMENT_EXPIRY_S / 3
"""After this a removal announces itself anew, and after twice this it is given up, whatever request hangs."""

_REMOVALS_BETWEEN_LOOKS = 256


@dataclass(frozen=True, slots=True)
class Tally:
    """Some objects, counted."""

    count: int
    size_bytes: int

    @classmethod
    def of(cls, heads: list[ObjectHead]) -> Tally:
        return cls(len(heads), sum(head.size_bytes for head in heads))


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection found, and did unless it was a dry run."""

    name: str
    kept: Tally
    waiting: Tally
    """Unreachable; removed by a collection after their grace period."""
    removed: Tally
    """In a dry run: what would be removed."""


async def collect(
    catalog: Catalog, name: str, cache: Path, *, grace_s: float = GRACE_S, dry_run: bool = False
) -> Collection:
    """Collects the garbage of the datastore *name*; manifests are looked into by way of the node's *cache*.

    Raises FormatError or IntegrityError, and removes nothing, when something is there that it can't judge.
    """
    store, grace_ns = catalog.store, int(grace_s * 1e9)
    reader = RootReader(catalog, name, cache)
    listed = [head async for head in store.list(manifests_prefix(name))]
    listed += [head async for head in store.list(objects_prefix(name))]
    marks = [head async for head in store.list(marks_prefix(name))]
    seen = merged([await _read_marks(store, head.key) for head in marks])
    if dry_run:
        now_ns = time.time_ns()  # a dry run writes nothing, and so can't ask the store for its time
        decision = decide(listed, await reader.read(now_ns, grace_ns), seen, now_ns, grace_ns)
        return _report(name, decision, decision.due)
    key = f"{marks_prefix(name)}{uuid4().hex}.json"
    now_ns = await _moment(store, key)
    decision = decide(listed, await reader.read(now_ns, grace_ns), seen, now_ns, grace_ns)
    try:
        await _write_marks(store, key, decision.first_seen_ns)
    except StoreFull:
        if not decision.due:
            await store.delete(key)
            raise
    else:
        for head in marks:
            await store.delete(head.key)
    removed = await _remove(store, name, reader, decision.due, grace_ns)
    if removed:
        gone = {head.key for head in removed}
        await _write_marks(store, key, {each: ns for each, ns in decision.first_seen_ns.items() if each not in gone})
    await _remove_expired(store, name, now_ns)
    return _report(name, decision, removed)


async def _read_marks(store: ObjectStore, key: str) -> dict[str, int]:
    try:
        return parse_marks(await store.get(key), key)
    except ObjectMissing:
        return {}  # another collection has taken it over since it was listed


async def _write_marks(store: ObjectStore, key: str, first_seen_ns: Mapping[str, int]) -> None:
    if first_seen_ns:
        await store.put(key, format_marks(first_seen_ns))
    else:
        await store.delete(key)


async def _remove(
    store: ObjectStore, name: str, reader: RootReader, due: list[ObjectHead], grace_ns: int
) -> list[ObjectHead]:
    """Removes what is due and, seen from an announced removal, still unreachable."""
    removed: list[ObjectHead] = []
    left = list(due)
    while left:
        announcement = f"{collections_prefix(name)}{uuid4().hex}.json"
        try:
            now_ns = await _moment(store, announcement)
            announced_s = trio.current_time()
            with trio.move_on_at(announced_s + 2 * _REMOVAL_S) as scope:
                roots = await reader.read(now_ns, grace_ns)
                left = [head for head in left if not roots.keep(head)]
                while left and trio.current_time() < announced_s + _REMOVAL_S:
                    batch, left = left[:_REMOVALS_BETWEEN_LOOKS], left[_REMOVALS_BETWEEN_LOOKS:]
                    await in_parallel(lambda head: store.delete(head.key), batch)
                    removed += batch
            if scope.cancelled_caught:
                raise StoreUnavailable(f"{store.url} is too slow to remove anything from", remedy="try again later")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await store.delete(announcement)
    return removed


async def _remove_expired(store: ObjectStore, name: str, now_ns: int) -> None:
    """Removes the leases and announcements of what was killed."""
    for prefix, expiry_s in ((leases_prefix(name), EXPIRY_S), (collections_prefix(name), ANNOUNCEMENT_EXPIRY_S)):
        expired = [head async for head in store.list(prefix) if now_ns - head.last_modified_ns > expiry_s * 1e9]
        for head in expired:
            await store.delete(head.key)


async def _moment(store: ObjectStore, key: str) -> int:
    """The store's time: that of an object that is put for it. An empty one, for which a full store may have room."""
    await store.put(key, b"")
    return (await store.head(key)).last_modified_ns


def _report(name: str, decision: Decision, removed: list[ObjectHead]) -> Collection:
    gone = {head.key for head in removed}
    waiting = decision.waiting + [head for head in decision.due if head.key not in gone]
    return Collection(name, Tally.of(decision.kept), Tally.of(waiting), Tally.of(removed))
