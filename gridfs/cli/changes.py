"""What a new no-copy version has that the one before had not: its data is never read, so this is all one can tell."""

from __future__ import annotations

from collections import Counter

from gridfs.cli.invocation import Invocation
from gridfs.model import Kind, Version
from gridfs.selection import SelectedStore

ADDED, CHANGED, REMOVED = "added", "changed", "removed"


def count_changes(invocation: Invocation, selected: SelectedStore, version: Version) -> dict[str, int] | None:
    """Files added, changed and removed since the version before; None if there is none that still exists."""

    async def work() -> dict[str, int] | None:
        from gridfs.catalog import Catalog
        from gridfs.life.diff import Change, differences
        from gridfs.manifest.reader import Manifest
        from gridfs.store.stack import open_store

        store = await open_store(selected.settings)
        try:
            catalog = Catalog(store)
            # The new version exists: a record of an old one that can't be read does not make its creation fail.
            readable, _ = await catalog.readable_versions(version.name)
            existing = [each for each in readable if each.version < version.version and each.deleted_at is None]
            if not existing:
                return None
            last = max(existing, key=lambda each: each.version)
            cache = invocation.cache_settings().directory
            paths = [await catalog.fetch_manifest(each, cache) for each in (last, version)]
            found = Counter({ADDED: 0, CHANGED: 0, REMOVED: 0})
            with Manifest.open(paths[0]) as before, Manifest.open(paths[1]) as after:
                for each in differences(before, after):
                    was = each.old is not None and each.old.kind == Kind.FILE
                    is_now = each.new is not None and each.new.kind == Kind.FILE
                    if was and is_now:
                        found[CHANGED] += each.change is Change.CONTENT
                    else:
                        found[REMOVED] += was
                        found[ADDED] += is_now
            return dict(found)
        finally:
            await store.aclose()

    return invocation.run(work)
