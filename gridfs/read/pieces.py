"""What a reader is given: verified blocks of parts, or the flights that bring them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from gridfs.cache.memory import Part
from gridfs.model import ByteRange
from gridfs.read.flight import Flight
from gridfs.read.plan import Run


class Piece(NamedTuple):
    """Verified blocks of one part; holding it keeps the bytes, whatever the cache evicts."""

    part: Part
    run: Run
    guard: memoryview
    """A view of the part's buffer: while it lives, the buffer is not used again."""

    @classmethod
    def of(cls, part: Part, run: Run) -> Piece:
        return cls(part, run, part.buffer[:0])


Joined: TypeAlias = Piece | tuple[Run, Flight]
"""Blocks that are there, or the flight that brings them."""


def without_pilot(joined: Sequence[Joined]) -> list[Flight]:
    """The flights that no task sees to yet."""
    return [item[1] for item in joined if not isinstance(item, Piece) and not item[1].has_pilot]


def slice_of(pieces: Sequence[Piece], byte_range: ByteRange) -> memoryview:
    """The bytes of *byte_range* out of pieces that cover it: a view where one part has them all, else one copy."""
    start, stop = byte_range
    views = []
    for part, run, _ in pieces:
        low = max(start, run.first * part.block_size_bytes)
        high = min(stop, run.stop * part.block_size_bytes, part.stop)
        if high > low:
            views.append(part.view(low, high))
    if len(views) == 1:
        return views[0]
    return memoryview(b"".join(views))
