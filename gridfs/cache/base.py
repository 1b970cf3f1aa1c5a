"""What the read path asks of a cache of blocks: the promises that every tier keeps and tests/contract checks.

A cache is never trusted and never in the way (invariant 4): what it answers was verified, whatever goes wrong inside
it is a miss, and nothing it does makes a reader wait for a write. Keys are (identity of the object, number of the
block in it); an identity names immutable bytes, so an entry can be absent but never stale.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from gridfs.cache.memory import Part

Checksums: TypeAlias = Sequence[int] | None
"""xxh3_64 of each block of a span; None: the version has none (no-copy), so those of the first fetch count."""


class Span(NamedTuple):
    """Blocks *first* to *stop* (exclusive) of one object."""

    identity: str
    object_size_bytes: int
    block_size_bytes: int
    first: int
    stop: int

    @property
    def start_byte(self) -> int:
        return self.first * self.block_size_bytes

    @property
    def stop_byte(self) -> int:
        return min(self.stop * self.block_size_bytes, self.object_size_bytes)

    @property
    def size_bytes(self) -> int:
        return self.stop_byte - self.start_byte


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """What the disk tier of this process did. Bytes unless named otherwise."""

    directory: str | None
    """None: there is no disk tier."""
    active: bool
    """False once a full or failing disk has turned it off."""
    reason: str | None
    """Why it is off."""
    limit_bytes: int
    used_bytes: int
    """Of all daemons of this user, as of the last look plus what this one has written since."""
    read_bytes: int
    written_bytes: int
    dropped_bytes: int
    """Not written, because the queue was full."""
    queued_bytes: int
    mismatches: int
    """Blocks that were not what they should have been (torn writes, flipped bits): misses."""
    evicted_segments: int
    is_store: bool = False
    """Whether *directory* is the store itself, on a disk of this node, which needs no copy."""


class BlockCache(Protocol):
    """All methods without `async` answer at once and are called from one thread (trio's)."""

    def present(self, span: Span) -> int:
        """How many blocks from the span's front on are likely there, one run; 0 for none. A promise of nothing."""
        ...

    async def held_bytes(self, spans: Sequence[Span]) -> int:
        """How many bytes of *spans*, each of which lies in one part, are there; waits for a disk to know it.

        For a while `present` knows it of these, too, and need not guess.
        """
        ...

    def load_nowait(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        """All bytes of the span, verified, if that takes no waiting for a disk; else None. *area* as in `load`."""
        ...

    async def load(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        """All bytes of the span, verified; None when any of them is lacking or wrong. Never raises but Cancelled.

        With *area*, a mapping of at least that size, they are read into it; cancelled, it may still be written to.
        """
        ...

    def keep(
        self, span: Span, part: Part, checksums: Sequence[int], on_written: Callable[[], None] = lambda: None
    ) -> bool:
        """Takes a complete and verified part, which is the span's, with its blocks' checksums; False: dropped.

        Taken, it calls *on_written* when the buffer is no longer needed; whatever then became of the bytes.
        """
        ...

    def room_bytes(self) -> int:
        """How many bytes could be added without evicting anything."""
        ...

    def statistics(self) -> DiskStatistics:
        """What it did so far."""
        ...
