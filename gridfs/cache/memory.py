"""The memory tier: whole parts of objects, least recently used first out, counted in bytes.

What a GET brings is one buffer, a *part*: a run of blocks of one object. Reads are answered with views of it, and a
view pins its whole buffer (40 views of 256 KiB, accounted as 10 MiB, held 322 MiB), so the part is what is accounted
and evicted, and never a block of it.

A part may still be arriving: bytes up to `Part.ready` are verified and may be handed out, and only those are found. A
part that is pinned (still arriving, or waiting to be written to disk) is not evicted. The cache has no limit of its
own: whoever holds the byte budget calls `reclaim`, because bytes in flight and bytes kept compete for the same memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from gridfs.cache.buffers import BufferPool

FILE_SHARE = 4 / 5
"""Of a part that are bytes of files, at least, as long as nobody has counted them: before each a gap may be, of a fifth
of its size (create/pack.py), and what a reader in order has read at the end of a part is then five sixths of it."""


class Part:
    """A run of blocks of one object in one buffer. Published from its front to its end, as the bytes are verified."""

    __slots__ = (
        "_is_counted",
        "area",
        "block_size_bytes",
        "buffer",
        "first_block",
        "identity",
        "is_queued",
        "on_disk",
        "on_gone",
        "pins",
        "read_lately",
        "ready",
        "start",
        "stop",
        "unread_bytes",
    )

    def __init__(
        self,
        identity: str,
        block_size_bytes: int,
        start: int,
        stop: int,
        buffer: memoryview,
        area: mmap.mmap | None = None,
    ) -> None:
        self.identity = identity
        self.block_size_bytes = block_size_bytes
        self.start = start
        """Offset in the object of the buffer's first byte; a multiple of the block size."""
        self.stop = stop
        """Offset in the object behind its last byte: the end of a block, or of the object."""
        self.buffer = buffer
        self.area = area
        """The mapping behind *buffer*, when it is one of the pool's."""
        self.first_block = start // block_size_bytes
        self.ready = start
        """Offset in the object up to which the bytes are verified (invariant 4: nothing behind it is handed out)."""
        self.pins = 0
        """How many hold it in memory: the flight that fills it, the queue of the disk tier."""
        self.unread_bytes = int((stop - start) * FILE_SHARE)
        """Of what surely is bytes of files, as if that were read first: at zero, `read_out` is worth asking."""
        self._is_counted = False
        """The bytes of files in it are known."""
        self.on_gone: Callable[[], None] | None = None
        """Called once, before it leaves memory: somebody beside the cache looks at the buffer until then."""
        self.on_disk = False
        """It was written to the disk tier or came from there, all of it."""
        self.is_queued = False
        """It waits to be written to the disk tier."""
        self.read_lately = True
        """Set by reads, cleared by whoever lets go of idle parts."""

    @property
    def size_bytes(self) -> int:
        """What it takes of the memory."""
        return self.stop - self.start if self.area is None else len(self.area)

    @property
    def stop_block(self) -> int:
        return -(-self.stop // self.block_size_bytes)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes *start* to *stop* (offsets in the object) without a copy; both inside the verified bytes."""
        if not self.start <= start <= stop <= self.ready:
            raise ValueError(f"{start}..{stop} is not inside the verified bytes {self.start}..{self.ready}")
        return self.buffer[start - self.start : stop - self.start]

    def count_files(self, size_bytes: int) -> None:
        """So many of its bytes are in files; the rest are gaps between them, which nobody will read. Told once."""
        self._is_counted = True
        self.unread_bytes += size_bytes - int((self.stop - self.start) * FILE_SHARE)

    def read_out(self, stop: int) -> bool:
        """Whether a read that ended at *stop* was the last one that is to be expected.

        What was read is in the kernel's page cache, so a part that is on disk too can go then. That is so when every
        byte of its files was read; while nobody has counted those, when every byte was, or when a reader who came in
        order is at the end. Bytes are only summed: what is read twice makes a part go early, which costs a read from
        disk.
        """
        if self._is_counted:
            return self.unread_bytes <= 0
        size = self.stop - self.start
        return self.unread_bytes <= int(size * FILE_SHARE) - size or (
            self.unread_bytes <= 0 and stop > self.stop - self.block_size_bytes
        )

    def __repr__(self) -> str:
        return f"<Part {self.identity[:8]} {self.start}..{self.ready}..{self.stop} pins={self.pins}>"


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """What the memory tier holds now, and what it did."""

    parts: int
    size_bytes: int
    pinned_bytes: int
    evicted_parts: int


class MemoryCache:
    """Parts by (identity of the object, number of the block in it). Used from one thread."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, int], Part] = {}
        """The index. The read path looks into it directly: a warm read is a dict look-up and a slice."""
        self._recency: LRUCache[int, Part] = LRUCache(maxsize=1 << 62, getsizeof=lambda part: part.size_bytes)
        self._pinned: dict[int, Part] = {}
        self.pinned_bytes = 0
        """Of `size_bytes`, what can't be evicted."""
        self._evicted_parts = 0
        self.pool = BufferPool()
        self.on_evictable: Callable[[], None] | None = None
        """Called whenever the last pin of a part ended: whoever waits for memory may find some now."""

    @property
    def size_bytes(self) -> int:
        """All bytes held, the pinned ones included."""
        return int(self._recency.currsize) + self.pinned_bytes

    def statistics(self) -> MemoryStatistics:
        return MemoryStatistics(
            len(self._recency) + len(self._pinned), self.size_bytes, self.pinned_bytes, self._evicted_parts
        )

    def find(self, identity: str, block: int) -> Part | None:
        """The part that holds this block, verified; counts as a use of it."""
        part = self.blocks.get((identity, block))
        if part is not None:
            self.touch(part)
        return part

    def touch(self, part: Part) -> None:
        """Makes *part* the last to be evicted."""
        if not part.pins:
            self._recency.get(id(part))

    def publish(self, part: Part, ready: int) -> None:
        """Bytes of *part* up to *ready* are verified: blocks that end there can be found from now on."""
        size = part.block_size_bytes
        first = part.ready // size
        stop = part.stop_block if ready >= part.stop else ready // size
        identity = part.identity
        for block in range(first, stop):
            self.blocks[identity, block] = part
        part.ready = min(stop * size, part.stop)

    def pin(self, part: Part) -> None:
        """Keeps *part* from being evicted until as many `unpin`; a part enters the cache by its first pin."""
        if not part.pins:
            self._recency.pop(id(part), None)
            self._pinned[id(part)] = part
            self.pinned_bytes += part.size_bytes
        part.pins += 1

    def unpin(self, part: Part) -> None:
        """Ends one pin. After the last one the part is kept as the most recently used, if any block of it was
        published.
        """
        part.pins -= 1
        if part.pins:
            return
        del self._pinned[id(part)]
        self.pinned_bytes -= part.size_bytes
        if part.ready > part.start:
            self._recency[id(part)] = part
        if self.on_evictable is not None:
            self.on_evictable()

    def reclaim(self, wanted_bytes: int) -> int:
        """Evicts parts, the least recently used first, until *wanted_bytes* are free or all others are pinned; bytes
        freed.
        """
        freed = 0
        while freed < wanted_bytes and self._recency:
            _, part = self._recency.popitem()
            freed += part.size_bytes
            self._forget(part)
        return freed

    def drop(self, part: Part) -> int:
        """Evicts this very part unless it is pinned or gone; bytes freed."""
        if part.pins or self._recency.pop(id(part), None) is None:
            return 0
        self._forget(part)
        return part.size_bytes

    def parts(self) -> list[Part]:
        """What may be evicted, in no order."""
        return list(self._recency.values())

    def _forget(self, part: Part) -> None:
        self._evicted_parts += 1
        if part.on_gone is not None:
            part.on_gone()
            part.on_gone = None
        for block in range(part.first_block, part.stop_block):
            if self.blocks.get((part.identity, block)) is part:
                del self.blocks[part.identity, block]
        self._recycle(part)

    def _recycle(self, part: Part) -> None:
        """Gives the part's mapping to the pool, unless someone still looks at it: then it is theirs."""
        area = part.area
        if area is None:
            return
        part.buffer.release()  # from here on a use of the part would be an error and never another part's bytes
        if self.pool.give(area):
            part.area = None  # the part is nobody's any more
        else:
            part.buffer = memoryview(area)[: part.stop - part.start]
