"""The read path's face: bytes of an object, now or awaited.

    read_nowait    a dict look-up and a slice when the bytes are in memory; a preadv when the disk tier has them and the
                   kernel their pages
    read           joins or starts the flights that the range needs, and answers when its blocks are verified
    run            owns every task: flights, windows, fills, the disk tier

Both tell the prefetcher which blocks of the tape were read, and queue what it wants; neither waits for that.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from gridfs.cache.buffers import LARGE_FROM_BYTES
from gridfs.cache.memory import Part
from gridfs.cache.tiered import TieredCache
from gridfs.config import LEAST_MEMORY_TARGET_BYTES, READ_TIMEOUT_S, CacheSettings, MountOptions
from gridfs.errors import GridfsError, ReadTimeout
from gridfs.model import Buffer, ByteRange, ObjectRecord
from gridfs.read.background import Background
from gridfs.read.block_map import BlockMap
from gridfs.read.budget import Budget, cgroup_memory_limit_bytes, default_budget_bytes
from gridfs.read.fetch import Fetcher
from gridfs.read.flight import Flight
from gridfs.read.layout import Layout
from gridfs.read.pieces import Piece, slice_of
from gridfs.read.plan import Run, blocks_of
from gridfs.read.prefetch import Outcome, Prefetcher, Priority, may_fill
from gridfs.read.statistics import ReaderStatistics
from gridfs.read.warm import Warmer, Warmth, measure
from gridfs.store.base import ObjectStore

logger = logging.getLogger(__name__)

MEASURED_OBJECTS = 20_000
"""Packs of a version of 1.2 TiB. Looking costs 10 us a part; with more (a bucket's) only what was fetched counts."""


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """How a reader may behave."""

    memory_budget_bytes: int
    read_timeout_s: float = READ_TIMEOUT_S
    prefetch: str = "auto"
    """`auto`, `none` or `all`: as auto, and the whole version in the background."""

    @classmethod
    def of(cls, cache: CacheSettings, options: MountOptions) -> ReaderSettings:
        """What the user's settings mean on this machine."""
        budget = cache.memory_target_bytes or default_budget_bytes(cgroup_memory_limit_bytes())
        return cls(max(budget, LEAST_MEMORY_TARGET_BYTES), options.read_timeout_s, options.prefetch)


def _log_defect(error: BaseException, subject: str) -> None:
    logger.error("defect while reading %s", subject, exc_info=error)


class Reader:
    """Reads the objects of one version. All methods are for trio's thread; `run` must be running."""

    def __init__(
        self,
        layout: Layout,
        store: ObjectStore,
        key_of: Callable[[ObjectRecord], str],
        cache: TieredCache,
        settings: ReaderSettings,
        *,
        on_defect: Callable[[BaseException, str], object] = _log_defect,
        fetcher_type: type[Fetcher] = Fetcher,
    ) -> None:
        self._layout = layout
        self._block_size_bytes = layout.info.block_size_bytes
        self._cache = cache
        self._memory = cache.memory
        self._blocks = cache.memory.blocks
        self._settings = settings
        self._timeout_s = settings.read_timeout_s
        self._budget = Budget(settings.memory_budget_bytes, cache.memory)
        self._block_map = BlockMap(self._block_size_bytes, cache)
        # Background work waits at three quarters of the budget, so at half of it the queue never drops a window's part
        # for want of memory alone, and a quarter stays for readers.
        cache.limit_queue(settings.memory_budget_bytes // 2)
        self._fetcher = fetcher_type(
            layout=layout,
            store=store,
            key_of=key_of,
            cache=cache,
            block_map=self._block_map,
            budget=self._budget,
            timeout_s=settings.read_timeout_s,
            on_defect=on_defect,
            on_landed=self._landed,
            is_dense=lambda obj, block: self._prefetcher.is_dense(obj.first_block + block),
        )
        self._prefetcher = Prefetcher(
            block_size_bytes=self._block_size_bytes,
            block_count=layout.info.block_count,
            budget_bytes=settings.memory_budget_bytes,
            mean_file_bytes=layout.info.total_bytes // max(1, layout.info.file_count),
            mode=settings.prefetch,
        )
        self._background = Background(layout, self._fetcher, self._block_map, self._budget)
        self._warmer = Warmer(layout, cache, self._background, self._fetcher)
        self.on_ahead: Callable[[ObjectRecord, ByteRange, bool], None] | None = None
        """Told of each part that has come ahead of those who will surely read it, and whether it is for a stream or
        fills a pack. Its bytes can be had by `peek`.
        """
        self.on_part: Callable[[ObjectRecord, Part, bool], None] | None = None
        """Told of each large part that has come and will surely be read, and whether a stream may come by, which is
        heard of by its reads here alone: who shows it to others sets its `on_gone`."""
        self.file_bytes_in: Callable[[int, ByteRange], int] | None = None
        """Says how many bytes of a range of an object (its number) are in files: with those read, it is read out."""
        self.on_shown_hit: Callable[[], None] | None = None
        """Told when a part with an `on_gone` answers a read here."""
        self._held_bytes = 0
        """Of this version on disk when the reader started."""
        self._awaited: list[tuple[str, ByteRange]] = []
        """What readers wait for now."""
        self._reads_from_memory = 0
        self._reads_from_disk = 0
        self._reads_waited = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the background work; until cancelled. Started once, before the first read."""
        async with trio.open_nursery() as nursery:
            self._fetcher.nursery = nursery
            await nursery.start(self._cache.run, name="cache")
            nursery.start_soon(self._background.run, name="background")
            nursery.start_soon(self._fetcher.prepare, name="prepare store")
            nursery.start_soon(self._measure_held, name="measure cache")
            if self._settings.prefetch == "all":
                nursery.start_soon(self._warmer.run, name="prefetch all")
            task_status.started()
            await trio.sleep_forever()

    def read_nowait(self, obj: ObjectRecord, byte_range: ByteRange) -> Buffer | None:
        """The bytes if no store and no disk has to be waited for, else None. The view is for the reply only."""
        start, stop = byte_range
        size = self._block_size_bytes
        first = start // size
        part = self._blocks.get((obj.identity, first))
        if part is not None and stop <= part.ready:
            # `MemoryCache.touch` and `_count_read` are spelled out: as calls they took 3 % of a warm read.
            if not part.pins:
                self._memory.touch(part)
            part.read_lately = True
            part.unread_bytes -= stop - start
            if part.unread_bytes <= 0:
                self._cache.spend(part, stop)
            self._reads_from_memory += 1
            if part.on_gone is not None and self.on_shown_hit is not None:
                self.on_shown_hit()
            self._observe(obj.first_block + first, obj.first_block + -(-stop // size), Outcome.HIT)
            return part.buffer[start - part.start : stop - part.start]
        if stop <= start:
            return b""
        return self._read_scattered(obj, byte_range)

    def _read_scattered(self, obj: ObjectRecord, byte_range: ByteRange) -> Buffer | None:
        """As read_nowait, for bytes in several parts, or on disk with their pages in the kernel's cache."""
        run = blocks_of(byte_range, self._block_size_bytes)
        views: list[memoryview] = []
        loaded = False
        for piece, source in self._block_map.survey(obj, run):
            if isinstance(source, Flight):
                return None
            span = self._block_map.span(obj, piece)
            low, high = max(byte_range.start, span.start_byte), min(byte_range.stop, span.stop_byte)
            if source is not None:
                self._memory.touch(source)
                self._count_read(source, high - low, high)
                views.append(source.view(low, high))
                continue
            if not self._block_map.is_on_disk(span):
                return None
            data = self._cache.load_nowait(span, self._layout.checksums(obj.number, piece.first, piece.stop))
            if data is None:
                return None
            loaded = True
            views.append(data[low - span.start_byte : high - span.start_byte])
        if loaded:
            self._reads_from_disk += 1
        else:
            self._reads_from_memory += 1
        self._observe_run(obj, run, Outcome.HIT)
        return views[0] if len(views) == 1 else b"".join(views)

    def holds(self, obj: ObjectRecord, byte_range: ByteRange) -> bool:
        """Whether memory still has the beginning of what `on_ahead` told of."""
        return (obj.identity, byte_range.start // self._block_size_bytes) in self._blocks

    def peek(self, obj: ObjectRecord, byte_range: ByteRange) -> memoryview | None:
        """The bytes for whoever gives them to the kernel unasked: if one part in memory has them all, and no reader is
        waiting for any of them; else None.

        Counts as a read of the part, and tells the prefetcher nothing. While the view lives, its buffer is not used
        again.
        """
        part = self._blocks.get((obj.identity, byte_range.start // self._block_size_bytes))
        if part is None or byte_range.stop > part.ready:
            return None
        for identity, awaited in self._awaited:
            if identity == obj.identity and awaited.start < byte_range.stop and byte_range.start < awaited.stop:
                return None
        view = part.view(byte_range.start, byte_range.stop)
        self._count_read(part, view.nbytes, byte_range.stop)
        return view

    async def read(self, obj: ObjectRecord, byte_range: ByteRange, reach: ByteRange | None = None) -> Buffer:
        """The bytes of *byte_range*, which lies inside the object.

        *reach* holds it, and is what its reader will ask for next: fetched with it, and seen as one read.

        Raises GridfsError: what the store raised, IntegrityError, ReadTimeout after the deadline of `ReaderSettings`.
        """
        run = blocks_of(reach or byte_range, self._block_size_bytes)
        if byte_range.stop <= byte_range.start:
            return b""
        self._reads_waited += 1
        known = all(self._block_map.known(obj, block) for block in range(run.first, run.stop))
        self._observe_run(obj, run, Outcome.WAIT if known else Outcome.MISS)
        awaited = (obj.identity, byte_range)
        self._awaited.append(awaited)
        try:
            with trio.move_on_after(self._timeout_s):
                return self._answer(await self._fetcher.collect(obj, run), byte_range)
        finally:
            self._awaited.remove(awaited)
        raise ReadTimeout(
            f"bytes {byte_range.start} to {byte_range.stop} of {obj.key} did not come within {self._timeout_s:g} s",
            remedy="see whether the store can be reached from this machine",
        )

    def _answer(self, pieces: Sequence[Piece], byte_range: ByteRange) -> Buffer:
        for piece in pieces:
            stop = min(byte_range.stop, piece.run.stop * self._block_size_bytes)
            start = max(byte_range.start, piece.run.first * self._block_size_bytes)
            if stop > start:
                self._count_read(piece.part, stop - start, stop)
        return slice_of(pieces, byte_range)

    def _landed(self, flight: Flight) -> None:
        """All of *flight* has come: tells whoever gives it on to the kernel, if it will surely be read."""
        part = flight.part
        if part is None or flight.priority is Priority.WARM or flight.is_guess:
            return
        if self._blocks.get((part.identity, part.first_block)) is not part:
            return  # it was evicted as soon as it could be
        whole = ByteRange(part.start, part.stop)
        is_fill = flight.priority is Priority.FILL or flight.run != flight.asked  # or a reader's, made wide
        if part.size_bytes >= LARGE_FROM_BYTES:
            if self.file_bytes_in is not None:
                part.count_files(self.file_bytes_in(flight.obj.number, whole))
            if self.on_part is not None:
                self.on_part(flight.obj, part, not is_fill)
        if self.on_ahead is not None and (is_fill or flight.priority is Priority.WINDOW):
            self.on_ahead(flight.obj, whole, not is_fill)

    def count_shown(self, part: Part, reads: int, size_bytes: int, stop: int) -> None:
        """Somebody to whom *part* was shown has answered that many reads from it, the last of which ended at *stop*.

        The prefetcher is not told.
        """
        self._reads_from_memory += reads
        self._memory.touch(part)
        self._count_read(part, size_bytes, stop)

    def _count_read(self, part: Part, size_bytes: int, stop: int) -> None:
        part.read_lately = True
        part.unread_bytes -= size_bytes
        if part.unread_bytes <= 0:
            self._cache.spend(part, stop)

    async def warm(self, on_advance: Callable[[int], object] = lambda _: None) -> Warmth:
        """Brings the whole version into the disk cache, as far as it fits: see `Warmer.warm`."""
        return await self._warmer.warm(on_advance)

    def statistics(self) -> ReaderStatistics:
        counts = self._fetcher.counts

        def by_priority(counted: Counter[Priority]) -> dict[str, int]:
            return {kind.name.lower(): counted[kind] for kind in Priority}

        return ReaderStatistics(
            reads_from_memory=self._reads_from_memory,
            reads_from_disk=self._reads_from_disk,
            reads_waited=self._reads_waited,
            gets=by_priority(counts.gets),
            fetched_bytes=by_priority(counts.fetched_bytes),
            failed=by_priority(counts.failed),
            mismatches=counts.mismatches,
            memory_limit_bytes=self._budget.limit_bytes,
            memory_used_bytes=self._budget.used_bytes,
            memory_in_flight_bytes=self._budget.in_flight_bytes + self._memory.pinned_bytes,
            memory_peak_bytes=self._budget.peak_bytes,
            disk=self._cache.statistics(),
        )

    def _observe_run(self, obj: ObjectRecord, run: Run, outcome: Outcome) -> None:
        self._observe(obj.first_block + run.first, obj.first_block + run.stop, outcome)

    def _observe(self, first: int, stop: int, outcome: Outcome) -> None:
        for want in self._prefetcher.observe(first, stop, outcome):
            if want.priority is Priority.FILL and not self._may_fill():
                self._prefetcher.deny(want.run)
                continue
            self._background.submit(want)

    def _may_fill(self) -> bool:
        """What was fetched may have been evicted again, so no more counts as held than the whole cache holds."""
        disk = self._cache.statistics()
        cached_bytes = disk.used_bytes + disk.queued_bytes if disk.active else self._memory.size_bytes
        held_bytes = min(self._held_bytes + self._fetcher.fetched_bytes, cached_bytes)
        lacking_bytes = self._layout.info.total_bytes - held_bytes
        return may_fill(lacking_bytes=lacking_bytes, room_bytes=self._room_bytes())

    async def _measure_held(self) -> None:
        """Looks what an earlier daemon has left of this version: the first readers need not wait for that."""
        if self._layout.info.object_count <= MEASURED_OBJECTS:
            with contextlib.suppress(GridfsError):  # of a damaged manifest, which readers will find
                self._held_bytes = (await measure(self._layout, self._cache)).cached_bytes

    def _room_bytes(self) -> int:
        if self._cache.statistics().active:
            return self._cache.room_bytes()
        return self._budget.limit_bytes - self._budget.used_bytes
