"""Memory, then disk, behind one interface; an error of a tier is a miss.

The memory tier is looked into by the read path itself, because a warm read must cost a dict look-up and no more; what
is composed here is the rest: finding on disk, keeping a new part in both, and releasing the memory of parts that are
safe on disk and that nobody has read for a while, so that with a disk tier memory holds what is in flight and being
written, and not a third copy beside the kernel's page cache.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import trio

from gridfs.cache.base import BlockCache, Checksums, DiskStatistics, Span
from gridfs.cache.buffers import POOLED_FROM_BYTES
from gridfs.cache.disk import DiskCache
from gridfs.cache.in_place import ObjectFiles, is_read_in_place
from gridfs.cache.memory import MemoryCache, Part
from gridfs.config import MIB, CacheSettings

IDLE_S = 5.0
"""A part on disk too leaves memory after one to two of these without a read: the kernel's read-ahead comes within
milliseconds.
"""

LATE_BYTES = 128 * MIB
"""Of parts that were read out before the disk tier got to them, sixteen large ones. When the disk is slower than the
store, all of the budget would come to be such parts, and none of them would be on disk any sooner: reading 2 GiB in
order took a fifth longer with that, since fresh memory is dear (docs/decisions/part-buffers.md)."""


class DiskTier(BlockCache, Protocol):
    """A cache that outlives the process and has work of its own to do."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes what `keep` took, and evicts; until cancelled."""
        ...

    def limit_queue(self, size_bytes: int) -> None:
        """How much may wait to be written."""
        ...

    async def wait_until_measured(self) -> None:
        """Returns when its room is known."""
        ...

    async def wait_for_queue(self, size_bytes: int) -> None:
        """Returns when so much more may wait, or when the tier is off."""
        ...

    async def drain(self) -> None:
        """Returns when nothing waits to be written."""
        ...

    def abandon(self, part: Part) -> bool:
        """Whether *part* still waited to be written; now it will not be."""
        ...

    def holds(self, part: Part) -> bool:
        """Whether all of *part* has been written."""
        ...


class TieredCache:
    """A BlockCache over a disk tier, or over nothing (memory alone)."""

    def __init__(self, memory: MemoryCache, disk: DiskTier | None = None) -> None:
        self.memory = memory
        self.disk = disk
        self._spent: list[Part] = []
        self._late: dict[int, Part] = {}
        """Parts that were read out while they waited for the disk tier, by their id, the first first."""

    def present(self, span: Span) -> int:
        return self.disk.present(span) if self.disk is not None else 0

    async def held_bytes(self, spans: Sequence[Span]) -> int:
        if self.disk is None:
            await trio.lowlevel.checkpoint()
            return 0
        return await self.disk.held_bytes(spans)

    def load_nowait(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        """Without *area* the view is for an answer: its memory is used again soon after the last look at it."""
        if self.disk is None:
            return None
        if area is None and span.size_bytes >= POOLED_FROM_BYTES:
            area = self.memory.pool.lend(span.size_bytes)
        return self.disk.load_nowait(span, checksums, area)

    async def load(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        return await self.disk.load(span, checksums, area) if self.disk is not None else None

    def keep(
        self, span: Span, part: Part, checksums: Sequence[int], on_written: Callable[[], None] = lambda: None
    ) -> bool:
        if self.disk is None:
            return False
        self.memory.pin(part)

        def written() -> None:
            part.is_queued = False
            self._late.pop(id(part), None)
            self.memory.unpin(part)
            if part.read_out(part.stop):
                self._spent.append(part)
            on_written()

        part.is_queued = self.disk.keep(span, part, checksums, written)
        if not part.is_queued:
            self.memory.unpin(part)
        return part.is_queued

    def spend(self, part: Part, stop: int) -> None:
        """Most of *part* was read, lately up to *stop*: the kernel has it, and if the disk too, memory need not."""
        if self.disk is None or not part.read_out(stop):
            return
        if not part.pins:
            self._spent.append(part)
        elif part.is_queued:
            self._late[id(part)] = part

    def release_spent(self) -> None:
        """Lets go of the parts that were spent; not at once, since the last reader's answer is still a view of one."""
        if self.disk is None:
            return
        if self._late:
            self._abandon_late(self.disk)
        spent, self._spent = self._spent, []
        for part in spent:
            if self.disk.holds(part):
                self.memory.drop(part)

    def _abandon_late(self, disk: DiskTier) -> None:
        late_bytes = sum(part.size_bytes for part in self._late.values())
        for part in reversed(list(self._late.values())):
            if late_bytes <= LATE_BYTES:
                break
            late_bytes -= part.size_bytes
            if disk.abandon(part):
                self.memory.drop(part)

    def limit_queue(self, size_bytes: int) -> None:
        """How much of the memory may be parts that wait to be written to disk."""
        if self.disk is not None:
            self.disk.limit_queue(size_bytes)

    async def wait_until_measured(self) -> None:
        """Returns when `room_bytes` is known."""
        if self.disk is not None:
            await self.disk.wait_until_measured()

    async def wait_for_queue(self, size_bytes: int) -> None:
        """Returns when the disk tier may be given so much more; at once where there is none."""
        if self.disk is not None:
            await self.disk.wait_for_queue(size_bytes)

    async def drain(self) -> None:
        """Returns when nothing waits to be written to disk."""
        if self.disk is not None:
            await self.disk.drain()

    def room_bytes(self) -> int:
        return self.disk.room_bytes() if self.disk is not None else 0

    def statistics(self) -> DiskStatistics:
        if self.disk is not None:
            return self.disk.statistics()
        return DiskStatistics(None, False, None, 0, 0, 0, 0, 0, 0, 0, 0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the disk tier and lets go of what it holds; until cancelled."""
        disk = self.disk
        if disk is None:
            task_status.started()
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(disk.run, name="disk cache")
            task_status.started()
            while True:
                await trio.sleep(IDLE_S)
                self._release_idle(disk)

    def _release_idle(self, disk: DiskTier) -> None:
        """Drops the parts that are on disk and that nobody has read since the last look."""
        self.release_spent()
        for part in self.memory.parts():
            if not part.read_lately and disk.holds(part):
                self.memory.drop(part)
            part.read_lately = False
        if not self.memory.parts():
            self.memory.pool.clear()


def open_cache(
    settings: CacheSettings, store: Path | None = None, path_of: Callable[[str], str] = os.fspath
) -> TieredCache:
    """The caches for objects that lie in directory *store*, at *path_of* their identity; without one, in a bucket.

    Memory alone when the disk cache is turned off and nothing is read in place. Raises what DiskCache raises.
    """
    if store is not None and is_read_in_place(store, settings):
        return TieredCache(MemoryCache(), ObjectFiles(store, path_of))
    return TieredCache(MemoryCache(), DiskCache(settings) if settings.max_size_bytes != 0 else None)
