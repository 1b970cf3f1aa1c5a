"""Small files that have come ahead of their readers, given to the kernel before anyone asks for them.

A file that is read in tree order costs one request to the daemon, even when its bytes lie in memory, and its reader
waits for the answer. So when a part of a window has come, the kernel is given the files in it at once, and the reader
finds them in the page cache:

    of an image      the kernel is made to read them (open_ahead.py)
    of a FUSE mount  they are stored (FUSE_NOTIFY_STORE). It takes only files that it knows by a lookup; when it knows
                     none of the first few, the rest of the part is not tried

What fills a pack behind readers who come at random is given to it too, after the windows: of an image only, and where
the page cache can be expected to keep it (`takes_fills`).

Of a window one file in each MiB is left out (extents.py): the reader's requests for those tell the prefetcher how far
it has come. Large files are left out too: there the kernel's own read-ahead asks for much at a time.

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

QUEUED_FILLS = 256
"""Twice what memory holds of them by default: 1 GiB in parts of 8 MiB."""

SHARE_OF_MEMORY = 0.5
"""A version may be so large for its fills to be taken: a larger one would push out of the page cache what it has
brought in, or what others use."""

TRIES = 4
"""Files of a part that the kernel must not know before the rest is left alone."""

Store = Callable[[int, Buffer], bool]
"""Stores a file's bytes into the page cache of an inode; False when the kernel does not know the inode. Blocks."""

OpenAhead = Callable[[list[int]], int]
"""Has the kernel read files of the image, by their inodes; how many it could. Blocks."""


class Parts(Protocol):
    """What is asked of a reader."""

    on_ahead: Callable[[ObjectRecord, ByteRange, bool], None] | None

    def holds(self, obj: ObjectRecord, byte_range: ByteRange, /) -> bool: ...

    def peek(self, obj: ObjectRecord, byte_range: ByteRange, /) -> memoryview | None: ...


class Pusher:
    """Gives the files of windows and fills to the kernel. `run` must be running."""

    def __init__(
        self,
        extents: Extents,
        reader: Parts,
        store: Store,
        *,
        takes_fills: bool = False,
        on_defect: Callable[[BaseException, str], object],
    ) -> None:
        self._extents = extents
        self._reader = reader
        self._store = store
        self._takes_fills = takes_fills
        self._on_defect = on_defect
        self._windows: deque[tuple[ObjectRecord, ByteRange]] = deque(maxlen=QUEUED_PARTS)
        self._fills: deque[tuple[ObjectRecord, ByteRange]] = deque(maxlen=QUEUED_FILLS)
        self._parked = trio.lowlevel.ParkingLot()
        self._thread = trio.CapacityLimiter(1)
        self._stopped = False
        self.open_ahead: OpenAhead | None = None
        """Set when an image is mounted."""
        self.pushed_files = 0
        self.parts_done = 0
        reader.on_ahead = self._came

    def _came(self, obj: ObjectRecord, part: ByteRange, of_stream: bool) -> None:
        if self._stopped or not (of_stream or (self._takes_fills and self.open_ahead is not None)):
            return
        (self._windows if of_stream else self._fills).append((obj, part))
        self._parked.unpark()

    async def run(self) -> None:
        while True:
            queue = self._windows or self._fills
            if not queue:
                await self._parked.park()
                continue
            obj, part = queue.popleft()
            if not self._reader.holds(obj, part):
                continue
            try:
                self.pushed_files += await self._give(obj, part, of_stream=queue is self._windows)
            except Exception as error:  # a defect costs one part its push, and not the mount
                self._on_defect(error, obj.key)
            self.parts_done += 1

    async def _give(self, obj: ObjectRecord, part: ByteRange, *, of_stream: bool) -> int:
        """How many files of *part* the kernel took."""
        files = self._extents.small_in(obj.number, part, of_stream=of_stream)
        if self.open_ahead is not None:
            return await self._in_thread(self.open_ahead, [file.inode for file in files])
        return await self._in_thread(self._push, list(self._views(obj, files)))

    async def _in_thread(self, push: Callable[[list[T]], int], files: list[T]) -> int:
        return await trio.to_thread.run_sync(push, files, limiter=self._thread) if files else 0

    async def stop(self) -> None:
        """Returns when nothing is being pushed, and nothing will be."""
        self._stopped = True
        self._windows.clear()
        self._fills.clear()
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
