"""A version opened for reading: its manifest, and where the bytes lie that it names.

A copied version's objects are in the store, under keys of the datastore. A no-copy version's objects are in the
source's own bucket, under their own keys, and every read of one must meet its ETag.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from gridfs.catalog import Catalog
from gridfs.catalog_keys import object_key
from gridfs.config import AwsEnvironment, StoreSettings
from gridfs.manifest.reader import Manifest
from gridfs.model import ObjectRecord, SourceBucket, Version
from gridfs.store.base import ObjectStore
from gridfs.store.stack import directory_of, open_store, scheme_of
from gridfs.store.trace import StoreStatistics


@dataclass(frozen=True, slots=True)
class Contents:
    """What is needed to read a version."""

    version: Version
    manifest: Manifest
    objects: ObjectStore
    key_of: Callable[[ObjectRecord], str]
    """Of an object, in *objects*."""
    store: Path | None = None
    """The directory that *objects* is; None for a bucket."""

    def path_of(self, identity: str) -> str:
        """Where the object of *identity* lies, if *objects* is a directory."""
        return f"{self.store}/{object_key(self.version.name, identity)}"


@asynccontextmanager
async def open_contents(
    catalog: Catalog,
    version: Version,
    cache: Path,
    settings: StoreSettings,
    *,
    statistics: StoreStatistics | None = None,
) -> AsyncIterator[Contents]:
    """The contents of *version*; its manifest is fetched if it is not below the node's *cache* directory.

    *settings* are those of the catalog's store: a bucket of a no-copy version is reached with the same profile, and its
    requests are counted in *statistics*.
    """
    with Manifest.open(await catalog.fetch_manifest(version, cache)) as manifest:
        bucket = manifest.info.bucket
        if bucket is None:
            store = directory_of(settings.url) if scheme_of(settings.url) in ("", "file") else None
            yield Contents(version, manifest, catalog.store, lambda record: object_key(version.name, record.key), store)
            return
        # The manifest alone says where the bucket is: an endpoint in the environment is for what the user names.
        aws = replace(AwsEnvironment.from_environment(), endpoint_url=None)
        source = await open_store(settings_of(bucket, settings), aws=aws, statistics=statistics)
        try:
            yield Contents(version, manifest, source, lambda record: record.key)
        finally:
            with trio.CancelScope(shield=True):
                await source.aclose()


def settings_of(bucket: SourceBucket, store: StoreSettings) -> StoreSettings:
    """How the bucket of a no-copy version is reached: as when it was made, with this user's own profile."""
    return StoreSettings(
        url=f"s3://{bucket.bucket}",
        endpoint_url=bucket.endpoint,
        region=bucket.region,
        profile=store.profile,
        sign=bucket.signed,
        requester_pays=bucket.requester_pays,
    )
