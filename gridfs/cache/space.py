"""How much the disk tier may still take, and making room: looked up now and then, counted in between.

A look walks the directory (evict.py), because other daemons write there too and other things fill the disk. Between two
looks this process counts what it writes; after MEASURE_EVERY_BYTES or a share of the room, or when there is none left,
it looks again and evicts if it must.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import trio

from gridfs.cache import evict
from gridfs.cache.handles import OpenSegments
from gridfs.cache.segment import close_all
from gridfs.config import MIB

MEASURE_EVERY_BYTES = 256 * MIB
"""Written by this process between two looks at the directory, at least."""

MEASURE_EVERY_SHARE = 1 / 16
"""Of the room there was. Each small object of a bucket has a file; a walk takes 3.3 us a file, 4 s for 1.28 million,
and at a fixed distance there would be 500 walks in their 140 GB. The 5 % of the disk that stay free cover what
is overlooked meanwhile."""

NO_ROOM_FOR_S = 5.0
"""When even eviction made no room (others fill the disk, or evict at this moment), the next look is this much later."""

FULL_FOR_S = 60.0
"""After a write that found no space; a tenth of the cache goes each time, to those who fill the disk."""


class Space:
    """Of one cache directory. Used from one thread; looking is done in another. What fails is raised as OSError."""

    def __init__(
        self, directory: Path, max_size_bytes: int | None, segments: OpenSegments, threads: trio.CapacityLimiter
    ) -> None:
        self.evicted_segments = 0
        self._directory = directory
        self._max_size_bytes = max_size_bytes
        self._segments = segments
        self._threads = threads
        self._usage = evict.Usage(0, 0, 0)
        self._written_bytes = 0
        """Since the last look."""
        self._looking = trio.Lock()
        self._no_room_until_s = 0.0
        self._full_until_s = 0.0

    @property
    def limit_bytes(self) -> int:
        return self._usage.limit_bytes

    @property
    def used_bytes(self) -> int:
        return self._usage.used_bytes + self._written_bytes

    @property
    def room_bytes(self) -> int:
        return max(0, self._usage.room_bytes - self._written_bytes)

    def fits(self, size_bytes: int) -> bool:
        """Whether so much may be written without another look."""
        unlooked_bytes = max(MEASURE_EVERY_BYTES, self._usage.room_bytes * MEASURE_EVERY_SHARE)
        return size_bytes <= self.room_bytes and self._written_bytes <= unlooked_bytes

    def took(self, size_bytes: int) -> None:
        """So much has been written."""
        self._written_bytes += size_bytes

    async def find(self, size_bytes: int) -> bool:
        """Makes room for *size_bytes* if there is too little; whether there is enough then."""
        if time.monotonic() < self._full_until_s:
            return False
        if not self.fits(size_bytes) and time.monotonic() >= self._no_room_until_s:
            await self.look(size_bytes)
            if not self.fits(size_bytes):
                self._no_room_until_s = time.monotonic() + NO_ROOM_FOR_S
        return self.fits(size_bytes)

    async def look(self, wanted_bytes: int) -> None:
        """Measures the cache, and evicts if *wanted_bytes* do not fit; one task at a time."""
        async with self._looking:
            if wanted_bytes and self.fits(wanted_bytes):
                return  # another task has made room meanwhile
            await self._look(wanted_bytes, is_full=False)

    async def give_way(self) -> None:
        """A write found no space: some of the cache goes, whatever there seems to be, and nothing is written for a
        while.
        """
        async with self._looking:
            if time.monotonic() < self._full_until_s:
                return  # another writer has been here
            self._full_until_s = time.monotonic() + FULL_FOR_S
            await self._look(0, is_full=True)

    async def _look(self, wanted_bytes: int, *, is_full: bool) -> None:
        before_bytes = self._written_bytes
        work = partial(evict.evict, self._directory, self._max_size_bytes, wanted_bytes, is_full=is_full)
        self._usage, removed = await trio.to_thread.run_sync(work, limiter=self._threads)
        self._written_bytes -= before_bytes
        self.evicted_segments += len(removed)
        await self.let_go()

    async def let_go(self) -> None:
        """Closes the segments that someone has evicted: they take their space while they are open."""
        await trio.to_thread.run_sync(close_all, self._segments.take_unlinked(), limiter=self._threads)
