"""Checksums of blocks: xxh3_64 of each, the last block of an object at its real length. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xxhash import xxh3_64_intdigest

from gridfs.model import Buffer


def block_checksums(data: Buffer, block_size_bytes: int) -> list[int]:
    """The checksum of each block of *data*, which begins at the start of a block."""
    view = memoryview(data)
    return [
        xxh3_64_intdigest(view[start : start + block_size_bytes]) for start in range(0, view.nbytes, block_size_bytes)
    ]


def wrong_blocks(data: Buffer, expected: Sequence[int], block_size_bytes: int) -> Iterator[int]:
    """Positions in *data* of the blocks that differ from what is *expected*."""
    for position, checksum in enumerate(block_checksums(data, block_size_bytes)):
        if checksum != expected[position]:
            yield position
