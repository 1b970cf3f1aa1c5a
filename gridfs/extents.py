"""Where the files of an object lie, for who gives those of a part to somebody before they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from gridfs.config import MIB
from gridfs.errors import GridfsError
from gridfs.model import ByteRange

_OBJECTS_KEPT = 32
"""Packs that fills are under way in, of 8 readers with the store's latency. Of files of 100 KiB each takes 60 KiB."""


class Piece(NamedTuple):
    """One MiB of a file, or what is left at its end; of a small file all."""

    inode: int
    number: int
    """It begins at that MiB of the file."""
    offset: int
    """In the object."""
    size: int


class Files(Protocol):
    """What is asked of a manifest."""

    def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
        """(offset, size, inode) of the files with bytes in an object, in this order; offset and size in bytes. Raises
        FormatError where the manifest is damaged.
        """
        ...


class Extents:
    """The files of objects by their offset, those of the last objects kept."""

    def __init__(self, manifest: Files) -> None:
        self._manifest = manifest
        self._kept: LRUCache[int, list[tuple[int, int, int]]] = LRUCache(_OBJECTS_KEPT)

    def small_in(self, number: int, part: ByteRange, *, of_stream: bool = True) -> list[Piece]:
        """Small files that lie in *part* of object *number*: see `small_files`."""
        return small_files(self._of(number), part, of_stream=of_stream)

    def pieces_in(self, number: int, part: ByteRange, *, of_stream: bool = True) -> list[Piece]:
        """The same files, and see `large_pieces`."""
        extents = self._of(number)
        return small_files(extents, part, of_stream=of_stream) + large_pieces(extents, part)

    def bytes_in(self, number: int, part: ByteRange) -> int:
        """How many bytes of *part* of object *number* are in files; what files of one content share counts once."""
        extents = self._of(number)
        first = max(0, bisect_left(extents, (part.start, 0, 0)) - 1)
        size_bytes, seen = 0, part.start
        for offset, size, _ in extents[first:]:
            if offset >= part.stop:
                break
            stop = min(offset + size, part.stop)
            size_bytes += max(0, stop - max(offset, seen))
            seen = max(seen, stop)
        return size_bytes

    def _of(self, number: int) -> list[tuple[int, int, int]]:
        extents = self._kept.get(number)
        if extents is None:
            try:
                extents = self._manifest.extents_of_object(number)
            except GridfsError:
                extents = []  # a damaged manifest is for readers to find: nobody has asked for these files
            self._kept[number] = extents
        return extents


def small_files(extents: list[tuple[int, int, int]], part: ByteRange, *, of_stream: bool = True) -> list[Piece]:
    """Of the files of an object, (offset, size, inode) in their order, those of at most 1 MiB that lie in *part*.

    Of a stream one is left out in each MiB, the one across its start or else the first: somebody has to tell the
    prefetcher how far the reader is, and who reads that file does.
    """
    first = bisect_left(extents, (part.start, 0, 0))
    last_mib = (extents[first - 1][0] + extents[first - 1][1] - 1) // MIB if first else -1
    chosen = []
    for offset, size, inode in extents[first:]:
        if offset >= part.stop:
            break
        begins, ends = offset // MIB, (offset + size - 1) // MIB
        is_heard_of = of_stream and not begins == ends == last_mib
        if size <= MIB and offset + size <= part.stop and not is_heard_of:
            chosen.append(Piece(inode, 0, offset, size))
        last_mib = ends
    return chosen


def large_pieces(extents: list[tuple[int, int, int]], part: ByteRange) -> list[Piece]:
    """Of the files above 1 MiB, what lies in *part* in whole pieces, but of each the first: as with small files."""
    first = bisect_left(extents, (part.start, 0, 0))
    while first and extents[first - 1][0] + extents[first - 1][1] > part.start:
        first -= 1
    pieces = []
    for offset, size, inode in extents[first:]:
        if offset >= part.stop:
            break
        begin = -(-max(0, part.start - offset) // MIB)
        stop = -(-size // MIB) if offset + size <= part.stop else (part.stop - offset) // MIB
        pieces += [
            Piece(inode, number, offset + number * MIB, min(MIB, size - number * MIB))
            for number in range(begin + 1, stop)
            if size > MIB
        ]
    return pieces
