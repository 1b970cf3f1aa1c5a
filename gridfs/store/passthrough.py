"""Reads a bucket by two clients: obstore wherever it can name the key, aiobotocore for the others.

Keys with control characters are the others; they occur only in buckets of someone else (no-copy versions). aiobotocore
is imported when the first one is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridfs.model import ByteRange
from gridfs.store.address import is_addressable
from gridfs.store.base import Deliver, ObjectHead
from gridfs.store.objects import BucketStore
from gridfs.store.wrap import WrappedStore

if TYPE_CHECKING:
    from gridfs.store.s3_bucket import S3Bucket


class PassthroughStore(WrappedStore):
    """An ObjectStore that also reads what *inner*, a whole bucket, can't address; it writes what *inner* writes."""

    def __init__(self, inner: BucketStore) -> None:
        super().__init__(inner)
        self._address = inner.address
        self._other: S3Bucket | None = None

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        if is_addressable(key):
            return await self._inner.get_range(key, byte_range, if_match=if_match)
        return await self._control().get_range(key, byte_range, if_match=if_match)

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        if is_addressable(key):
            await self._inner.stream_range(key, byte_range, deliver, if_match=if_match, into=into)
        else:
            await self._control().stream_range(key, byte_range, deliver, if_match=if_match, into=into)

    async def get(self, key: str) -> memoryview:
        return await (self._inner.get(key) if is_addressable(key) else self._control().get(key))

    async def head(self, key: str) -> ObjectHead:
        return await (self._inner.head(key) if is_addressable(key) else self._control().head(key))

    async def aclose(self) -> None:
        if self._other is not None:
            await self._other.aclose()
        await self._inner.aclose()

    def _control(self) -> S3Bucket:
        if self._other is None:
            from gridfs.store.s3_bucket import S3Bucket

            self._other = S3Bucket(self._address)
        return self._other
