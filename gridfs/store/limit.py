"""How many do something at once: a limit for those who do it thousands of times a second, and a store under one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from gridfs.model import ByteRange
from gridfs.store.base import ObjectStore
from gridfs.store.wrap import Operation, WrappedStore

_T = TypeVar("_T")

REQUESTS_AT_ONCE = 128
"""In all classes together: more connections from one process gain nothing on two cores, and servers begin to say 503.
What waits for what is decided above, in read/fetch.py, whose own limits leave room here for a reader that waits."""


class Limit:
    """Holds one of *count* places in an `async with` block; those who wait come in their order.

    Who finds a place free goes on at once: trio's own limiters let every other task run first, which costs 40 us.
    """

    def __init__(self, count: int) -> None:
        self._free = trio.Semaphore(count)

    @property
    def is_free(self) -> bool:
        """Whether the next one need not wait."""
        return self._free.value > 0

    async def __aenter__(self) -> None:
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            await self._free.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class LimitedStore(WrappedStore):
    """An ObjectStore with at most *limit* calls of *inner* under way."""

    def __init__(self, inner: ObjectStore, limit: int = REQUESTS_AT_ONCE) -> None:
        super().__init__(inner)
        self._limit = Limit(limit)

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        return self._limit.is_free and self._inner.begin_range(key, byte_range, if_match=if_match)

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[_T]]) -> _T:
        async with self._limit:
            return await call()
