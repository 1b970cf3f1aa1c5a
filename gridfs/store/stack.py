"""From settings to a store that is ready to use: retry(limit(trace(raw))).

`file:///...` and plain paths are directories, `s3://bucket/prefix` is a bucket. Keys in the environment and unsigned
requests go straight to the byte client; anything else of the AWS credential chain is asked of store/s3, which is
imported only then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from gridfs.config import AwsEnvironment, StoreSettings
from gridfs.errors import InvalidInput, Unsupported
from gridfs.light import expanded
from gridfs.selection import endpoint_of
from gridfs.store.address import BucketAddress, ProvidedCredentials, StaticCredentials
from gridfs.store.base import ObjectStore
from gridfs.store.limit import LimitedStore
from gridfs.store.retry import RetryingStore, RetryPolicy, persist
from gridfs.store.trace import StoreStatistics, TracedStore

_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")  # also those of Ceph and of AWS before 2018


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """`s3://bucket/prefix`, taken apart."""

    bucket: str
    prefix: str
    """As given, without the slash after the bucket."""


async def open_store(
    settings: StoreSettings,
    *,
    aws: AwsEnvironment | None = None,
    retry: RetryPolicy | None = None,
    statistics: StoreStatistics | None = None,
) -> ObjectStore:
    """The store that *settings* names, with retries, a limit and *statistics*. Makes no request of it yet.

    Raises InvalidInput for what is no address of a store, Unsupported for schemes that gridfs doesn't know,
    AccessDenied when no credentials can be found.
    """
    raw = await _open_raw(settings, aws or AwsEnvironment.from_environment())
    return wrap_store(raw, retry=retry, statistics=statistics)


def wrap_store(
    raw: ObjectStore, *, retry: RetryPolicy | None = None, statistics: StoreStatistics | None = None
) -> ObjectStore:
    """*raw* with retries, a limit and statistics around it."""
    return RetryingStore(LimitedStore(TracedStore(raw, statistics or StoreStatistics())), retry)


async def _open_raw(settings: StoreSettings, aws: AwsEnvironment) -> ObjectStore:
    scheme = scheme_of(settings.url)
    if scheme in ("", "file"):
        from gridfs.store.directory import DirectoryStore

        store = DirectoryStore(directory_of(settings.url))
        store.check()
        return store
    if scheme == "s3":
        from gridfs.store.objects import BucketStore
        from gridfs.store.passthrough import PassthroughStore

        url = parse_bucket_url(settings.url)
        prefix = url.prefix.strip("/")
        address = await bucket_address(url.bucket, settings, aws)
        return BucketStore(address, f"{prefix}/") if prefix else PassthroughStore(BucketStore(address))
    raise Unsupported(f"{settings.url}: stores of scheme {scheme}:// are not supported", remedy="use file:// or s3://")


def scheme_of(url: str) -> str:
    """The scheme of *url* in lower case; empty for a plain path."""
    head, separator, _ = url.partition("://")
    return head.lower() if separator and head.isalnum() else ""


def directory_of(url: str) -> Path:
    """The directory that `file:///path` or a plain path names."""
    if scheme_of(url) == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InvalidInput(f"{url} names a directory of another machine", remedy="write file:///PATH")
        path = Path(unquote(parts.path, errors="surrogateescape"))
    else:
        path = Path(expanded(url))
    if not path.is_absolute():
        raise InvalidInput(
            f"the store {url!r} is no absolute path", remedy="write file:///PATH, /PATH or s3://BUCKET/PREFIX"
        )
    return path


def parse_bucket_url(url: str) -> BucketUrl:
    """Takes `s3://bucket/prefix` apart, the scheme in any case; nothing in a key is decoded."""
    bucket, _, prefix = url.partition("://")[2].partition("/")
    if scheme_of(url) != "s3" or _BUCKET_NAME.fullmatch(bucket) is None:
        raise InvalidInput(f"{url!r} names no bucket", remedy="write s3://BUCKET or s3://BUCKET/PREFIX")
    return BucketUrl(bucket, prefix)


async def bucket_address(bucket: str, settings: StoreSettings, aws: AwsEnvironment) -> BucketAddress:
    """How to reach *bucket*: by the settings, else the environment, else the AWS configuration, else AWS itself."""
    endpoint_url = endpoint_of(settings.endpoint_url, None, aws)
    region = settings.region or aws.region
    static = aws.access_key_id and aws.secret_access_key and settings.profile is None
    credentials: StaticCredentials | Callable[[], ProvidedCredentials] | None = None
    if settings.sign and static:
        credentials = StaticCredentials(aws.access_key_id or "", aws.secret_access_key or "", aws.session_token)
    if (settings.sign and not static) or (region is None and endpoint_url is None):
        from gridfs.store.s3 import AwsSession

        session = AwsSession(settings.profile)
        region = region or session.region()
        if region is None and endpoint_url is None:
            region = await persist(lambda: session.bucket_region(bucket), RetryPolicy(), Random())
        if settings.sign and not static:
            credentials = await session.credential_provider()
    return BucketAddress(
        bucket,
        region or "us-east-1",
        endpoint_url,
        credentials,
        requester_pays=settings.requester_pays,
        is_direct=not aws.has_proxy,
    )
