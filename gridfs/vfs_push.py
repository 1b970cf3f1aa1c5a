"""Small files of a window, given to the kernel before anyone asks for them.

A file that is read in tree order costs one request to the daemon, even when its bytes lie in memory: two switches
between processes and 200 us of Python. So when a part of a window has come, the files in it are stored into the
kernel's page cache at once (FUSE_NOTIFY_STORE), and the reader finds them there without a word.

One file in each MiB is left out, the one across its start or else the first: the reader's requests for those tell the
prefetcher how far it has come. That also leaves out large files, where the kernel's own read-ahead asks for much at a
time. The kernel takes only files
that it knows by a lookup; when it knows none of the first few, the rest of the part is not tried.

The call is made in a thread, because it waits, and can't be killed, while a page is being read; that read is answered
by this process. So what readers wait for is not pushed, and the pushing must have ended (`stop`) before the answering
does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import trio
from cachetools import LRUCache

from gridfs.config import MIB
from gridfs.model import Buffer, ByteRange, Entry, ObjectRecord

QUEUED_PARTS = 16
"""Parts not yet given: more than a window. The oldest is dropped, since its reader has gone by."""

TRIES = 4
"""Files of a part that the kernel must not know before the rest is left alone."""

Store = Callable[[int, Buffer], bool]
"""Stores a file's bytes into the page cache of an inode; False when the kernel does not know the inode. Blocks."""


class Files(Protocol):
    """What is asked of a manifest."""

    def entries_of_object(self, number: int) -> Iterator[Entry]: ...


class Parts(Protocol):
    """What is asked of a reader."""

    on_window: Callable[[ObjectRecord, ByteRange], None] | None

    def peek(self, obj: ObjectRecord, byte_range: ByteRange, /) -> memoryview | None: ...


class Extent(NamedTuple):
    """Where a file lies in its object."""

    offset: int
    size: int
    inode: int


def to_push(extents: list[Extent], part: ByteRange) -> list[Extent]:
    """Of the files of an object, *extents* in its order, those that lie in *part*, but one in each MiB."""
    first = bisect_left(extents, (part.start, 0, 0))
    last_mib = (extents[first - 1].offset + extents[first - 1].size - 1) // MIB if first else -1
    chosen = []
    for extent in extents[first:]:
        if extent.offset >= part.stop:
            break
        if not extent.size:
            continue
        begins, ends = extent.offset // MIB, (extent.offset + extent.size - 1) // MIB
        if begins == ends == last_mib and extent.offset + extent.size <= part.stop:
            chosen.append(extent)
        last_mib = ends
    return chosen


class Pusher:
    """Gives the files of windows to the kernel. `run` must be running."""

    def __init__(self, manifest: Files, reader: Parts, store: Store) -> None:
        self._manifest = manifest
        self._reader = reader
        self._store = store
        self._queue: deque[tuple[ObjectRecord, ByteRange]] = deque(maxlen=QUEUED_PARTS)
        self._parked = trio.lowlevel.ParkingLot()
        self._extents: LRUCache[int, list[Extent]] = LRUCache(4)
        self._thread = trio.CapacityLimiter(1)
        self._stopped = False
        self.pushed_files = 0
        self.parts_done = 0
        reader.on_window = self._came

    def _came(self, obj: ObjectRecord, part: ByteRange) -> None:
        if self._stopped:
            return
        self._queue.append((obj, part))
        self._parked.unpark()

    async def run(self) -> None:
        while True:
            if not self._queue:
                await self._parked.park()
                continue
            obj, part = self._queue.popleft()
            files = [(extent.inode, view) for extent, view in self._views(obj, part)]
            if files:
                self.pushed_files += await trio.to_thread.run_sync(self._push, files, limiter=self._thread)
                files.clear()
            self.parts_done += 1

    async def stop(self) -> None:
        """Returns when nothing is being pushed, and nothing will be."""
        self._stopped = True
        self._queue.clear()
        async with self._thread:
            pass

    def _views(self, obj: ObjectRecord, part: ByteRange) -> Iterator[tuple[Extent, memoryview]]:
        extents = self._extents.get(obj.number)
        if extents is None:
            extents = sorted(
                Extent(entry.offset or 0, entry.size, entry.inode)
                for entry in self._manifest.entries_of_object(obj.number)
            )
            self._extents[obj.number] = extents
        for extent in to_push(extents, part):
            view = self._reader.peek(obj, ByteRange(extent.offset, extent.offset + extent.size))
            if view is not None:
                yield extent, view

    def _push(self, files: list[tuple[int, memoryview]]) -> int:
        """In a thread. How many of *files* the kernel took."""
        taken = 0
        for tried, (inode, view) in enumerate(files):
            if self._stopped:
                break
            if self._store(inode, view):
                taken += 1
            elif not taken and tried + 1 >= TRIES:
                break
        return taken
