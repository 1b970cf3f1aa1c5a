"""Writes what one scan finds into the journal's table: entries, the directories above them, and who wins a name.

A path may be found as a directory and as something else, in either order: the keys `a` and `a/b` of a bucket. The
directory stays, and whoever asked to be told is told the path.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from gridfs.create.journal_schema import FILES_AT_ONCE, IMPLY, UPSERT, UPSERT_FILES
from gridfs.create.source import IMPLIED_MODE, Found
from gridfs.manifest.order import directories_above, place_of
from gridfs.model import Kind

_KNOWN_DIRECTORIES = 65_536


class FoundWriter:
    """Of the scan with this *number*."""

    def __init__(self, connection: sqlite3.Connection, number: int, on_clash: Callable[[bytes], None]) -> None:
        self._execute = connection.execute
        self._number = number
        self._on_clash = on_clash
        self._known: set[bytes] = set()
        """Directories that are in the table, each as in a place."""
        self.files = 0
        self.total_bytes = 0

    def add(self, found: Found, content: int | None) -> None:
        """Journal.add."""
        directory, name = place_of(found.path)
        self._imply_above(directory, found.path)
        if found.kind is Kind.DIRECTORY:
            self._remember(found.path)
            self._clash_with_file(directory, name, found.path)
        elif found.kind is Kind.FILE:
            self.files += 1
            self.total_bytes += found.size
        written = self._execute(
            UPSERT,
            (directory, name, int(found.kind), found.mode, found.size, found.mtime_ns, found.target, found.stamp,
             found.locator, found.same_as, found.etag, content, self._number),
        ).rowcount  # fmt: skip
        if not written:
            self._on_clash(found.path)

    def add_files(self, files: Sequence[Found]) -> None:
        """Listing.add_files."""
        whole = len(files) - len(files) % FILES_AT_ONCE
        for start in range(0, whole, FILES_AT_ONCE):
            self._add_at_once(files[start : start + FILES_AT_ONCE])
        for file in files[whole:]:
            self.add(file, None)

    def _add_at_once(self, files: Sequence[Found]) -> None:
        number, known, rows = self._number, self._known, []
        for path, _, mode, size, mtime_ns, _, stamp, locator, same_as, etag in files:
            directory, name = place_of(path)
            if directory and directory not in known:
                self._imply_above(directory, path)
            self.total_bytes += size
            rows.append((directory, name, mode, size, mtime_ns, stamp, locator, same_as, etag, number))
        self.files += len(files)
        written = self._execute(UPSERT_FILES, tuple(chain.from_iterable(rows))).rowcount
        if written < len(files):
            self._tell_clashes(files)

    def _tell_clashes(self, files: Iterable[Found]) -> None:
        """Of *files* some are directories."""
        for file in files:
            row = self._execute(
                "SELECT kind FROM found WHERE directory = ? AND name = ?", place_of(file.path)
            ).fetchone()
            if row[0] == Kind.DIRECTORY:
                self._on_clash(file.path)

    def _imply_above(self, directory: bytes, path: bytes) -> None:
        """The directories that *path* lies in, if they are not known."""
        if directory and directory not in self._known:
            for above in directories_above(path):
                self._imply(above)

    def _imply(self, path: bytes) -> None:
        place = place_of(path)
        self._clash_with_file(*place, path)
        self._execute(IMPLY, (*place, IMPLIED_MODE, self._number))
        self._remember(path)

    def _remember(self, path: bytes) -> None:
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._known.clear()
        self._known.add(path.replace(b"/", b"\0"))

    def _clash_with_file(self, directory: bytes, name: bytes, path: bytes) -> None:
        row = self._execute(
            "SELECT 1 FROM found WHERE directory = ? AND name = ? AND kind <> 1 AND scan = ?",
            (directory, name, self._number),
        ).fetchone()
        if row is not None:
            self._on_clash(path)
