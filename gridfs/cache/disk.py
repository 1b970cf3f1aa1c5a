"""The disk tier: segment files shared by all daemons of the user on this node, verified on every read.

    present        looks at the table of an open segment; opens the segment when asked for it first
    held_bytes     the same for many, and waits for the tables that only the disk has
    load_nowait    preadv(RWF_NOWAIT): 128 KiB out of the page cache without a thread
    load           the same in a thread, when the disk has to be waited for
    keep           queues a part for writing (write_queue.py); a full queue drops it
    run            the writers and the evictor

Whatever is wrong is a miss: a torn write or a flipped bit fails its checksum and is forgotten, a segment of another
format version is not looked at. A disk that fails turns the tier off, which is logged and shown by `grid status`; on a
full one a part of the cache goes, and the rest is read on. Nothing is wiped at start.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import trio

from gridfs.cache.base import Checksums, DiskStatistics, Span
from gridfs.cache.handles import OpenSegments
from gridfs.cache.locality import file_system_of, is_network
from gridfs.cache.memory import Part
from gridfs.cache.segment import FORMAT_VERSION, Geometry, Segment, blocks_per_segment
from gridfs.cache.space import Space
from gridfs.cache.verified import Mismatch
from gridfs.cache.write_queue import QUEUE_LIMIT_BYTES, Write, WriteQueue
from gridfs.config import CacheSettings, ensure_cache, ensure_private
from gridfs.errors import Unsupported

logger = logging.getLogger(__name__)

WRITERS = 2
"""One waits for the disk while the other copies."""

READERS = 64
"""Threads that wait for the disk: what an SSD answers at once, and more than windows and fills take together
(read/background.py), so that a reader's turn comes. Not trio's shared 40, which others need."""

TABLE_FRESH_S = 1.0
"""A table that lacks a block is read again after this: another daemon may have written it."""

TOUCH_EVERY_S = 10.0
"""Recency is recorded this exactly; finer would be a write to the inode for each read."""

_PASSING = frozenset({errno.EMFILE, errno.ENFILE})
"""This process, or the machine, has too many open files at the moment: of the disk that says nothing."""

LET_GO_EVERY_S = 30.0
"""How often the segments are closed that another daemon has evicted; until then they take their space."""


class DiskCache:
    """A BlockCache in a directory. For trio's thread; `run` must be running for anything to be written."""

    def __init__(self, settings: CacheSettings, *, queue_limit_bytes: int = QUEUE_LIMIT_BYTES) -> None:
        """Raises Unsupported on a network file system, AccessDenied for someone else's directory, OSError."""
        self.directory = settings.directory / "blocks"
        ensure_cache(settings.directory)
        ensure_private(self.directory)
        kind = file_system_of(self.directory)
        if is_network(kind):
            raise Unsupported(
                f"the cache directory {settings.directory} is on a network file system ({kind})",
                remedy="name one on a local disk with --cache-dir",
            )
        self._segments = OpenSegments(os.fspath(self.directory / str(FORMAT_VERSION)))
        self._queue = WriteQueue(queue_limit_bytes)
        self._reader_threads = trio.CapacityLimiter(READERS)
        self._writer_threads = trio.CapacityLimiter(WRITERS)
        self._space = Space(self.directory, settings.max_size_bytes, self._segments, self._writer_threads)
        self._measured = trio.Event()
        self._off_reason = "its size is 0" if settings.max_size_bytes == 0 else None
        self._read_bytes = 0
        self._written_bytes = 0
        self._dropped_bytes = 0
        self._mismatches = 0

    def present(self, span: Span) -> int:
        segment = self._segment(span)
        if segment is None:
            return 0
        end = min(span.stop, segment.geometry.first_block + segment.geometry.block_count)
        if segment.table is None and not self._read_table(segment):
            return end - span.first  # to know it, a disk would have to be waited for: `load` and `held_bytes` do
        there = segment.present(span.first, end)
        if not there and self._read_stale_table(segment):
            there = segment.present(span.first, end)
        return there

    async def held_bytes(self, spans: Sequence[Span]) -> int:
        held_bytes = 0
        unknown: list[tuple[Segment, Span]] = []
        with ExitStack() as stack:
            for span in spans:
                segment = self._segment(span)
                if segment is not None and segment.table is None and not self._read_table(segment):
                    stack.enter_context(self._segments.using(segment))
                    unknown.append((segment, span))
                elif segment is not None:
                    span_bytes = segment.held_bytes(span.first, span.stop)
                    if span_bytes < span.size_bytes and self._read_stale_table(segment):
                        span_bytes = segment.held_bytes(span.first, span.stop)
                    held_bytes += span_bytes
                await trio.lowlevel.checkpoint()  # opening a segment takes 10 us, and there are many
            if unknown:
                await self._wait_for_tables([segment for segment, _ in unknown])
        return held_bytes + sum(segment.held_bytes(span.first, span.stop) for segment, span in unknown)

    def load_nowait(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        segment = self._whole(span)
        if segment is None:
            return None
        try:
            return self._used(segment, segment.read(span, checksums, nowait=True, area=area))
        except (OSError, Mismatch) as error:
            self._failed_read(segment, error)
            return None

    async def load(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        segment = self._whole(span)
        if segment is None:
            return None
        read = partial(segment.read, span, checksums, nowait=False, area=area)
        with self._segments.using(segment):
            try:
                return self._used(segment, await trio.to_thread.run_sync(read, limiter=self._reader_threads))
            except (OSError, Mismatch) as error:
                self._failed_read(segment, error)
                return None

    def keep(
        self, span: Span, part: Part, checksums: Sequence[int], on_written: Callable[[], None] = lambda: None
    ) -> bool:
        """Queues *part*; False when it is dropped. *on_written* is called when its buffer is no longer needed."""
        if self._off_reason is not None:
            return False
        taken = self._queue.take(Write(span, part, checksums, on_written))
        if not taken:
            self._dropped_bytes += span.size_bytes
        return taken

    def abandon(self, part: Part) -> bool:
        """Takes *part* out of the queue, if it is still there; its `on_written` is called."""
        abandoned_bytes = self._queue.abandon(part)
        self._dropped_bytes += abandoned_bytes
        return abandoned_bytes > 0

    def limit_queue(self, size_bytes: int) -> None:
        """How much may wait to be written. Kept in memory, it is part of the reader's budget."""
        self._queue.limit_bytes = size_bytes

    async def wait_until_measured(self) -> None:
        """Returns when `room_bytes` is known; until then it is 0."""
        await self._measured.wait()

    async def wait_for_queue(self, size_bytes: int) -> None:
        """Returns when *size_bytes* more may be queued, or when the tier is off; a part larger than the queue needs
        none.
        """
        await self._queue.wait_for_room(size_bytes)

    async def drain(self) -> None:
        """Returns when everything that was taken has been written or dropped."""
        await self._queue.drain()

    def holds(self, part: Part) -> bool:
        """Whether all of *part* is known to have been written. Of a segment that is open no more, what was known."""
        segment = self._segments.peek(part.identity, part.first_block // blocks_per_segment(part.block_size_bytes))
        if segment is None:
            return part.on_disk
        return segment.present(part.first_block, part.stop_block) == part.stop_block - part.first_block

    def room_bytes(self) -> int:
        return max(0, self._space.room_bytes - self._queue.queued_bytes)

    def statistics(self) -> DiskStatistics:
        return DiskStatistics(
            directory=os.fspath(self.directory),
            active=self._off_reason is None,
            reason=self._off_reason,
            limit_bytes=self._space.limit_bytes,
            used_bytes=self._space.used_bytes,
            read_bytes=self._read_bytes,
            written_bytes=self._written_bytes,
            dropped_bytes=self._dropped_bytes,
            queued_bytes=self._queue.queued_bytes,
            mismatches=self._mismatches,
            evicted_segments=self._space.evicted_segments,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes what `keep` took and evicts, until cancelled; then closes its files."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_space, name="cache space")
                for number in range(WRITERS):
                    nursery.start_soon(self._write_queued, name=f"cache writer {number}")
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):
                while batch := self._queue.rest():
                    await self._write_batch(batch)
            self._segments.close()

    async def _watch_space(self) -> None:
        """The first look, for which a mount does not wait; then what others have evicted is let go of."""
        try:
            await self._space.look(0)
        except OSError as error:
            self._turn_off(error)
        self._measured.set()
        while True:
            await trio.sleep(LET_GO_EVERY_S)
            await self._space.let_go()

    async def _write_queued(self) -> None:
        while True:
            await self._write_batch(await self._queue.next_batch())

    async def _write_batch(self, batch: Sequence[Write]) -> None:
        try:
            await self._write(batch)
        except FileNotFoundError as error:  # directories are made when they lack: they go as fast as they come
            logger.info("the disk cache in %s is just being removed: %s", self.directory, error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                await self._give_way(error)
            else:
                self._turn_off(error)
        finally:
            self._queue.done(batch)

    async def _give_way(self, error: OSError) -> None:
        """The disk is full, or the user's quota, of which the free space tells nothing: what is here is read on."""
        logger.warning("the disk cache in %s gives up a part of what it has: %s", self.directory, error)
        try:
            await self._space.give_way()
        except OSError as failure:
            self._turn_off(failure)

    async def _write(self, batch: Sequence[Write]) -> None:
        """Writes those of *batch* that fit, in one turn of a thread."""
        with ExitStack() as stack:
            jobs, parts = [], []
            for item in batch:
                span = item.span
                if self._off_reason is not None or not await self._space.find(span.size_bytes):
                    self._dropped_bytes += span.size_bytes
                    continue
                segment = self._segment_to_write(span)
                stack.enter_context(self._segments.using(segment))
                jobs.append(partial(segment.write, span, item.part.buffer, item.checksums, item.part.area))
                parts.append(item.part)
                self._space.took(span.size_bytes)
                self._written_bytes += span.size_bytes
            if jobs:
                await trio.to_thread.run_sync(_do_all, jobs, limiter=self._writer_threads)
            for part in parts:
                part.on_disk = True

    def _segment_to_write(self, span: Span) -> Segment:
        segment = self._segments.get(span)
        if segment is None or segment.unlinked:
            geometry = Geometry.of(span)
            segment = Segment.to_write(self._segments.path(geometry), geometry)
            self._segments.add(segment)
        return segment

    def _segment(self, span: Span) -> Segment | None:
        if self._off_reason is not None:
            return None
        try:
            return self._segments.get(span)
        except OSError as error:
            self._turn_off(error)
            return None

    def _whole(self, span: Span) -> Segment | None:
        """The segment, if the span lies in one."""
        per_segment = blocks_per_segment(span.block_size_bytes)
        if span.first // per_segment != (span.stop - 1) // per_segment:
            return None
        return self._segment(span)

    def _read_stale_table(self, segment: Segment) -> bool:
        """Reads the table again if another daemon may have written what it lacks; whether it was read."""
        return time.monotonic() - segment.table_read_s > TABLE_FRESH_S and self._read_table(segment)

    def _read_table(self, segment: Segment) -> bool:
        try:
            done = segment.read_table(nowait=True)
        except OSError as error:
            self._turn_off(error)
            return False
        if done:
            segment.table_read_s = time.monotonic()
        return done

    async def _wait_for_tables(self, segments: Sequence[Segment]) -> None:
        """As `_read_table`, of all of them in one turn of a thread, which waits for the disk."""
        jobs = [partial(segment.read_table, nowait=False) for segment in segments]
        try:
            await trio.to_thread.run_sync(_do_all, jobs, limiter=self._reader_threads)
        except OSError as error:
            self._turn_off(error)
        for segment in segments:
            segment.table_read_s = time.monotonic()

    def _used(self, segment: Segment, data: memoryview | None) -> memoryview | None:
        if data is not None:
            self._read_bytes += data.nbytes
            now_s = time.monotonic()
            if now_s - segment.touched_s > TOUCH_EVERY_S:
                segment.touched_s = now_s
                os.utime(segment.fd)
        return data

    def _failed_read(self, segment: Segment, error: OSError | Mismatch) -> None:
        if isinstance(error, OSError):
            self._turn_off(error)
            return
        self._mismatches += 1
        logger.warning("cache: block %d of %s is damaged and fetched again", error.block, segment.geometry.identity)
        try:
            segment.forget(error.block)
        except OSError as failure:
            self._turn_off(failure)

    def _turn_off(self, error: OSError) -> None:
        if self._off_reason is not None:
            return
        if error.errno in _PASSING:
            logger.debug("the disk cache in %s goes unused for now: %s", self.directory, error)
            return
        self._queue.is_closed = True
        self._off_reason = f"the disk fails: {error}"
        logger.error("the disk cache in %s is turned off, %s", self.directory, self._off_reason)


def _do_all(jobs: Sequence[Callable[[], object]]) -> None:
    for job in jobs:
        job()
