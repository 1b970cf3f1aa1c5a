"""Opens the source of a request: which kind it is, and what that needs around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import trio

from gridfs.addresses import shown_url
from gridfs.catalog_keys import ROOT
from gridfs.config import AwsEnvironment, Paths, StoreSettings, ensure_private
from gridfs.create.bucket_keys import Selection
from gridfs.create.folder import local_source
from gridfs.create.request import CreateRequest, SourceKind
from gridfs.create.source import ListedSource, Source
from gridfs.errors import InvalidInput, Unsupported
from gridfs.model import SourceBucket
from gridfs.selection import endpoint_of
from gridfs.store.address import BucketAddress


@asynccontextmanager
async def opened_source(
    request: CreateRequest, store: StoreSettings, paths: Paths
) -> AsyncIterator[tuple[Source, tuple[str, ...]]]:
    """The source of *request*, and what its user should know about it. *store*: where the version will be kept."""
    if request.kind is not SourceKind.BUCKET and (request.include or request.exclude):
        raise InvalidInput(
            f"--include and --exclude can't be used with '{shown_url(request.source)}'", remedy="give a bucket"
        )
    if request.kind is SourceKind.LOCAL and request.extract:
        from gridfs.create.archive import local_archive

        yield local_archive(Path(request.source), ensure_private(paths.state)), ()
    elif request.kind is SourceKind.LOCAL:
        leave_out = [paths.state, paths.cache, paths.runtime]
        if store.url.startswith("file://"):
            leave_out.append(Path(unquote(store.url[len("file://") :])))
        yield local_source(Path(request.source), skip_unreadable=request.skip_unreadable, leave_out=leave_out), ()
    elif request.kind is SourceKind.BUCKET:
        async with _bucket(request, store) as opened:
            yield opened
    else:
        from gridfs.create.archive import http_archive

        yield http_archive(request.source, ensure_private(paths.state)), ()


def bucket_of(source: Source) -> SourceBucket:
    """Where the bytes of a no-copy version of *source* lie. Raises InvalidInput when that is no bucket."""
    bucket = getattr(source, "bucket", None)
    if not isinstance(bucket, SourceBucket):
        raise InvalidInput(f"--no-copy can't be used with '{source.label}'", remedy="only what lies in a bucket can")
    return bucket


@asynccontextmanager
async def _bucket(
    request: CreateRequest, version_store: StoreSettings
) -> AsyncIterator[tuple[ListedSource, tuple[str, ...]]]:
    from gridfs.create.bucket import BucketSource
    from gridfs.store.objects import BucketStore
    from gridfs.store.passthrough import PassthroughStore
    from gridfs.store.s3_bucket import S3Bucket
    from gridfs.store.s3_reach import reach, region_note
    from gridfs.store.stack import parse_bucket_url, wrap_store

    if not request.source.startswith("s3://"):
        raise Unsupported(f"{request.source} can't be a source: only S3 is supported", remedy="give s3://BUCKET/PREFIX")
    url = parse_bucket_url(request.source)
    settings = request.source_settings or StoreSettings(url=request.source)
    aws = AwsEnvironment.from_environment()
    reached = await reach(url.bucket, url.prefix, settings, aws)
    note = await region_note(reached, settings, aws)
    control = S3Bucket(reached.address)
    store = wrap_store(PassthroughStore(BucketStore(reached.address)))
    try:
        selection = Selection(request.include, request.exclude)
        leave_out = _datastores_in(reached.address, version_store, aws)
        yield BucketSource(reached, control, store, selection, leave_out), (note,) if note else ()
    finally:
        with trio.CancelScope(shield=True):
            await control.aclose()
            await store.aclose()


def _datastores_in(bucket: BucketAddress, store: StoreSettings, aws: AwsEnvironment) -> str | None:
    """What the keys of *store* begin with, if it lies in that *bucket*."""
    if not store.url.startswith("s3://") or endpoint_of(store.endpoint_url, None, aws) != bucket.endpoint_url:
        return None
    name, _, prefix = store.url[len("s3://") :].rstrip("/").partition("/")
    return (f"{prefix}/{ROOT}" if prefix else ROOT) if name == bucket.bucket else None
