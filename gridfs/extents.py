"""Where the files of an object lie, for what gives a part's files to somebody before they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from gridfs.config import MIB
from gridfs.model import ByteRange

_OBJECTS_KEPT = 32
"""Packs that fills are under way in, of 8 readers with the store's latency. Of files of 100 KiB each takes 60 KiB."""


class Extent(NamedTuple):
    """Where a file lies in its object."""

    offset: int
    size: int
    inode: int


class Files(Protocol):
    """What is asked of a manifest."""

    def extents_of_object(self, number: int) -> list[tuple[int, int, int]]: ...


class Extents:
    """The files of objects by their offset, those of the last objects kept."""

    def __init__(self, manifest: Files) -> None:
        self._manifest = manifest
        self._kept: LRUCache[int, list[tuple[int, int, int]]] = LRUCache(_OBJECTS_KEPT)

    def small_in(self, number: int, part: ByteRange) -> list[Extent]:
        """Small files that lie in *part* of object *number*: see `small_files`."""
        extents = self._kept.get(number)
        if extents is None:
            extents = self._kept[number] = self._manifest.extents_of_object(number)
        return small_files(extents, part)


def small_files(extents: list[tuple[int, int, int]], part: ByteRange) -> list[Extent]:
    """Of the files of an object, (offset, size, inode) in their order, those that lie in *part*, but one in each MiB.

    That is the one across its start or else the first. Somebody has to tell the prefetcher how far a reader is, and who
    reads that file does. It also leaves out large files.
    """
    first = bisect_left(extents, (part.start, 0, 0))
    last_mib = (extents[first - 1][0] + extents[first - 1][1] - 1) // MIB if first else -1
    chosen = []
    for offset, size, inode in extents[first:]:
        if offset >= part.stop:
            break
        begins, ends = offset // MIB, (offset + size - 1) // MIB
        if begins == ends == last_mib and offset + size <= part.stop:
            chosen.append(Extent(offset, size, inode))
        last_mib = ends
    return chosen
