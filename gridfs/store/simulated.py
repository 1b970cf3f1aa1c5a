"""A deterministic object store in memory: latency, bandwidth and faults by seed, on trio's clock.

Tests drive the read path with it under `trio.testing.MockClock`, so that a minute of network costs no time and the
same seed gives the same run. Each request takes one latency, then its bytes at the bandwidth of a connection, a chunk
at a time; what is put becomes visible when its last byte has arrived. Faults are drawn once for each request, when it
starts, from the seed: whether the request fails then depends on the order in which requests start and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Self

import trio

from gridfs.errors import GridfsError, ObjectChanged, ObjectExists, ObjectMissing, StoreRefused, StoreUnavailable
from gridfs.model import Buffer, ByteRange
from gridfs.store.base import Deliver, ObjectHead, placing

CHUNK_SIZE_BYTES = 256 << 10
"""What a stream delivers at once, as the real client does (store/objects.py)."""


@dataclass(frozen=True, slots=True)
class Network:
    """How long a request takes."""

    latency_s: float = 0.0
    """Until the first byte; S3 takes 10 to 30 ms."""
    connection_bytes_per_s: float | None = None
    """Of one request; None: at once. S3 gives about 90 MB/s."""


class Fault(StrEnum):
    """What can happen to a request."""

    UNAVAILABLE = "unavailable"
    """503 instead of an answer."""
    TRUNCATED = "truncated"
    """The connection ends in the middle of the body; of a put: before anything is stored."""
    STALLED = "stalled"
    """Nothing arrives any more, until the caller gives up."""
    CORRUPT = "corrupt"
    """One byte of a GET is another one, and nothing tells."""
    LOST_ANSWER = "lost-answer"
    """A put or delete takes effect, and the answer is lost."""


_READ_FAULTS = frozenset({Fault.UNAVAILABLE, Fault.TRUNCATED, Fault.STALLED, Fault.CORRUPT})
_WRITE_FAULTS = frozenset({Fault.UNAVAILABLE, Fault.TRUNCATED, Fault.STALLED, Fault.LOST_ANSWER})


@dataclass(slots=True)
class Request:
    """One request as the store saw it, for the assertions of tests."""

    operation: str
    key: str
    byte_range: ByteRange | None
    started_s: float
    fault: Fault | GridfsError | None
    finished_s: float | None = None
    """None while it is under way and when the caller gave up."""
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    last_modified_ns: int
    storage_class: str | None = None


class SimulatedStore:
    """An ObjectStore whose every delay and failure a test decides.

    *fault_rates* gives a probability for each kind of fault; `inject` adds faults to the next requests for a key.
    """

    def __init__(
        self, network: Network | None = None, *, fault_rates: dict[Fault, float] | None = None, seed: int = 0
    ) -> None:
        self.network = network or Network()
        self.fault_rates = dict(fault_rates or {})
        self.requests: list[Request] = []
        self.peak_outstanding = 0
        self._outstanding = 0
        self._random = Random(seed)
        self._objects: dict[str, _Object] = {}
        self._injected: dict[str | None, deque[Fault | GridfsError]] = {}
        self._generation = 0

    # What a test does behind the back of the code under test.

    def place(self, key: str, data: Buffer, *, storage_class: str | None = None) -> ObjectHead:
        """Stores *data* at once and without a request; an object that is replaced gets a new ETag."""
        self._generation += 1
        raw = bytes(data)
        etag = f'"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"'
        self._objects[key] = _Object(raw, etag, self._generation * 1_000_000_000, storage_class)
        return self._head(key)

    def remove(self, key: str) -> None:
        """Removes an object at once and without a request."""
        del self._objects[key]

    def contents(self) -> dict[str, bytes]:
        """All objects."""
        return {key: stored.data for key, stored in self._objects.items()}

    def inject(self, fault: Fault | GridfsError, *, key: str | None = None, times: int = 1) -> None:
        """The next *times* requests for *key* (None: for any key) meet *fault*; an exception is raised as it is."""
        self._injected.setdefault(key, deque()).extend([fault] * times)

    def counts(self) -> Counter[str]:
        """Requests by operation."""
        return Counter(request.operation for request in self.requests)

    @property
    def sent_bytes(self) -> int:
        """Bytes that all GETs have delivered."""
        return sum(request.sent_bytes for request in self.requests)

    # ObjectStore

    @property
    def url(self) -> str:
        return "simulated://"

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        return False

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        answer = bytearray()
        await self._read("get_range", key, byte_range, answer.extend, if_match)
        return memoryview(answer).toreadonly()

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        await self._read("stream_range", key, byte_range, placing(deliver, into), if_match)

    async def get(self, key: str) -> memoryview:
        answer = bytearray()
        await self._read("get", key, None, answer.extend, None)
        return memoryview(answer).toreadonly()

    async def head(self, key: str) -> ObjectHead:
        async with _Exchange(self, "head", key, None, _READ_FAULTS) as exchange:
            await exchange.fail_or_wait()
            return self._head(key)

    async def put(self, key: str, data: Buffer) -> None:
        async with _Exchange(self, "put", key, None, _WRITE_FAULTS) as exchange:
            await exchange.fail_or_wait()
            await exchange.transfer_time(memoryview(data).nbytes)
            self.place(key, data)
            exchange.lose_answer()

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        async with _Exchange(self, "put_stream", key, None, _WRITE_FAULTS) as exchange:
            await exchange.fail_or_wait()
            body = bytearray()
            async for chunk in chunks:
                body += chunk
                await exchange.transfer_time(memoryview(chunk).nbytes)
            self.place(key, body)
            exchange.lose_answer()
            return len(body)

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        async with _Exchange(self, "put_if_absent", key, None, _WRITE_FAULTS) as exchange:
            await exchange.fail_or_wait()
            await exchange.transfer_time(memoryview(data).nbytes)
            if key in self._objects:
                raise ObjectExists(f"{key} exists already")
            self.place(key, data)
            exchange.lose_answer()

    async def verify_create_only(self) -> None:
        await trio.lowlevel.checkpoint()

    async def delete(self, key: str) -> None:
        async with _Exchange(self, "delete", key, None, _WRITE_FAULTS) as exchange:
            await exchange.fail_or_wait()
            self._objects.pop(key, None)
            exchange.lose_answer()

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        async with _Exchange(self, "list", prefix, None, frozenset({Fault.UNAVAILABLE})) as exchange:
            await exchange.fail_or_wait()
            heads = [self._head(key) for key in sorted(self._objects) if key.startswith(prefix)]
        for head in heads:
            yield head

    async def list_directories(self, prefix: str) -> Sequence[str]:
        names = {head.key[len(prefix) :].partition("/") async for head in self.list(prefix)}
        return sorted({name for name, slash, _ in names if slash})

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _head(self, key: str) -> ObjectHead:
        stored = self._lookup(key)
        return ObjectHead(key, len(stored.data), stored.etag, stored.last_modified_ns, stored.storage_class)

    def _lookup(self, key: str) -> _Object:
        try:
            return self._objects[key]
        except KeyError as error:
            raise ObjectMissing(f"there is no object {key} in {self.url}") from error

    def _draw(self, key: str, possible: frozenset[Fault]) -> Fault | GridfsError | None:
        """The fault of a request that starts now."""
        for injected in (self._injected.get(key), self._injected.get(None)):
            if injected:
                return injected.popleft()
        for fault, rate in self.fault_rates.items():
            if self._random.random() < rate and fault in possible:
                return fault
        return None

    async def _read(
        self, operation: str, key: str, byte_range: ByteRange | None, deliver: Deliver, if_match: str | None
    ) -> None:
        async with _Exchange(self, operation, key, byte_range, _READ_FAULTS) as exchange:
            await exchange.fail_or_wait()
            stored = self._lookup(key)  # the generation that answers is the one at the first byte, as of a real store
            if if_match is not None and if_match != stored.etag:
                raise ObjectChanged(f"{key} has ETag {stored.etag} and not {if_match}")
            start, stop = byte_range or ByteRange(0, len(stored.data))
            if byte_range is not None and not 0 <= start < stop <= len(stored.data):
                raise StoreRefused(f"bytes {start} to {stop} of {key} lie outside its {len(stored.data)} bytes")
            await exchange.send(stored.data[start:stop], deliver)


class _Exchange:
    """One request: its record, its fault and its share of time."""

    def __init__(
        self, store: SimulatedStore, operation: str, key: str, byte_range: ByteRange | None, possible: frozenset[Fault]
    ) -> None:
        self._store = store
        fault = store._draw(key, possible)
        self.record = Request(operation, key, byte_range, trio.current_time(), fault)

    async def __aenter__(self) -> Self:
        store = self._store
        store.requests.append(self.record)
        store._outstanding += 1
        store.peak_outstanding = max(store.peak_outstanding, store._outstanding)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._store._outstanding -= 1
        if not isinstance(error, trio.Cancelled):
            self.record.finished_s = trio.current_time()

    async def fail_or_wait(self) -> None:
        """One latency, and the faults that come before anything is transferred."""
        await trio.sleep(self._store.network.latency_s)
        fault = self.record.fault
        if isinstance(fault, GridfsError):
            raise fault
        if fault is Fault.UNAVAILABLE:
            raise StoreUnavailable(f"503 SlowDown for {self.record.key}")
        if self.record.operation in ("put", "put_stream", "put_if_absent", "delete", "head"):
            if fault is Fault.TRUNCATED:
                raise StoreUnavailable(f"the connection for {self.record.key} was closed")
            if fault is Fault.STALLED:
                await trio.sleep_forever()

    async def transfer_time(self, size_bytes: int) -> None:
        """The time that *size_bytes* take on this connection."""
        rate = self._store.network.connection_bytes_per_s
        await trio.sleep(0 if rate is None else size_bytes / rate)

    async def send(self, data: bytes, deliver: Deliver) -> None:
        """Delivers *data* chunk by chunk; what is truncated or stalls does so half-way."""
        fault = self.record.fault
        if fault is Fault.CORRUPT and data:
            position = self._store._random.randrange(len(data))
            data = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        breaks_at = len(data) // 2 if fault in (Fault.TRUNCATED, Fault.STALLED) else len(data)
        view = memoryview(data)
        for start in range(0, breaks_at, CHUNK_SIZE_BYTES):
            chunk = view[start : min(start + CHUNK_SIZE_BYTES, breaks_at)]
            await self.transfer_time(chunk.nbytes)
            self.record.sent_bytes += chunk.nbytes
            deliver(chunk)
        if fault is Fault.TRUNCATED:
            raise StoreUnavailable(f"{self.record.key} ended after {breaks_at} of {len(data)} bytes")
        if fault is Fault.STALLED:
            await trio.sleep_forever()

    def lose_answer(self) -> None:
        """The fault after a write has taken effect."""
        if self.record.fault is Fault.LOST_ANSWER:
            raise StoreUnavailable(f"no answer to {self.record.operation} of {self.record.key}")
