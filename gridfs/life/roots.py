"""What garbage collection must keep: everything that is reachable from a root (docs/manifest-format.md).

The roots are read leases first and records second. A creator gives its lease back after it has committed, so a
collector that no longer sees the lease sees the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifests_prefix, object_key, version_key
from gridfs.catalog_lease import live_leases
from gridfs.catalog_parallel import in_parallel
from gridfs.errors import FormatError, IntegrityError, ObjectMissing
from gridfs.life.reachable import object_ids
from gridfs.model import Mode, Version
from gridfs.store.base import ObjectHead

SINCE_MARGIN_NS = 3600 * 10**9
"""Times of a store are whole seconds in places, and S3 dates a multipart upload by its beginning."""

_MANIFESTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Roots:
    """What is kept, at one moment."""

    reachable: frozenset[str]
    """Keys of manifests and of objects."""
    protected_from_ns: int | None
    """What was put at or after this moment of the store's clock may belong to a creation in progress; None: to none."""
    manifests: str
    """Prefix of the manifests. They are named by their content, so a creation in progress may put an old one again, and
    how old it was when it was listed says nothing."""

    def keep(self, head: ObjectHead) -> bool:
        """Whether the object may not be removed."""
        if head.key in self.reachable:
            return True
        if self.protected_from_ns is None:
            return False
        return head.last_modified_ns >= self.protected_from_ns or head.key.startswith(self.manifests)


class RootReader:
    """Reads the roots of one datastore, again and again; a manifest is looked into once."""

    def __init__(self, catalog: Catalog, name: str, cache: Path) -> None:
        self._catalog = catalog
        self._name = name
        self._cache = cache
        self._keys: dict[int, frozenset[str]] = {}

    async def read(self, now_ns: int, grace_ns: int) -> Roots:
        """The roots at *now_ns* of the store's clock; a tombstone is one for *grace_ns*.

        Raises FormatError or IntegrityError when something can't be read that might be a root: then nothing may be
        removed.
        """
        leases = [record for _, record in await live_leases(self._catalog.store, self._name, now_ns)]
        leased = {number for record in leases for number in record.versions}
        versions = await self._catalog.versions(self._name)

        async def reached(version: Version) -> frozenset[str]:
            if (
                version.deleted_at is None
                or version.version in leased
                or await self._is_young(version, now_ns, grace_ns)
            ):
                return await self._keys_of(version)
            return frozenset()

        reachable = await in_parallel(reached, versions, _MANIFESTS_AT_ONCE)
        since = [0 if record.since_ns is None else record.since_ns - SINCE_MARGIN_NS for record in leases]
        return Roots(frozenset().union(*reachable), min(since, default=None), manifests_prefix(self._name))

    async def _is_young(self, tombstone: Version, now_ns: int, grace_ns: int) -> bool:
        head = await self._catalog.store.head(version_key(tombstone.name, tombstone.version))
        return now_ns - head.last_modified_ns < grace_ns

    async def _keys_of(self, version: Version) -> frozenset[str]:
        if version.version not in self._keys:
            self._keys[version.version] = await self._look_into(version)
        return self._keys[version.version]

    async def _look_into(self, version: Version) -> frozenset[str]:
        keys = {version.manifest_key}
        if version.mode is Mode.NO_COPY:
            return frozenset(keys)
        try:
            ids = await object_ids(self._catalog, version, self._cache)
        except (ObjectMissing, FormatError) as error:
            if version.deleted_at is not None:
                return frozenset()  # its data can't be found any more, and nobody may ask for it
            raise IntegrityError(
                f"nothing of {version.name} is removed, because {version.name}@{version.version} can't be looked into: "
                f"{error.message}",
                remedy="restore its manifest, or delete that version",
            ) from error
        return frozenset(keys | {object_key(version.name, each) for each in ids})
