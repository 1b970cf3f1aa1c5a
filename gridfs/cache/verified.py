"""Reading blocks out of a file: either what they should be, or not at all."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from gridfs.cache.base import Span
from gridfs.cache.buffers import LARGE_FROM_BYTES
from gridfs.raw_io import read_at, read_into


class Mismatch(Exception):
    """A block on disk is not what it should be: torn, flipped, cut off, or of another writer's."""

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} differs from its checksum")
        self.block = block


def read_verified(
    fd: int, span: Span, offset: int, checksums: Sequence[int], *, nowait: bool, area: mmap.mmap | None
) -> memoryview | None:
    """The bytes of *span*, which lie at *offset* of the file; None if *nowait* and a disk would have to be waited for.

    With *area* they are read into it, and many at once past the page cache. Raises Mismatch, OSError.
    """
    data = memoryview(bytearray(span.size_bytes) if area is None else area)[: span.size_bytes]
    if area is not None and not nowait and span.size_bytes >= LARGE_FROM_BYTES:
        count: int | None = read_into(fd, area, span.size_bytes, offset)
    else:
        count = read_at(fd, data, offset, nowait=nowait)
    if count is None:
        return None
    size = span.block_size_bytes
    for position, expected in enumerate(checksums):
        end = min((position + 1) * size, span.size_bytes)
        if end > count or xxh3_64_intdigest(data[position * size : end]) != expected:
            raise Mismatch(span.first + position)
    return data
