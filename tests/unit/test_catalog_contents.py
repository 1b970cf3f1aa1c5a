"""Where the bytes of a version are looked for (catalog_contents.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs import catalog_contents
from gridfs.catalog import Catalog
from gridfs.catalog_contents import open_contents
from gridfs.catalog_keys import manifest_key
from gridfs.config import AwsEnvironment, StoreSettings
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Mode, SourceBucket, Version
from gridfs.store.simulated import SimulatedStore
from gridfs.store.stack import bucket_address
from tests.support.manifests import settings
from tests.support.on_trio import on_trio


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [(None, "https://s3.eu-central-1.amazonaws.com"), ("https://minio.example", "https://minio.example")],
)
@on_trio
async def test_a_bucket_is_where_the_version_says_and_not_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None, asked: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    catalog, path = Catalog(SimulatedStore()), tmp_path / "manifest"
    bucket = SourceBucket("bucket", recorded, "eu-central-1", "", signed=False)
    with ManifestWriter(path, settings(mode=Mode.NO_COPY, bucket=bucket)) as writer:
        writer.finish()
    packed = await catalog.store_manifest("set", path)
    key = manifest_key("set", packed.sha256)
    version = await catalog.commit(
        Version("set", 0, "", "/x", Mode.NO_COPY, 0, 0, 0, 0, key, packed.sha256, packed.size_bytes)
    )
    endpoints = []

    async def open_store(settings: StoreSettings, *, aws: AwsEnvironment, statistics: object) -> SimulatedStore:
        endpoints.append((await bucket_address("bucket", settings, aws)).endpoint)
        return SimulatedStore()

    monkeypatch.setattr(catalog_contents, "open_store", open_store)
    async with open_contents(catalog, version, tmp_path / "cache", StoreSettings("simulated://")):
        pass
    assert endpoints == [asked]
