"""Reads of bytes that lie in memory, answered without Python (_fast_reads.c says how).

When a part of a window or of a fill has come, the thread in C is told which files lie in it and where, in pieces of at
most 1 MiB. It answers READs of those while it is in charge of the FUSE device, and hands on every other request to
pyfuse3. A part that leaves memory is taken from it first (`Part.on_gone`), and what it has answered is counted here
afterwards (`drain`).

Of a window's small files one in each MiB is left to Python, of a large file one piece in each part (extents.py): those
READs tell the prefetcher how far a reader is.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from gridfs.cache.memory import Part
from gridfs.extents import Extents
from gridfs.image_addresses import SmallFiles
from gridfs.model import ByteRange, ObjectRecord
from gridfs.zero_open import LIBRARY, library

SLOTS = 1024
"""Parts that the thread can know, as in the library; 8 GiB in parts of 8 MiB."""

DRAIN_EVERY_S = 2.0
"""At least; a part counts as idle after 5 s (cache/tiered.py)."""


class Reader(Protocol):
    """What is asked of a reader."""

    on_part: Callable[[ObjectRecord, Part, bool], None] | None
    on_shown_hit: Callable[[], None] | None

    def count_shown(self, part: Part, reads: int, size_bytes: int, stop: int, /) -> None: ...


class FastReads:
    """The thread of one session, and what it knows. Used from trio's thread."""

    def __init__(self, loaded: ctypes.PyDLL, extents: Extents, reader: Reader, image: SmallFiles | None) -> None:
        self._library = loaded
        self._extents = extents
        self._reader = reader
        self._image = image or SmallFiles(0, 0, 0, 0)
        self._shown: dict[int, Part] = {}
        self._free = list(range(SLOTS))
        self._rows = (ctypes.c_uint64 * (4 * SLOTS))()
        self.answered_reads = 0

    def start(self, device: int) -> int:
        """Begins to serve; the descriptor that is to be polled in place of *device*."""
        descriptor: int = self._library.gridfs_start(device, *self._image)
        if descriptor < 0:
            return device
        self._reader.on_part = self._came
        self._reader.on_shown_hit = self._hit
        return descriptor

    def end(self) -> None:
        """Ends the thread: while the device is open, and before the memory of any part goes."""
        self._reader.on_part = self._reader.on_shown_hit = None
        self._library.gridfs_end()
        self.drain()
        for part in self._shown.values():
            part.on_gone = None
        self._shown.clear()

    async def run(self) -> None:
        """Counts what was answered, now and then; until cancelled."""
        while True:
            await trio.sleep(DRAIN_EVERY_S)
            self.drain()

    def drain(self) -> None:
        """Counts what was answered since the last time."""
        rows = self._rows
        for row in range(0, 4 * self._library.gridfs_drain(rows), 4):
            slot, reads, size_bytes, stop = rows[row : row + 4]
            self.answered_reads += reads
            part = self._shown.get(slot)
            if part is not None:
                self._reader.count_shown(part, reads, size_bytes, part.start + stop)

    def _came(self, obj: ObjectRecord, part: Part, of_stream: bool) -> None:
        """Shows the files in a part to the thread."""
        if part.area is None or not self._free:
            return
        pieces = array("Q")
        whole = ByteRange(part.start, part.ready)
        for inode, number, offset, size in self._extents.pieces_in(obj.number, whole, of_stream=of_stream):
            pieces.extend((inode, number, offset - part.start, size))
        if not pieces:
            return
        self.drain()
        slot = self._free.pop()
        self._shown[slot] = part

        def gone() -> None:
            self._library.gridfs_drop(slot)
            self.drain()  # after it: an answer that is just being given counts too
            del self._shown[slot]
            self._free.append(slot)

        part.on_gone = gone
        address = ctypes.addressof(ctypes.c_char.from_buffer(part.area))
        raw = (ctypes.c_uint64 * len(pieces)).from_buffer(pieces)
        self._library.gridfs_put(slot, address, len(pieces) // 4, raw)
        self._library.gridfs_take_charge()

    def _hit(self) -> None:
        self.drain()
        self._library.gridfs_take_charge()


def load(path: Path = LIBRARY) -> ctypes.PyDLL | None:
    """The library, if it is there: its functions return at once, so they are called with the GIL held."""
    loaded = library(path, ctypes.PyDLL)
    if loaded is not None:
        loaded.gridfs_start.argtypes = (ctypes.c_int, *[ctypes.c_uint64] * 4)
        loaded.gridfs_put.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        loaded.gridfs_drop.argtypes = (ctypes.c_uint32,)
        loaded.gridfs_drain.argtypes = (ctypes.c_void_p,)
        loaded.gridfs_drain.restype = ctypes.c_size_t
    return loaded
