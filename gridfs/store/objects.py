"""The client that moves bytes to and from S3: obstore, whose synchronous calls run in threads without the GIL.

Reads take a shorter way where they can (wire.py), and come here when that has no answer. A read is one GET with a
range; a server that answers with the whole object, with fewer bytes or with another ETag is an error, never data. A
stream is consumed by one worker thread, which hands each chunk to the trio thread and stays at most _CHUNKS_AHEAD
chunks ahead of it. obstore's own retries are off (its defaults block for 180 s) but for the parts of multipart uploads,
which nobody else can repeat; objects_client.py makes the clients, with their timeouts, and knows what their exceptions
mean.

Its paths can hold no empty component, `.`, `..` or control character; a leading or trailing slash would be dropped
silently, and another object read. Such keys are refused here before they reach it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio

from gridfs.errors import (
    CredentialsRefused,
    GridfsError,
    InvalidInput,
    ObjectChanged,
    ObjectExists,
    StoreUnavailable,
    Unsupported,
)
from gridfs.model import Buffer, ByteRange
from gridfs.store.address import BucketAddress, is_addressable
from gridfs.store.base import Deliver, ObjectHead, ignore, placing
from gridfs.store.exchange import Broken, Refused, Unanswered
from gridfs.store.object_errors import error_of, parse_refusal
from gridfs.store.objects_client import (
    READ_THREADS,
    UPLOAD_PART_SIZE_BYTES,
    Purpose,
    error_of_obstore,
    get_part,
    make_client,
    parse_obstore,
    parts_of_upload,
)
from gridfs.store.relay import Relay
from gridfs.store.wire import Wire

if TYPE_CHECKING:
    from obstore.store import S3Store

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_CHUNK_SIZE_BYTES = 256 << 10
_CHUNKS_AHEAD = 4
_DECRYPTED_ASIDE_BYTES = 512 << 10
"""From here on in a thread without the GIL: what readers wait for is answered meanwhile."""
_WRITE_THREADS, _CONTROL_THREADS = 32, 16


class BucketStore:
    """An ObjectStore in a bucket, below *prefix* (empty, or with a final slash)."""

    def __init__(self, address: BucketAddress, prefix: str = "") -> None:
        self.address = address
        self._prefix = prefix
        self._clients: dict[Purpose, S3Store] = {}
        self._wire = Wire(address) if address.is_direct else None
        self._read_limiter = trio.CapacityLimiter(READ_THREADS)
        self._write_limiter = trio.CapacityLimiter(_WRITE_THREADS)
        self._control_limiter = trio.CapacityLimiter(_CONTROL_THREADS)

    @property
    def url(self) -> str:
        return f"s3://{self.address.bucket}/{self._prefix}".rstrip("/")

    async def prepare(self) -> None:
        if self._wire is not None:
            await self._wire.prepare()
        else:
            await trio.lowlevel.checkpoint()

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        path, wire = self._prefix + key, self._wire_for(byte_range)
        return wire is not None and is_addressable(path) and wire.begin(path, byte_range, if_match=if_match)

    def _wire_for(self, byte_range: ByteRange) -> Wire | None:
        """The short way, for what is received into a buffer that is there, if it is the better one."""
        wire = self._wire
        return None if wire is None or (wire.is_encrypted and byte_range.size_bytes >= _DECRYPTED_ASIDE_BYTES) else wire

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        path = self._path(key)
        if self._wire is not None:
            buffer = memoryview(bytearray(byte_range.size_bytes))
            if await self._by_wire(self._wire, path, byte_range, buffer, ignore, if_match):
                return buffer.toreadonly()
        client = self._client("read")

        def fetch() -> memoryview:
            return memoryview(get_part(client, path, byte_range, if_match).bytes())

        answer = await self._call(fetch, key, self._read_limiter)
        if answer.nbytes != byte_range.size_bytes:
            raise StoreUnavailable(f"{self.url}/{key}: {answer.nbytes} bytes came instead of {byte_range.size_bytes}")
        return answer

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        path, wire = self._path(key), self._wire_for(byte_range)
        if (
            into is not None
            and wire is not None
            and await self._by_wire(wire, path, byte_range, into, deliver, if_match)
        ):
            return
        client = self._client("read")
        relay = Relay(placing(deliver, into), chunks_ahead=_CHUNKS_AHEAD)

        def fetch() -> None:
            for chunk in get_part(client, path, byte_range, if_match).stream(min_chunk_size=_CHUNK_SIZE_BYTES):
                if not relay.send(memoryview(chunk)):
                    return

        try:
            await self._call(fetch, key, self._read_limiter)
        finally:
            relay.stop()
        if relay.failure is not None:
            raise relay.failure
        if relay.delivered_bytes != byte_range.size_bytes:
            raise StoreUnavailable(
                f"{self.url}/{key} ended after {relay.delivered_bytes} of {byte_range.size_bytes} bytes"
            )

    async def _by_wire(
        self,
        wire: Wire,
        path: str,
        byte_range: ByteRange,
        buffer: memoryview,
        deliver: Deliver,
        if_match: str | None,
        *,
        is_signed_anew: bool = False,
    ) -> bool:
        """Whether the short way had the bytes, which are in *buffer* then."""
        key = path[len(self._prefix) :]
        try:
            await wire.read_into(path, byte_range, buffer, deliver, if_match=if_match)
        except Unanswered as reason:
            logger.debug("%s/%s is read by the other client: %s", self.url, key, reason)
            return False
        except Refused as refusal:
            answer = parse_refusal(refusal.status, refusal.body.decode("utf-8", "replace"))
            meaning = error_of(answer, where=self.url, key=key)
            if is_signed_anew or self.address.credentials is None or not isinstance(meaning, CredentialsRefused):
                raise meaning from refusal
            wire.forget_keys()
            return await self._by_wire(wire, path, byte_range, buffer, deliver, if_match, is_signed_anew=True)
        except Broken as error:
            raise StoreUnavailable(
                f"{self.url}: {self.address.endpoint} failed ({error})", remedy="check the network and --endpoint-url"
            ) from error
        return True

    async def get(self, key: str) -> memoryview:
        import obstore

        path, client = self._path(key), self._client("read")
        return await self._call(lambda: memoryview(obstore.get(client, path).bytes()), key, self._read_limiter)

    async def head(self, key: str) -> ObjectHead:
        import obstore

        path, client = self._path(key), self._client("read")
        return self._head(await self._call(lambda: obstore.head(client, path), key, self._control_limiter))

    async def put(self, key: str, data: Buffer) -> None:
        await self._put(key, data, "overwrite")

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        await self._put(key, data, "create")

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        first, ended = await _take(chunks, UPLOAD_PART_SIZE_BYTES)
        if ended:
            await self.put(key, first)
            return len(first)
        written = len(first)
        path, client = self._path(key), self._client("upload")

        def body() -> Iterator[Buffer]:
            nonlocal written
            yield first
            while (chunk := trio.from_thread.run(_next_or_none, chunks)) is not None:
                written += memoryview(chunk).nbytes
                yield chunk

        def upload() -> None:
            import obstore

            part_size_bytes, at_once = parts_of_upload(size_hint_bytes)
            obstore.put(client, path, body(), chunk_size=part_size_bytes, max_concurrency=at_once)

        try:
            # Not abandoned: the thread calls back for chunks, is told of the cancellation there, and aborts the upload.
            await self._call(upload, key, self._write_limiter, abandon=False)
        except GridfsError:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise
        return written

    async def verify_create_only(self) -> None:
        key = f"{uuid.uuid4().hex}.probe"
        await self.put_if_absent(key, b"gridfs probes whether this store honours If-None-Match")
        try:
            await self.put_if_absent(key, b"gridfs probes whether this store honours If-None-Match")
        except ObjectExists:
            return
        finally:
            with trio.CancelScope(shield=True):
                await self.delete(key)
        raise Unsupported(
            f"the store {self.url} ignores create-only puts (If-None-Match), so two creations could make one version",
            remedy="use a store that honours them: AWS S3, Ceph 18 or newer, MinIO, a directory",
        )

    async def delete(self, key: str) -> None:
        import obstore

        path, client = self._path(key), self._client("write")
        await self._call(lambda: obstore.delete(client, path), key, self._control_limiter)

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        import obstore

        client = self._client("read")
        whole = self._prefix + prefix
        directory = whole.rpartition("/")[0]  # obstore takes whole components only
        pages = await self._call(
            lambda: obstore.list(client, prefix=directory or None, chunk_size=1000), None, self._control_limiter
        )
        while page := await self._call(lambda: next(pages, None), None, self._control_limiter):
            for item in page:
                if item["path"].startswith(whole):
                    yield self._head(item)

    async def list_directories(self, prefix: str) -> Sequence[str]:
        import obstore

        client = self._client("read")
        whole = (self._prefix + prefix).rstrip("/")
        answer = await self._call(
            lambda: obstore.list_with_delimiter(client, prefix=whole or None), None, self._control_limiter
        )
        return sorted(directory.rstrip("/").rpartition("/")[2] for directory in answer["common_prefixes"])

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()  # a put that was answered is durable

    async def aclose(self) -> None:
        self._clients.clear()
        if self._wire is not None:
            self._wire.close()
        await trio.lowlevel.checkpoint()

    def _path(self, key: str) -> str:
        path = self._prefix + key
        if not is_addressable(path):
            raise InvalidInput(f"the key {path!r} of bucket {self.address.bucket} can't be addressed by this client")
        return path

    def _head(self, meta: Any) -> ObjectHead:
        modified_ns = int(meta["last_modified"].timestamp()) * 1_000_000_000  # a HEAD knows seconds only
        return ObjectHead(meta["path"][len(self._prefix) :], meta["size"], meta["e_tag"], modified_ns)

    async def _put(self, key: str, data: Buffer, mode: Literal["overwrite", "create"]) -> None:
        import obstore

        path, client = self._path(key), self._client("write")
        try:
            await self._call(
                lambda: obstore.put(client, path, data, mode=mode, use_multipart=False), key, self._write_limiter
            )
        except ObjectChanged as error:  # 412
            raise ObjectExists(f"{self.url}/{key} exists already") from error

    async def _call(
        self, function: Callable[[], _T], key: str | None, limiter: trio.CapacityLimiter, *, abandon: bool = True
    ) -> _T:
        def mapped() -> _T:
            try:
                return function()
            except (GridfsError, trio.Cancelled):
                raise
            except Exception as error:
                raise error_of_obstore(error, self.address, where=self.url, key=key) from error

        return await trio.to_thread.run_sync(mapped, limiter=limiter, abandon_on_cancel=abandon)

    def _client(self, purpose: Purpose) -> S3Store:
        """Clients are made at first use (5 ms, the first 20 ms): a process that only reads makes one."""
        client = self._clients.get(purpose)
        if client is None:
            from obstore.exceptions import BaseError

            try:
                client = self._clients[purpose] = make_client(self.address, purpose)
            except BaseError as error:  # it reads variables of the environment, more of them than AWS's own client
                raise InvalidInput(
                    f"{self.url}: {parse_obstore(str(error)).message}", remedy="check the AWS_* variables"
                ) from error
        return client


async def _take(chunks: AsyncIterator[Buffer], size_bytes: int) -> tuple[bytearray, bool]:
    """The first *size_bytes* or more of a stream, and whether that was all of it."""
    taken = bytearray()
    async for chunk in chunks:
        taken += chunk
        if len(taken) >= size_bytes:
            return taken, False
    return taken, True


async def _next_or_none(chunks: AsyncIterator[Buffer]) -> Buffer | None:
    return await anext(chunks, None)
