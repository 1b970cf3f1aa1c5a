"""Which files of a directory are measured: a bounded walk in tree order (byte order of names, as gridfs packs them).

The walk itself is a `find`; it ends after enough files, so that a directory of millions costs no more than one of
thousands. Small files are what a training set is read by; the largest file found is what is read sequentially.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

SMALL_FILE_BYTES = 4 << 20
"""Larger files are read by parts, not whole: their latency says nothing of open()."""


@dataclass(frozen=True, slots=True)
class SampleFile:
    path: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What a measurement reads."""

    small: tuple[SampleFile, ...]
    """In tree order."""
    largest: SampleFile | None

    @property
    def small_bytes(self) -> int:
        return sum(file.size_bytes for file in self.small)


def walk(root: bytes) -> Iterator[SampleFile]:
    """Regular, non-empty files below *root* in tree order; no symbolic links; unreadable places are skipped."""
    try:
        with os.scandir(root) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in ordered:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path)
            elif entry.is_file(follow_symlinks=False) and (size := entry.stat(follow_symlinks=False).st_size):
                yield SampleFile(entry.path, size)
        except OSError:
            continue


def choose(root: bytes, max_files: int, max_visited: int = 200_000) -> Sample:
    """The first *max_files* small files of *root*, and the largest of the at most *max_visited* files on the way."""
    small: list[SampleFile] = []
    largest: SampleFile | None = None
    for visited, file in enumerate(walk(root)):
        if visited == max_visited:
            break
        if file.size_bytes <= SMALL_FILE_BYTES and len(small) < max_files:
            small.append(file)
        if largest is None or file.size_bytes > largest.size_bytes:
            largest = file
        if len(small) == max_files and largest.size_bytes >= 1 << 30:
            break
    return Sample(tuple(small), largest)
