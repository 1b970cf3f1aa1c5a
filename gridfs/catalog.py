"""Names, their versions, and the one step that makes a version exist.

A version exists when its commit record does. `commit` puts it create-only under the number after the highest one, and
under the next when another creator was faster, so two creators get two versions. Nothing is ever put under a number
again: `delete` replaces the record by a tombstone, which keeps the number taken.

    commit:  sync what the record names  ->  put the record, create-only  ->  sync the record

A put whose answer was lost may have happened. The record that is found then is compared with ours, which no other
creation can have made (it has the moment and the manifest's hash), before another number is tried.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gridfs.catalog_keys import ROOT, manifest_key, version_key, version_of_key, versions_prefix
from gridfs.catalog_manifest import fetch_manifest, store_manifest
from gridfs.catalog_parallel import in_parallel
from gridfs.catalog_record import damaged, format_record, parse_record
from gridfs.errors import (
    AccessDenied,
    CredentialsRefused,
    FormatError,
    NotFound,
    ObjectExists,
    ObjectMissing,
    StoreUnavailable,
)
from gridfs.manifest.transport import Packed
from gridfs.model import Version, VersionSpec
from gridfs.store.base import ObjectStore


def utc_now() -> datetime:
    """The moment, for records."""
    return datetime.now(UTC)


class Catalog:
    """The datastores of one store. All methods may be called concurrently, also by other processes."""

    def __init__(self, store: ObjectStore, now: Callable[[], datetime] = utc_now) -> None:
        self.store = store
        self._now = now

    async def names(self) -> list[str]:
        """All names that something was ever stored under, sorted; also of a creation that is not committed yet."""
        return list(await self.store.list_directories(ROOT))

    async def numbers(self, name: str) -> list[int]:
        """The numbers that are taken under *name*, ascending; those of deleted versions too."""
        keys = [head.key async for head in self.store.list(versions_prefix(name))]
        return sorted(number for key in keys if (number := version_of_key(key)) is not None)

    async def versions(self, name: str) -> list[Version]:
        """All versions of *name*, ascending, tombstones too (`deleted_at`); none if there is no such datastore."""
        versions, unreadable = await self.readable_versions(name)
        for error in unreadable.values():
            raise error
        return versions

    async def readable_versions(self, name: str) -> tuple[list[Version], dict[int, FormatError | AccessDenied]]:
        """As `versions`, of the records that this gridfs and this user can read; and why not the others, by number.

        Raises AccessDenied when all that there are are closed to this user.
        """
        unreadable: dict[int, FormatError | AccessDenied] = {}

        async def read(number: int) -> Version | None:
            try:
                return await self._read(name, number)
            except CredentialsRefused:
                raise
            except (FormatError, AccessDenied) as error:
                unreadable[number] = error
                return None

        found = await in_parallel(read, await self.numbers(name))
        versions = [version for version in found if version is not None]
        denied = [error for _, error in sorted(unreadable.items()) if isinstance(error, AccessDenied)]
        if denied and len(denied) == len(found):
            raise denied[0]
        return versions, dict(sorted(unreadable.items()))

    async def latest(self, name: str) -> Version:
        """The highest version of *name* that is not deleted. Raises NotFound."""
        for number in reversed(await self.numbers(name)):
            version = await self._read(name, number)
            if version.deleted_at is None:
                return version
        raise await self._unknown_name(name)

    async def resolve(self, spec: VersionSpec) -> Version:
        """The version that *spec* means. Raises NotFound, which says which there are."""
        if spec.version is None:
            return await self.latest(spec.name)
        try:
            version = await self._read(spec.name, spec.version)
        except ObjectMissing:
            raise await self._unknown_version(spec, "") from None
        if version.deleted_at is not None:
            raise await self._unknown_version(spec, f": it was deleted at {version.deleted_at}")
        return version

    async def commit(self, draft: Version) -> Version:
        """Makes the version that *draft* describes exist, and returns it with its number and moment.

        *draft*'s own number and moment are ignored. What it names must have been put before. When StoreUnavailable is
        raised, it is unknown whether the version exists.
        """
        await self.store.sync()
        created_at = self._now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        number = max(await self.numbers(draft.name), default=0) + 1
        while True:
            version = replace(draft, version=number, created_at=created_at, deleted_at=None)
            if await self._claim(version):
                await self.store.sync()
                return version
            number += 1

    async def delete(self, version: Version) -> Version:
        """Replaces the commit record by a tombstone and returns that. Deleting again changes nothing."""
        current = await self._read(version.name, version.version)
        if current.deleted_at is not None:
            return current
        deleted_at = self._now().isoformat(timespec="seconds").replace("+00:00", "Z")
        tombstone = replace(current, deleted_at=deleted_at)
        await self.store.put(version_key(version.name, version.version), format_record(tombstone))
        await self.store.sync()
        return tombstone

    async def store_manifest(self, name: str, sqlite_file: Path) -> Packed:
        """Puts the manifest in *sqlite_file* where a version of *name* has it; idempotent."""
        return await store_manifest(self.store, name, sqlite_file)

    async def fetch_manifest(self, version: Version, cache: Path) -> Path:
        """The manifest of *version* as a file under the node's cache directory *cache*, fetched if it is not there."""
        return await fetch_manifest(self.store, version, cache)

    async def _claim(self, version: Version) -> bool:
        """Puts the record create-only; whether it is ours that is there."""
        key, record = version_key(version.name, version.version), format_record(version)
        try:
            await self.store.put_if_absent(key, record)
        except (ObjectExists, StoreUnavailable) as error:
            try:
                if bytes(await self.store.get(key)) == record:
                    return True
            except ObjectMissing:
                pass
            if isinstance(error, StoreUnavailable):
                raise
            return False
        return True

    async def _read(self, name: str, number: int) -> Version:
        key = version_key(name, number)
        version = parse_record(await self.store.get(key), key)
        if (version.name, version.version) != (name, number):
            raise damaged(key, f"it describes {version.name}@{version.version}")
        if version.manifest_key != manifest_key(name, version.manifest_sha256):
            raise damaged(key, f"its manifest is {version.manifest_key}")
        return version

    async def _unknown_version(self, spec: VersionSpec, why: str) -> NotFound:
        versions, unreadable = await self.readable_versions(spec.name)
        existing = [version.version for version in versions if version.deleted_at is None]
        if not existing and not unreadable:
            return await self._unknown_name(spec.name)
        listed = ", ".join(map(str, sorted([*existing, *unreadable])))
        return NotFound(f"there is no version {spec.version} of {spec.name}{why}", remedy=f"those that exist: {listed}")

    async def _unknown_name(self, name: str) -> NotFound:
        near = [other for other in difflib.get_close_matches(name, await self.names(), 5) if other != name]
        if near:
            return NotFound(f"there is no datastore {name} in {self.store.url}", remedy=f"is it {' or '.join(near)}?")
        return NotFound(
            f"there is no datastore {name} in {self.store.url}",
            remedy="`grid datastore` lists those that exist; --store or --cluster chooses another store",
        )
