"""The base of what wraps a store: an ObjectStore that passes every call through one method.

A behaviour (retry, limit, trace) overrides `_around`, which sees what is asked and a way to do it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from gridfs.model import Buffer, ByteRange
from gridfs.store.base import Deliver, ObjectHead, ObjectStore

_T = TypeVar("_T")


class Operation(NamedTuple):
    """One call of a store, as a wrapper sees it."""

    name: str
    key: str
    size_bytes: int = 0
    """Of a range or a body, where it is known."""


class WrappedStore:
    """An ObjectStore that does what *inner* does."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[_T]]) -> _T:
        return await call()

    @property
    def url(self) -> str:
        return self._inner.url

    async def prepare(self) -> None:
        await self._inner.prepare()

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        return self._inner.begin_range(key, byte_range, if_match=if_match)

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        operation = Operation("get_range", key, byte_range.size_bytes)
        return await self._around(operation, lambda: self._inner.get_range(key, byte_range, if_match=if_match))

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        operation = Operation("stream_range", key, byte_range.size_bytes)
        await self._around(
            operation, lambda: self._inner.stream_range(key, byte_range, deliver, if_match=if_match, into=into)
        )

    async def get(self, key: str) -> memoryview:
        return await self._around(Operation("get", key), lambda: self._inner.get(key))

    async def head(self, key: str) -> ObjectHead:
        return await self._around(Operation("head", key), lambda: self._inner.head(key))

    async def put(self, key: str, data: Buffer) -> None:
        operation = Operation("put", key, memoryview(data).nbytes)
        await self._around(operation, lambda: self._inner.put(key, data))

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        operation = Operation("put_stream", key, size_hint_bytes)
        return await self._around(
            operation, lambda: self._inner.put_stream(key, chunks, size_hint_bytes=size_hint_bytes)
        )

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        operation = Operation("put_if_absent", key, memoryview(data).nbytes)
        await self._around(operation, lambda: self._inner.put_if_absent(key, data))

    async def verify_create_only(self) -> None:
        await self._around(Operation("verify_create_only", ""), self._inner.verify_create_only)

    async def delete(self, key: str) -> None:
        await self._around(Operation("delete", key), lambda: self._inner.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        async for head in self._inner.list(prefix):  # lazily, so no single call to wrap
            yield head

    async def list_directories(self, prefix: str) -> Sequence[str]:
        return await self._around(Operation("list_directories", prefix), lambda: self._inner.list_directories(prefix))

    async def sync(self) -> None:
        await self._inner.sync()

    async def aclose(self) -> None:
        await self._inner.aclose()
