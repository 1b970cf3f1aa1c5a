"""Buffers for parts: page-aligned memory of their own, used again instead of given back.

Memory that a process touches for the first time is dear: the kernel clears each page, and on a virtual machine the
host may have to find it first (measured: 0.1 s for each GiB in large pages that the guest had used before, 2.9 s for
those it had not; 50 us for a buffer of 128 KiB in small ones, a tenth of a cold read). A pool of a few parts therefore
makes streaming at network speed cost no page at all, and a read of a small file at random none either.

A buffer is used again only when nobody looks at it any more. Python knows: a mapping can't be resized while a view of
it exists, so resizing it to its own size asks just that (1 us). One that is still looked at is left to its last view.
"""

from __future__ import annotations

import mmap
import sys
from collections import OrderedDict
from contextlib import suppress

from gridfs.config import KIB, MIB

POOLED_FROM_BYTES = 64 * KIB
"""Smaller parts come from the client as buffers of their own: small objects of a bucket."""

LARGE_FROM_BYTES = 512 * KIB
"""Parts of windows and fills, rather than of one small file: in large pages, and past the page cache of the disk tier.
"""

SMALL_STEP_BYTES = 32 * KIB

IDLE_LIMIT_BYTES = 64 * MIB
"""Kept while nothing needs them: eight parts."""


def area_bytes(size_bytes: int) -> int:
    """How much memory a part of *size_bytes* takes: whole MiB, or 32 KiB, so that there are few sizes of mappings."""
    if size_bytes < POOLED_FROM_BYTES:
        return size_bytes
    step = SMALL_STEP_BYTES if size_bytes < LARGE_FROM_BYTES else MIB
    return -(-size_bytes // step) * step


def new_area(size_bytes: int) -> mmap.mmap:
    """A mapping of whole pages for *size_bytes*, in large pages where there are any.

    CPU for each GB that is streamed into such: 0.5 s; with pages of 4 KiB 1.0 s, with Python's default of a shared
    mapping 1.4 s (docs/decisions/part-buffers.md).
    """
    whole = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if size_bytes < LARGE_FROM_BYTES:
        return mmap.mmap(-1, whole, flags=flags | mmap.MAP_POPULATE)
    area = mmap.mmap(-1, whole, flags=flags)
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel without them
            area.madvise(mmap.MADV_HUGEPAGE)
    return area


class BufferPool:
    """Mappings that may be used again. Used from one thread."""

    def __init__(self, limit_bytes: int = IDLE_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._idle: OrderedDict[int, list[mmap.mmap]] = OrderedDict()
        """By size; the size that was last given or taken comes last. Sizes that nobody wants leave first: kept, they
        filled the pool, and of 2 GiB read in order 2 % lay in memory that was used again."""
        self._lent: mmap.mmap | None = None
        self.idle_bytes = 0

    def take(self, size_bytes: int) -> mmap.mmap:
        """A mapping of `area_bytes(size_bytes)`; its content is whatever it was."""
        whole = area_bytes(size_bytes)
        idle = self._idle.get(whole)
        if idle:
            self.idle_bytes -= whole
            self._idle.move_to_end(whole)
            return idle.pop()
        return new_area(whole)

    def lend(self, size_bytes: int) -> mmap.mmap:
        """As `take`, for an answer that is looked at for a moment: taken back when the next one is lent."""
        if self._lent is not None:
            self.give(self._lent)
        self._lent = self.take(size_bytes)
        return self._lent

    def give(self, area: mmap.mmap) -> bool:
        """Takes *area* back if nobody has a view of it, else False. What is then too much, of any size, is given up."""
        size_bytes = len(area)
        try:
            area.resize(size_bytes)
        except BufferError:
            return False
        self._idle.setdefault(size_bytes, []).append(area)
        self._idle.move_to_end(size_bytes)
        self.idle_bytes += size_bytes
        while self.idle_bytes > self._limit_bytes:
            least_wanted, areas = next(iter(self._idle.items()))
            if areas:
                areas.pop().close()
                self.idle_bytes -= least_wanted
            else:
                del self._idle[least_wanted]
        return True

    def clear(self) -> None:
        """Gives everything back to the system."""
        self._idle.clear()
        self._lent = None
        self.idle_bytes = 0
