"""Fetching: one flight for each block, priorities, verify then publish.

    collect(object, run, priority)   pieces that cover the run, from memory, from flights, from disk, from the store
      one flight per lacking part    a task in the reader's nursery, so nobody's cancellation ends another's read
        disk tier                    if it says that it has the run; verified there
        store.get_range / stream     verified block by block as the bytes arrive, then published to memory
        a wrong block                is fetched once more past all caches; wrong again: IntegrityError
        disk tier keeps it           from a bounded queue

A flight that someone waits for has a limiter of its own and never stands behind windows and fills (invariant 9). When
a background flight fails, those who joined it ask for themselves; when a foreground flight fails, its error is theirs,
and the blocks remember it for some seconds, because the kernel asks a failed buffered read twice.
"""

from __future__ import annotations

import logging
import mmap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import trio

from gridfs.cache.base import Span
from gridfs.cache.buffers import POOLED_FROM_BYTES, area_bytes
from gridfs.cache.memory import MemoryCache, Part
from gridfs.cache.tiered import TieredCache
from gridfs.errors import GridfsError, IntegrityError, ReadTimeout
from gridfs.model import ByteRange, ObjectRecord
from gridfs.read.budget import Budget
from gridfs.read.flight import Flight
from gridfs.read.layout import Layout
from gridfs.read.plan import Run, bytes_of, lacking, parts_of
from gridfs.read.prefetch import Priority
from gridfs.read.verify import block_checksums, wrong_blocks
from gridfs.store.base import ObjectStore

logger = logging.getLogger(__name__)

FOREGROUND_FLIGHTS = 64
"""Twice the readers that one node's data loaders usually have."""

FAILURE_MEMORY_S = 3.0
"""The kernel's second try of a failed read, and a program's own, come within this; then the store is asked again."""

FAILURE_LIMIT = 10_000
"""Blocks whose failure is remembered."""


class Piece(NamedTuple):
    """Verified blocks of one part; holding it keeps the bytes, whatever the cache evicts."""

    part: Part
    run: Run
    guard: memoryview
    """A view of the part's buffer: while it lives, the buffer is not used again."""

    @classmethod
    def of(cls, part: Part, run: Run) -> Piece:
        return cls(part, run, part.buffer[:0])


class Fetcher:
    """Brings blocks into memory. Its flights run in *nursery*; used from one thread."""

    def __init__(
        self,
        *,
        layout: Layout,
        store: ObjectStore,
        key_of: Callable[[ObjectRecord], str],
        memory: MemoryCache,
        cache: TieredCache,
        budget: Budget,
        timeout_s: float,
        on_defect: Callable[[BaseException, str], object],
    ) -> None:
        self._layout = layout
        self._block_size_bytes = layout.info.block_size_bytes
        self._store = store
        self._key_of = key_of
        self._memory = memory
        self._cache = cache
        self._budget = budget
        self._timeout_s = timeout_s
        self._on_defect = on_defect
        self._foreground = trio.CapacityLimiter(FOREGROUND_FLIGHTS)
        self._failures: dict[tuple[str, int], tuple[float, GridfsError]] = {}
        self.flights: dict[tuple[str, int], Flight] = {}
        self.nursery: trio.Nursery | None = None
        self.counts: Counter[str] = Counter()

    @property
    def fetched_bytes(self) -> int:
        """By all priorities, since the start."""
        return sum(self.counts[f"fetched_{kind.name.lower()}_bytes"] for kind in Priority)

    def span(self, obj: ObjectRecord, run: Run) -> Span:
        return Span(obj.identity, obj.size_bytes, self._block_size_bytes, run.first, run.stop)

    def known(self, obj: ObjectRecord, block: int) -> bool:
        """Whether a block is in memory or on its way."""
        key = (obj.identity, block)
        return key in self._memory.blocks or key in self.flights

    def absent(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """What of *run* is neither in memory nor on its way nor, as far as is known, on disk."""
        for gap in lacking(run, lambda block: self.known(obj, block)):
            for cut in self._cuts(obj, gap):
                if not self._cache.present(self.span(obj, cut)):
                    yield cut

    async def collect(self, obj: ObjectRecord, run: Run) -> list[Piece]:
        """Pieces that cover *run* in order, for a reader who waits. Raises GridfsError as the store or the checksums
        have it.
        """
        joined: list[Piece | tuple[Run, Flight]] = []
        for part_run, source in self.survey(obj, run):
            if isinstance(source, Part):
                joined.append(Piece.of(source, part_run))
            elif source is not None:
                joined.append((part_run, source))
            else:
                self._raise_remembered(obj, part_run)
                joined.extend((cut, self._start(obj, cut)) for cut in self._cuts(obj, part_run))
        pieces: list[Piece] = []
        for item in joined:
            if isinstance(item, Piece):
                pieces.append(item)
                continue
            part_run, flight = item
            await flight.wait_for(part_run.stop)
            ready = min(part_run.stop, flight.ready_block)
            if flight.part is not None and ready > part_run.first:
                pieces.append(Piece.of(flight.part, Run(part_run.first, ready)))
            if ready >= part_run.stop:
                continue
            if flight.priority is Priority.FOREGROUND and flight.error is not None:
                raise again(flight.error)
            pieces.extend(await self.collect(obj, Run(max(ready, part_run.first), part_run.stop)))
        return pieces

    def launch(self, obj: ObjectRecord, run: Run, priority: Priority) -> Flight:
        """Starts a background flight for blocks that are lacking; the caller holds the budget's reservation for it."""
        return self._start(obj, run, priority)

    def survey(self, obj: ObjectRecord, run: Run) -> Iterator[tuple[Run, Part | Flight | None]]:
        """Cuts *run* by where its blocks are: a part in memory, a flight, or nowhere."""
        identity = obj.identity
        first = run.first
        current: Part | Flight | None = None
        for block in range(run.first, run.stop):
            key = (identity, block)
            source: Part | Flight | None = self._memory.blocks.get(key) or self.flights.get(key)
            if block > first and source is not current:
                yield Run(first, block), current
                first = block
            current = source
        if run.stop > first:
            yield Run(first, run.stop), current

    def _cuts(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """Parts of a lacking run, those that the disk tier has apart from those that it has not."""
        for part in parts_of(run, self._block_size_bytes):
            first = part.first
            while first < part.stop:
                rest = Run(first, part.stop)
                there = self._cache.present(self.span(obj, rest))
                if not there:
                    present = self._cache.present
                    lacks = next(lacking(rest, lambda block: present(self.span(obj, Run(block, block + 1)))))  # noqa: B023
                    there = lacks.block_count
                yield Run(first, first + there)
                first += there

    def _start(self, obj: ObjectRecord, run: Run, priority: Priority = Priority.FOREGROUND) -> Flight:
        if self.nursery is None:
            raise RuntimeError("the reader is not running")
        flight = Flight(obj, run, self.span(obj, run), priority)
        for block in range(run.first, run.stop):
            self.flights[obj.identity, block] = flight
        self.nursery.start_soon(self._fly, flight, name=f"{priority.name.lower()} flight")
        return flight

    async def _fly(self, flight: Flight) -> None:
        """The life of a flight; settles every error, since one that escaped would end the mount."""
        size_bytes = area_bytes(flight.span.size_bytes)
        # Who joins a background flight that hangs has the second half of the time for an attempt of their own.
        limit_s = self._timeout_s if flight.priority is Priority.FOREGROUND else self._timeout_s / 2
        reserved = flight.priority is not Priority.FOREGROUND
        try:
            with trio.move_on_after(limit_s) as scope:
                if flight.priority is Priority.FOREGROUND:
                    async with self._foreground:
                        await self._budget.reserve(size_bytes)
                        reserved = True
                        await self._bring(flight)
                else:
                    await self._bring(flight)
            if scope.cancelled_caught:
                flight.error = ReadTimeout(
                    f"{flight.obj.key} of {self._store.url} did not answer within {limit_s:g} s",
                    remedy="see whether the store can be reached from this machine",
                )
        except GridfsError as error:
            flight.error = error
        except Exception as error:  # a defect must fail one read and not the mount
            self._on_defect(error, flight.obj.key)
            flight.error = GridfsError(f"gridfs failed to read {flight.obj.key}: {error!r}")
        finally:
            self._land(flight, size_bytes if reserved and flight.part is None else 0)

    def _land(self, flight: Flight, reserved_bytes: int) -> None:
        """The flight is over: its blocks are findable, or may be asked for again."""
        for block in range(flight.run.first, flight.run.stop):
            self.flights.pop((flight.obj.identity, block), None)
        if reserved_bytes:
            self._budget.release(reserved_bytes)
        if flight.part is not None:
            self._memory.unpin(flight.part)
        if flight.error is not None:
            self.counts[f"failed_{flight.priority.name.lower()}"] += 1
            if flight.priority is Priority.FOREGROUND:
                self._remember(flight)
        flight.done = True
        flight.wake()

    async def _bring(self, flight: Flight) -> None:
        span, run = flight.span, flight.run
        flight.expected = self._layout.checksums(flight.obj.number, run.first, run.stop)
        if self._cache.present(span) == run.block_count:
            data = await self._cache.load(span, flight.expected)
            if data is not None:
                self._hold(flight, data)
                self._publish(flight, data.nbytes, flight.expected or [0] * run.block_count)
                return
        byte_range = bytes_of(run, span.object_size_bytes, span.block_size_bytes)
        key, etag = self._key_of(flight.obj), flight.obj.etag
        if span.size_bytes < POOLED_FROM_BYTES:  # as one buffer, without a copy: there is little to publish early
            data = await self._store.get_range(key, byte_range, if_match=etag)
            self._hold(flight, data)
            arrived = data.nbytes
            self._check(flight, arrived)
        else:
            arrived = 0
            self._cache.release_spent()
            area = self._memory.pool.take(span.size_bytes)
            buffer = memoryview(area)[: span.size_bytes]
            self._hold(flight, buffer, area)

            def deliver(chunk: memoryview) -> None:
                nonlocal arrived
                buffer[arrived : arrived + chunk.nbytes] = chunk
                arrived += chunk.nbytes
                self._check(flight, arrived)

            await self._store.stream_range(key, byte_range, deliver, if_match=etag)
        self.counts[f"fetched_{flight.priority.name.lower()}_bytes"] += arrived
        self.counts[f"gets_{flight.priority.name.lower()}"] += 1
        await self._mend(flight)
        if flight.part is not None:
            self._cache.keep(flight.span, flight.part, flight.seen)

    def _hold(self, flight: Flight, buffer: memoryview, area: mmap.mmap | None = None) -> None:
        """The reservation becomes the memory cache's holding, pinned until the flight has landed."""
        span = flight.span
        if buffer.nbytes != span.size_bytes:
            raise GridfsError(f"{buffer.nbytes} bytes of {flight.obj.key} came where {span.size_bytes} were asked for")
        flight.part = Part(span.identity, span.block_size_bytes, span.start_byte, span.stop_byte, buffer, area)
        flight.guard = buffer[:0]
        self._memory.pin(flight.part)
        self._budget.release(area_bytes(span.size_bytes))

    def _check(self, flight: Flight, arrived: int) -> None:
        """Verifies the blocks that are complete, up to the first wrong one, and publishes them."""
        part, size = flight.part, self._block_size_bytes
        if part is None:
            return
        verified = len(flight.seen)
        complete = flight.run.block_count if arrived == flight.span.size_bytes else arrived // size
        if complete <= verified:
            return
        data = part.buffer[verified * size : min(complete * size, arrived)]
        checksums = block_checksums(data, size)
        if flight.expected is not None:
            for position, checksum in enumerate(checksums):
                if checksum != flight.expected[verified + position]:
                    del checksums[position:]
                    break
        if checksums:
            self._publish(flight, min((verified + len(checksums)) * size, arrived), checksums)

    def _publish(self, flight: Flight, ready_bytes: int, checksums: Sequence[int]) -> None:
        if flight.part is not None:
            self._memory.publish(flight.part, flight.span.start_byte + ready_bytes)
        flight.seen.extend(checksums)
        flight.wake()

    async def _mend(self, flight: Flight) -> None:
        """Fetches each wrong block once more, alone and past all caches, and publishes the rest."""
        part, size = flight.part, self._block_size_bytes
        while part is not None and flight.expected is not None and len(flight.seen) < flight.run.block_count:
            block = flight.ready_block
            start = (block - flight.run.first) * size
            byte_range = bytes_of(Run(block, block + 1), flight.span.object_size_bytes, size)
            self.counts["mismatches"] += 1
            key = self._key_of(flight.obj)
            logger.warning("bytes %d to %d of %s differ from their checksum: fetched again", *byte_range, key)
            again = await self._store.get_range(key, byte_range, if_match=flight.obj.etag)
            expected = flight.expected[len(flight.seen)]
            if next(wrong_blocks(again, [expected], size), None) is not None:
                raise IntegrityError(
                    f"bytes {byte_range.start} to {byte_range.stop} of {key} in {self._store.url} are not as stored",
                    remedy="the object is damaged in the store: restore it, or create the version again",
                )
            if part.buffer.readonly:
                part.buffer = memoryview(bytearray(part.buffer))
            part.buffer[start : start + again.nbytes] = again
            self._check(flight, flight.span.size_bytes)

    def _remember(self, flight: Flight) -> None:
        if flight.error is None:
            return
        if len(self._failures) > FAILURE_LIMIT:
            self._failures.clear()
        until = trio.current_time() + FAILURE_MEMORY_S
        for block in range(flight.ready_block, flight.run.stop):
            self._failures[flight.obj.identity, block] = (until, flight.error)

    def _raise_remembered(self, obj: ObjectRecord, run: Run) -> None:
        if not self._failures:
            return
        for block in range(run.first, run.stop):
            failure = self._failures.get((obj.identity, block))
            if failure is None:
                continue
            if trio.current_time() < failure[0]:
                raise again(failure[1])
            del self._failures[obj.identity, block]


def again(error: GridfsError) -> GridfsError:
    """A copy of *error* for one more reader: raised twice, one instance would gather the tracebacks of all."""
    copy = type(error)(error.message, remedy=error.remedy)
    copy.__cause__ = error
    return copy


def slice_of(pieces: Sequence[Piece], byte_range: ByteRange) -> memoryview:
    """The bytes of *byte_range* out of pieces that cover it: a view where one part has them all, else one copy."""
    start, stop = byte_range
    views = []
    for part, run, _ in pieces:
        low = max(start, run.first * part.block_size_bytes)
        high = min(stop, run.stop * part.block_size_bytes, part.stop)
        if high > low:
            views.append(part.view(low, high))
    if len(views) == 1:
        return views[0]
    return memoryview(b"".join(views))
