"""Tries again what may work the second time, until a deadline.

Retryable is what its exception says (`GridfsError.retryable`). The pauses grow by a factor and are shortened by chance
(jitter), so that a hundred jobs that failed together do not come back together. What was already delivered of a stream
is not fetched again. A create-only put whose answer was lost may find its own object: it has succeeded if the object
has its bytes. A listing is begun anew, and names only what it has not named before; each failure of one that gets on
has all of the time. `put_stream` is not repeated, since its chunks are gone; the client repeats its parts.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from math import inf
from random import Random
from typing import TypeVar

import trio

from gridfs.errors import GridfsError, ObjectExists, StoreUnavailable, StoreUnreachable
from gridfs.model import Buffer, ByteRange
from gridfs.store.base import Deliver, ObjectHead, ObjectStore
from gridfs.store.wrap import Operation, WrappedStore

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to keep trying, and how patiently."""

    deadline_s: float = 20.0
    """From the first attempt to the start of the last one; as long as a read may take (config.READ_TIMEOUT_S)."""
    first_pause_s: float = 0.1
    """A momentary 503 of S3 is over by then."""
    largest_pause_s: float = 5.0
    factor: float = 2.0
    unreachable_deadline_s: float = inf
    """Of a store that has never answered and has nobody at its address, where it is less than *deadline_s*: someone
    waits who may have mistyped the address. One that has answered is taken to be restarting."""

    def ends_s(self, started_s: float, error: GridfsError, *, has_answered: bool) -> float:
        """When an operation that began at *started_s* and failed by *error* is not tried again any more."""
        is_absent = isinstance(error, StoreUnreachable) and not has_answered
        return started_s + (min(self.deadline_s, self.unreachable_deadline_s) if is_absent else self.deadline_s)


def pauses(policy: RetryPolicy, random: Random) -> Iterator[float]:
    """The pauses before the second attempt, the third, ..., in seconds; each a random half to whole of its due."""
    due_s = policy.first_pause_s
    while True:
        yield due_s * random.uniform(0.5, 1.0)
        due_s = min(due_s * policy.factor, policy.largest_pause_s)


async def persist(call: Callable[[], Awaitable[_T]], policy: RetryPolicy, random: Random) -> _T:
    """What *call* returns, which is called until it raises nothing that is retryable, or the deadline has passed."""
    started_s = trio.current_time()
    for pause_s in pauses(policy, random):
        try:
            return await call()
        except GridfsError as error:
            ends_s = policy.ends_s(started_s, error, has_answered=False)
            if not error.retryable or trio.current_time() + pause_s > ends_s:
                raise
            await trio.sleep(pause_s)
    raise AssertionError("pauses never end")


class RetryingStore(WrappedStore):
    """An ObjectStore that repeats the retryable failures of *inner*."""

    def __init__(self, inner: ObjectStore, policy: RetryPolicy | None = None, *, random: Random | None = None) -> None:
        super().__init__(inner)
        self._policy = policy or RetryPolicy()
        self._random = random or Random()
        self._has_answered = False
        self.repeated = 0
        """Attempts that were not the first."""

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[_T]]) -> _T:
        if operation.name == "put_stream":
            return await call()
        patience = _Patience(self, operation)
        while True:
            try:
                result = await call()
                self._has_answered = True
                return result
            except GridfsError as error:
                await patience.pause_or_raise(error)

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        position = byte_range.start

        def advance(chunk: memoryview) -> None:
            nonlocal position
            deliver(chunk)
            position += chunk.nbytes

        async def rest() -> None:
            if position < byte_range.stop:
                lacking = ByteRange(position, byte_range.stop) if position > byte_range.start else byte_range
                where = None if into is None else into[position - byte_range.start :]
                await self._inner.stream_range(key, lacking, advance, if_match=if_match, into=where)

        await self._around(Operation("stream_range", key, byte_range.size_bytes), rest)

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                await self._inner.put_if_absent(key, data)
            except ObjectExists:
                if attempts == 1 or await self._inner.get(key) != memoryview(data):
                    raise

        await self._around(Operation("put_if_absent", key, memoryview(data).nbytes), attempt)

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        patience = _Patience(self, Operation("list", prefix))
        seen: set[str] = set()
        seen_before = 0
        while True:
            try:
                async for head in self._inner.list(prefix):
                    if head.key not in seen:
                        seen.add(head.key)
                        yield head
                return
            except GridfsError as error:
                if len(seen) > seen_before:  # it got further, which may have taken an hour: this is another failure
                    patience, seen_before = _Patience(self, Operation("list", prefix)), len(seen)
                await patience.pause_or_raise(error)


class _Patience:
    """What is left of the time for one operation."""

    def __init__(self, store: RetryingStore, operation: Operation) -> None:
        self._store = store
        self._operation = operation
        self._started_s = trio.current_time()
        self._pauses = pauses(store._policy, store._random)

    async def pause_or_raise(self, error: GridfsError) -> None:
        pause_s = next(self._pauses)
        if not isinstance(error, StoreUnavailable):
            self._store._has_answered = True
        ends_s = self._store._policy.ends_s(self._started_s, error, has_answered=self._store._has_answered)
        if not error.retryable or trio.current_time() + pause_s > ends_s:
            raise error
        _log.debug("%s of %s again in %.2f s: %s", self._operation.name, self._operation.key, pause_s, error)
        self._store.repeated += 1
        await trio.sleep(pause_s)
