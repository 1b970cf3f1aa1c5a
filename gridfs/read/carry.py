"""Bringing the bytes of one flight: from the disk tier or the store, verified block by block, published as they arrive.

disk tier         if it says that it has the whole run; verified there
get_range         for parts below 64 KiB: the client's own buffer
stream_range      for the others: into a mapping of the pool; each block is verified and published when it is whole
a wrong block     is fetched once more, alone and past all caches; wrong again: IntegrityError
disk tier         takes the whole part, if its queue has room
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Sequence

from gridfs.cache.buffers import POOLED_FROM_BYTES, area_bytes
from gridfs.cache.memory import Part
from gridfs.cache.tiered import TieredCache
from gridfs.errors import GridfsError, IntegrityError
from gridfs.model import ByteRange, ObjectRecord
from gridfs.read.block_map import BlockMap
from gridfs.read.budget import Budget
from gridfs.read.flight import Flight
from gridfs.read.layout import Layout
from gridfs.read.plan import Run, bytes_of
from gridfs.read.prefetch import Priority
from gridfs.read.statistics import FlightCounts
from gridfs.read.verify import block_checksums, wrong_blocks
from gridfs.store.base import ObjectStore

logger = logging.getLogger(__name__)


class Carrier:
    """Knows where bytes come from and what they must be; what is fetched when is decided in fetch.py."""

    def __init__(
        self,
        *,
        layout: Layout,
        store: ObjectStore,
        key_of: Callable[[ObjectRecord], str],
        cache: TieredCache,
        block_map: BlockMap,
        budget: Budget,
    ) -> None:
        self._layout = layout
        self._block_size_bytes = layout.info.block_size_bytes
        self._store = store
        self._key_of = key_of
        self._memory = cache.memory
        self._cache = cache
        self._block_map = block_map
        self._budget = budget
        self.counts = FlightCounts()

    def _begin(self, flight: Flight) -> None:
        """Has the store begin with what `_bring` will ask it for."""
        key, byte_range, etag = self._where(flight)
        flight.is_begun = self._store.begin_range(key, byte_range, if_match=etag)

    def _where(self, flight: Flight) -> tuple[str, ByteRange, str | None]:
        """Key, bytes and ETag of what a flight brings."""
        byte_range = bytes_of(flight.run, flight.span.object_size_bytes, flight.span.block_size_bytes)
        return self._key_of(flight.obj), byte_range, flight.obj.etag

    async def _bring(self, flight: Flight) -> None:
        span, run = flight.span, flight.run
        self._cache.release_spent()
        flight.expected = self._layout.checksums(flight.obj.number, run.first, run.stop)
        if not flight.is_begun and self._block_map.is_on_disk(span):
            area = self._memory.pool.take(span.size_bytes) if span.size_bytes >= POOLED_FROM_BYTES else None
            data = await self._cache.load(span, flight.expected, area)
            if data is not None:
                self._hold(flight, data, area).on_disk = True
                self._publish(flight, data.nbytes, flight.expected or [0] * run.block_count)
                return
        key, byte_range, etag = self._where(flight)
        if span.size_bytes < POOLED_FROM_BYTES:
            data = await self._store.get_range(key, byte_range, if_match=etag)
            self._hold(flight, data)
            arrived = data.nbytes
            self._check(flight, arrived)
        else:
            arrived = 0
            area = self._memory.pool.take(span.size_bytes)
            buffer = memoryview(area)[: span.size_bytes]
            self._hold(flight, buffer, area)

            def deliver(chunk: memoryview) -> None:
                nonlocal arrived
                arrived += chunk.nbytes
                self._check(flight, arrived)

            await self._store.stream_range(key, byte_range, deliver, if_match=etag, into=buffer)
        self.counts.fetched_bytes[flight.priority] += arrived
        self.counts.gets[flight.priority] += 1
        await self._mend(flight)
        if flight.part is not None:
            if flight.priority is Priority.WARM:
                # Nobody waits to read it: it leaves memory when it is on disk.
                flight.part.unread_bytes = -flight.part.size_bytes
            self._cache.keep(flight.span, flight.part, flight.seen)

    def _hold(self, flight: Flight, buffer: memoryview, area: mmap.mmap | None = None) -> Part:
        """The reservation becomes the memory cache's holding, pinned until the flight has landed."""
        span = flight.span
        if buffer.nbytes != span.size_bytes:
            raise GridfsError(f"{buffer.nbytes} bytes of {flight.obj.key} came where {span.size_bytes} were asked for")
        part = flight.part = Part(span.identity, span.block_size_bytes, span.start_byte, span.stop_byte, buffer, area)
        flight.guard = buffer[:0]
        self._memory.pin(part)
        self._budget.release(area_bytes(span.size_bytes))
        return part

    def _check(self, flight: Flight, arrived: int) -> None:
        """Verifies the blocks that are complete, up to the first wrong one, and publishes them."""
        part, size = flight.part, self._block_size_bytes
        if part is None:
            return
        verified = len(flight.seen)
        complete = flight.run.block_count if arrived == flight.span.size_bytes else arrived // size
        if complete <= verified:
            return
        if flight.priority is not Priority.FOREGROUND:
            flight.extend()  # also while a wrong block keeps those behind it from being published
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
            self.counts.mismatches += 1
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
