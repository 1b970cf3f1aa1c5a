"""Small files of a window, given to the kernel before anyone asks for them.

A file that is read in tree order costs one request to the daemon, even when its bytes lie in memory, and its reader
waits for the answer. So when a part of a window has come, the kernel is given the files in it at once, and the reader
finds them in the page cache:

    of an image      the kernel is made to read them (open_ahead.py)
    of a FUSE mount  they are stored (FUSE_NOTIFY_STORE). It takes only files that it knows by a lookup; when it knows
                     none of the first few, the rest of the part is not tried

One file in each MiB is left out (extents.py): the reader's requests for those tell the prefetcher how far it has come.
That also leaves out large files, where the kernel's own read-ahead asks for much at a time.

The calls are made in a thread, because they wait, and can't be killed, while this process has something to answer. So
what readers wait for is not stored, and the pushing must have ended (`stop`) before the answering does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import trio

from gridfs.extents import Extents, Piece
from gridfs.model import Buffer, ByteRange, ObjectRecord

T = TypeVar("T")

QUEUED_PARTS = 16
"""Parts not yet given: more than a window. The oldest is dropped, since its reader has gone by."""

TRIES = 4
"""Files of a part that the kernel must not know before the rest is left alone."""

Store = Callable[[int, Buffer], bool]
"""Stores a file's bytes into the page cache of an inode; False when the kernel does not know the inode. Blocks."""

OpenAhead = Callable[[list[int]], int]
"""Has the kernel read files of the image, by their inodes; how many it could. Blocks."""


class Parts(Protocol):
    """What is asked of a reader."""

    on_window: Callable[[ObjectRecord, ByteRange], None] | None

    def peek(self, obj: ObjectRecord, byte_range: ByteRange, /) -> memoryview | None: ...


class Pusher:
    """Gives the files of windows to the kernel. `run` must be running."""

    def __init__(self, extents: Extents, reader: Parts, store: Store) -> None:
        self._extents = extents
        self._reader = reader
        self._store = store
        self._queue: deque[tuple[ObjectRecord, ByteRange]] = deque(maxlen=QUEUED_PARTS)
        self._parked = trio.lowlevel.ParkingLot()
        self._thread = trio.CapacityLimiter(1)
        self._stopped = False
        self.open_ahead: OpenAhead | None = None
        """Set when an image is mounted."""
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
            files = self._extents.small_in(obj.number, part)
            if self.open_ahead is not None:
                self.pushed_files += await self._in_thread(self.open_ahead, [file.inode for file in files])
            else:
                self.pushed_files += await self._in_thread(self._push, list(self._views(obj, files)))
            self.parts_done += 1

    async def _in_thread(self, push: Callable[[list[T]], int], files: list[T]) -> int:
        return await trio.to_thread.run_sync(push, files, limiter=self._thread) if files else 0

    async def stop(self) -> None:
        """Returns when nothing is being pushed, and nothing will be."""
        self._stopped = True
        self._queue.clear()
        async with self._thread:
            pass

    def _views(self, obj: ObjectRecord, files: list[Piece]) -> Iterator[tuple[int, memoryview]]:
        for file in files:
            view = self._reader.peek(obj, ByteRange(file.offset, file.offset + file.size))
            if view is not None:
                yield file.inode, view

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
