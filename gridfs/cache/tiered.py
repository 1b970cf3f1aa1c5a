"""Memory, then disk, behind one interface; an error of a tier is a miss.

The memory tier is looked into by the read path itself, because a warm read must cost a dict look-up and no more; what
is composed here is the rest: finding on disk, keeping a new part in both, and releasing the memory of parts that are
safe on disk and that nobody has read for a while, so that with a disk tier memory holds what is in flight and being
written, and not a third copy beside the kernel's page cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from gridfs.cache.base import BlockCache, Checksums, DiskStatistics, Span
from gridfs.cache.memory import MemoryCache, Part

IDLE_S = 5.0
"""A part on disk too leaves memory after one to two of these without a read: the kernel's read-ahead comes within
milliseconds.
"""


class DiskTier(BlockCache, Protocol):
    """A cache that outlives the process and has work of its own to do."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes what `keep` took, and evicts; until cancelled."""
        ...

    def holds(self, part: Part) -> bool:
        """Whether all of *part* has been written."""
        ...


class TieredCache:
    """A BlockCache over a disk tier, or over nothing (memory alone)."""

    def __init__(self, memory: MemoryCache, disk: DiskTier | None = None) -> None:
        self.memory = memory
        self.disk = disk

    def present(self, span: Span) -> int:
        return self.disk.present(span) if self.disk is not None else 0

    def load_nowait(self, span: Span, checksums: Checksums) -> memoryview | None:
        return self.disk.load_nowait(span, checksums) if self.disk is not None else None

    async def load(self, span: Span, checksums: Checksums) -> memoryview | None:
        return await self.disk.load(span, checksums) if self.disk is not None else None

    def keep(self, part: Part, checksums: Sequence[int]) -> None:
        if self.disk is not None:
            self.disk.keep(part, checksums)

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
            idle: set[int] = set()
            while True:
                await trio.sleep(IDLE_S)
                idle = self._release(disk, idle)

    def _release(self, disk: DiskTier, idle: set[int]) -> set[int]:
        """Drops the parts on disk that were idle at the last look too; those that are idle now."""
        parts = [part for part in self.memory.parts() if disk.holds(part)]
        marks = {id(part): part for part in parts if not part.read_lately}
        for key, part in marks.items():
            if key in idle:
                self.memory.drop(part)
        for part in parts:
            part.read_lately = False
        return set(marks)
