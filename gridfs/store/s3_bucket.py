"""One bucket through aiobotocore: its pages, its heads, and the few objects whose keys obstore can't name.

Those are keys with control characters; a mount that has some reads them here, at a seventh of the speed (design:
2.5 ms a request instead of 0.35). Both clients pass the same contract suite.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import trio

from gridfs.errors import ObjectChanged, StoreRefused, StoreUnavailable
from gridfs.model import ByteRange
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import Deliver, ObjectHead, placing
from gridfs.store.listing import PAGE_KEYS, Page
from gridfs.store.s3 import AwsSession, CredentialProvider, map_botocore_error
from gridfs.store.s3_page import ROWS, heads_of, read_pages_fast

_CHUNK_SIZE_BYTES = 256 << 10


class S3Bucket:
    """The bucket at *address*. Its client is made at first use; `aclose` ends it."""

    def __init__(self, address: BucketAddress) -> None:
        self.address = address
        self._stack = AsyncExitStack()
        self._made: Any = None
        self._making = trio.Lock()

    @property
    def url(self) -> str:
        return f"s3://{self.address.bucket}"

    async def list_page(
        self,
        prefix: str,
        start_after: str = "",
        token: str | None = None,
        most: int = PAGE_KEYS,
        end: str | None = None,
    ) -> Page:
        """The next at most *most* keys that begin with *prefix*, after *start_after* or where *token* says.

        Keys above *end* are not wanted: the page that reaches them is the last.
        """
        wanted: dict[str, object] = {"Bucket": self.address.bucket, "Prefix": prefix, "MaxKeys": most}
        if token is not None:
            wanted["ContinuationToken"] = token
        elif start_after:
            wanted["StartAfter"] = start_after
        with map_botocore_error(self.url, None):
            answer = await (await self._client()).list_objects_v2(**wanted, **self._payer())
        rows = answer.get(ROWS)
        if rows is None:
            raise StoreUnavailable(f"{self.url}: what {self.address.endpoint} answered is no listing")
        is_last = not answer.get("IsTruncated", False)
        if end is not None and rows and rows[-1][0] > end:
            rows, is_last = [row for row in rows if row[0] <= end], True
        try:
            heads = heads_of(rows)
        except ValueError as error:
            raise StoreUnavailable(f"{self.url}: a listing is malformed: {error}") from error
        return Page(heads, is_last, answer.get("NextContinuationToken"))

    async def head(self, key: str) -> ObjectHead:
        """As ObjectStore.head."""
        answer = await self._head(key)
        modified_ns = int(answer["LastModified"].timestamp()) * 1_000_000_000
        return ObjectHead(key, answer["ContentLength"], answer.get("ETag"), modified_ns, answer.get("StorageClass"))

    async def has_md5_etag(self, key: str) -> bool:
        """Whether the ETag of an object that came in one piece is its MD5: not under KMS and SSE-C encryption."""
        answer = await self._head(key)
        return not (answer.get("ServerSideEncryption", "").startswith("aws:kms") or answer.get("SSECustomerAlgorithm"))

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        """As ObjectStore.get_range."""
        received = bytearray()
        await self.stream_range(key, byte_range, received.extend, if_match=if_match)
        return memoryview(received).toreadonly()

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        """As ObjectStore.stream_range."""
        wanted = {"Bucket": self.address.bucket, "Key": key, "Range": f"bytes={byte_range.start}-{byte_range.stop - 1}"}
        if if_match is not None:
            wanted["IfMatch"] = if_match
        received_bytes, place = 0, placing(deliver, into)
        with map_botocore_error(self.url, key):
            answer = await (await self._client()).get_object(**wanted, **self._payer())
            async with answer["Body"] as body:
                self._check(key, answer, byte_range, if_match)
                async for chunk in body.iter_chunks(_CHUNK_SIZE_BYTES):
                    received_bytes += len(chunk)
                    place(memoryview(chunk))
        if received_bytes != byte_range.size_bytes:
            raise StoreUnavailable(f"{self.url}/{key} ended after {received_bytes} of {byte_range.size_bytes} bytes")

    async def get(self, key: str) -> memoryview:
        """As ObjectStore.get."""
        with map_botocore_error(self.url, key):
            answer = await (await self._client()).get_object(Bucket=self.address.bucket, Key=key, **self._payer())
            async with answer["Body"] as body:
                return memoryview(await body.read())

    async def aclose(self) -> None:
        """Idempotent."""
        await self._stack.aclose()

    def _check(self, key: str, answer: dict[str, Any], byte_range: ByteRange, if_match: str | None) -> None:
        if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            raise StoreRefused(f"{self.url}: the server answers a ranged GET with the whole object")
        if if_match is not None and answer.get("ETag") != if_match:
            raise ObjectChanged(f"{self.url}/{key} has ETag {answer.get('ETag')} and not {if_match}")
        if answer["ContentLength"] != byte_range.size_bytes:
            raise StoreRefused(f"{self.url}/{key}: {answer['ContentLength']} bytes came of {byte_range.size_bytes}")

    async def _head(self, key: str) -> Any:
        with map_botocore_error(self.url, key):
            return await (await self._client()).head_object(Bucket=self.address.bucket, Key=key, **self._payer())

    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self.address.requester_pays else {}

    async def _client(self) -> Any:
        async with self._making:
            if self._made is None:
                credentials = self.address.credentials
                session = credentials.session if isinstance(credentials, CredentialProvider) else AwsSession()
                self._made = await self._stack.enter_async_context(
                    session.client(
                        region=self.address.region,
                        endpoint_url=self.address.endpoint_url,
                        signed=credentials is not None,
                        keys=credentials if isinstance(credentials, StaticCredentials) else None,
                    )
                )
                read_pages_fast(self._made.meta.events)
            return self._made
