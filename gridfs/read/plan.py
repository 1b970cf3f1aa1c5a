"""Which bytes to fetch: reads to blocks, blocks that are lacking to parts. Pure.

A *part* is one ranged GET: whole blocks of one object, at most 8 MiB, and never across a multiple of 8 MiB of the
object, so that each part lies in one segment of the disk cache and two planners cut a large object at the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gridfs.config import PART_SIZE_BYTES
from gridfs.model import ByteRange, ObjectRecord, range_within


class Run(NamedTuple):
    """Blocks *first* to *stop* (exclusive), numbered within one object or, where it says so, on the tape."""

    first: int
    stop: int

    @property
    def block_count(self) -> int:
        return self.stop - self.first


def blocks_of(byte_range: ByteRange, block_size_bytes: int) -> Run:
    """The blocks of an object that hold *byte_range*; an empty range has none."""
    start, stop = byte_range
    if stop <= start:
        return Run(start // block_size_bytes, start // block_size_bytes)
    return Run(start // block_size_bytes, -(-stop // block_size_bytes))


def bytes_of(run: Run, object_size_bytes: int, block_size_bytes: int) -> ByteRange:
    """The bytes of an object that *run* holds: its last block may be shorter than the others."""
    stop = min(run.stop * block_size_bytes, object_size_bytes)
    return range_within(run.first * block_size_bytes, stop, object_size_bytes)


def lacking(run: Run, have: Callable[[int], object]) -> Iterator[Run]:
    """The maximal runs within *run* for whose blocks *have* is false, in order."""
    first = None
    for block in range(run.first, run.stop):
        if have(block):
            if first is not None:
                yield Run(first, block)
            first = None
        elif first is None:
            first = block
    if first is not None:
        yield Run(first, run.stop)


def parts_of(run: Run, block_size_bytes: int, part_size_bytes: int = PART_SIZE_BYTES) -> Iterator[Run]:
    """Cuts *run* at multiples of 8 MiB, and between those at multiples of *part_size_bytes*; one block at least."""
    per_segment = max(1, PART_SIZE_BYTES // block_size_bytes)
    per_part = max(1, min(part_size_bytes // block_size_bytes, per_segment))
    first = run.first
    while first < run.stop:
        segment = first - first % per_segment
        stop = min(run.stop, segment + per_segment, segment + ((first - segment) // per_part + 1) * per_part)
        yield Run(first, stop)
        first = stop


def to_whole_part(run: Run, block_count: int, block_size_bytes: int, part_size_bytes: int) -> Run:
    """*run*, and the rest of the part that it ends in (as `parts_of` cuts an object of *block_count* blocks)."""
    per_part = max(1, part_size_bytes // block_size_bytes)
    return Run(run.first, max(run.stop, min(-(-run.stop // per_part) * per_part, block_count)))


def objects_of(
    tape: Run, object_at_block: Callable[[int], ObjectRecord], block_size_bytes: int
) -> Iterator[tuple[ObjectRecord, Run]]:
    """The objects that a run of the tape touches, each with the run of its own blocks, in tape order."""
    block = tape.first
    while block < tape.stop:
        record = object_at_block(block)
        end = record.first_block + record.block_count(block_size_bytes)
        stop = min(tape.stop, end)
        yield record, Run(block - record.first_block, stop - record.first_block)
        block = max(stop, block + 1)
