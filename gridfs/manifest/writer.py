"""Writes a manifest in one pass, in bounded memory.

Entries come in the manifest's order (order.py), so each gets the next inode and is appended to the table; no tree is
held. Two things are not known when a row is written and are filled in later: a directory's first child and the number
of its children (when its children have been seen), and how much of an object is used (at the end).

The inode of the directory whose children come next is found without a table of all directories: when a directory's
children are complete, a query over just its child directories is put on a stack. The next directory to have children is
always ahead in one of the queries of the stack, and what lies between are empty directories.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from gridfs.manifest.meta import meta_rows, to_column
from gridfs.manifest.order import path_of
from gridfs.manifest.schema import (
    APPLICATION_ID,
    CHECKSUM_SIZE_BYTES,
    CREATE_INDEXES,
    CREATE_TABLES,
    FORMAT,
    PAGE_SIZE_BYTES,
    READABLE_SINCE,
    ManifestInfo,
    ManifestSettings,
)
from gridfs.model import ROOT_INODE, Kind, Mode, Problem

_DIRECTORY, _FILE = int(Kind.DIRECTORY), int(Kind.FILE)
"""Compared once for each entry, and a plain number is faster than an enum."""

_BATCH_ROWS = 10_000
_CACHE_KIB = 32 * 1024

_INSERT_ENTRY = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_OBJECT = "INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL)"
_UPDATE_DIRECTORY = "UPDATE entry SET first_child = ?, child_count = ? WHERE inode = ?"
_UPDATE_OBJECT = "UPDATE object SET live_bytes = ?, first_inode = ?, last_inode = ? WHERE number = ?"
_CHILD_DIRECTORIES = "SELECT inode, name FROM entry WHERE inode >= ? AND inode < ? AND kind = 1 ORDER BY inode"
_LIVE_BYTES = """
SELECT coalesce(sum(size), 0) FROM (
    SELECT DISTINCT offset, size FROM entry WHERE inode >= ? AND inode <= ? AND object = ?)
"""


class ManifestWriter:
    """A manifest being written to *path*, which must not exist. Nothing of it is valid before `finish` has returned."""

    def __init__(self, path: Path, settings: ManifestSettings) -> None:
        if (settings.mode is Mode.NO_COPY) != (settings.bucket is not None):
            raise ValueError("a no-copy manifest names its bucket, and no other does")
        path.touch(mode=0o600, exist_ok=False)
        self._settings = settings
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            f"PRAGMA page_size={PAGE_SIZE_BYTES}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};"
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"
            f"PRAGMA cache_size=-{_CACHE_KIB}; BEGIN; {CREATE_TABLES}"
        )
        self._entries: list[tuple[object, ...]] = []
        self._objects: list[tuple[object, ...]] = []
        self._updates: list[tuple[int, int, int]] = []
        self._kinds = [0, 0, 0, 0]
        self._total_bytes = 0
        self._longest_name_bytes = 0
        self._problem_count = 0
        self._block_count = 0
        self._usage = _ObjectUsage()

        root = (ROOT_INODE, ROOT_INODE, b"", _DIRECTORY, 0o755, 0, 0, None, None, None, None, None, 0)
        self._connection.execute(_INSERT_ENTRY, root)
        self._inode = ROOT_INODE
        self._directory = b""
        self._directory_inode = ROOT_INODE
        self._first_child = ROOT_INODE + 1
        self._has_directories = False
        self._last_name = b""
        self._above: list[tuple[bytes, Iterator[tuple[int, bytes]]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def set_root(self, mode: int, mtime_ns: int) -> None:
        """Attributes of the root; without it 0755 and the epoch."""
        self._connection.execute("UPDATE entry SET mode = ?, mtime_ns = ? WHERE inode = 1", (mode, mtime_ns))

    def add_object(
        self,
        key: str,
        size_bytes: int,
        checksums: bytes | None = None,
        *,
        etag: str | None = None,
        last_modified_ns: int | None = None,
    ) -> int:
        """Appends an object to the tape and returns its number.

        *checksums*: 8 bytes for each block, in a version that is no no-copy one, where *etag* is given in its place.
        """
        if size_bytes <= 0:
            raise ValueError(f"object {key} is empty: an empty file has no object")
        block_count = -(-size_bytes // self._settings.block_size_bytes)
        if self._settings.mode is Mode.NO_COPY:
            if etag is None:
                raise ValueError(f"object {key} of a no-copy version needs its ETag")
        elif checksums is None or len(checksums) != block_count * CHECKSUM_SIZE_BYTES:
            raise ValueError(f"object {key} has {block_count} blocks and needs a checksum for each")
        number = self._usage.append()
        self._objects.append((number, key, size_bytes, self._block_count, etag, last_modified_ns))
        self._block_count += block_count
        if checksums is not None:
            self._connection.execute("INSERT INTO checksum VALUES (?, ?)", (number, checksums))
        if len(self._objects) >= _BATCH_ROWS:
            self._flush()
        return number

    def add_entry(
        self,
        directory: bytes,
        name: bytes,
        kind: Kind,
        mode: int,
        size: int,
        mtime_ns: int,
        *,
        object: int | None = None,  # the manifest's own word
        offset: int | None = None,
        sha256: bytes | None = None,
        target: bytes | None = None,
    ) -> int:
        """Appends the entry *name* of *directory* (as `order.Place` has it) and returns its inode.

        Raises ValueError when the entry is not after the one before it, or its directory is no entry.
        """
        if directory != self._directory:
            self._enter(directory)
        if name <= self._last_name or b"/" in name or b"\0" in name or name == b"." or name == b"..":
            raise ValueError(f"{path_of(directory, name)!r} can't follow {self._last_name!r} in its directory")
        self._last_name = name
        if len(name) > self._longest_name_bytes:
            self._longest_name_bytes = len(name)
        self._inode = inode = self._inode + 1
        self._kinds[kind] += 1
        child_count = None
        if kind == _DIRECTORY:
            child_count = 0
            self._has_directories = True
        elif kind == _FILE:
            self._total_bytes += size
            if object is not None and offset is not None:
                self._usage.add(object, offset, size, inode)
            elif size:
                raise ValueError(f"{path_of(directory, name)!r} has {size} bytes and no object that holds them")
        self._entries.append((
            inode, self._directory_inode, name, int(kind), mode, size, mtime_ns, object, offset, sha256, target,
            None, child_count,
        ))  # fmt: skip
        if len(self._entries) >= _BATCH_ROWS:
            self._flush()
        return inode

    def add_problem(self, problem: Problem) -> None:
        """Records something that the version does not carry; at any time and in any order."""
        row = (problem.reason, problem.name, to_column(problem.detail))
        self._connection.execute("INSERT INTO problem VALUES (?, ?, ?)", row)
        self._problem_count += 1

    def finish(self) -> ManifestInfo:
        """Writes what is left, the indexes and the meta table, and closes the file; the caller syncs it if it must."""
        self._leave()
        self._flush()
        connection = self._connection
        connection.executemany(_UPDATE_OBJECT, self._usage.rows(connection))
        info = self._info()
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta_rows(info))
        connection.execute("COMMIT")
        connection.executescript(CREATE_INDEXES)
        connection.close()
        return info

    def _info(self) -> ManifestInfo:
        settings = self._settings
        return ManifestInfo(
            format=FORMAT,
            readable_since=READABLE_SINCE,
            block_size_bytes=settings.block_size_bytes,
            block_count=self._block_count,
            mode=settings.mode,
            source=settings.source,
            created_by=settings.created_by,
            file_count=self._kinds[Kind.FILE],
            directory_count=self._kinds[Kind.DIRECTORY],
            symlink_count=self._kinds[Kind.SYMLINK],
            total_bytes=self._total_bytes,
            object_count=len(self._usage),
            problem_count=self._problem_count,
            bucket=settings.bucket,
            longest_name_bytes=self._longest_name_bytes,
        )

    def _enter(self, directory: bytes) -> None:
        """Makes *directory* the one whose children come now."""
        if directory < self._directory:
            raise ValueError(f"directory {directory!r} can't follow {self._directory!r}")
        self._leave()
        parent, _, name = directory.rpartition(b"\0")
        while self._above and self._above[-1][0] != parent:
            self._above.pop()
        candidates = self._above[-1][1] if self._above else iter(())
        inode = next((inode for inode, candidate in candidates if candidate == name), None)
        if inode is None:
            raise ValueError(f"{path_of(parent, name)!r} is no directory that was added before its children")
        self._directory, self._directory_inode = directory, inode
        self._first_child, self._last_name, self._has_directories = self._inode + 1, b"", False

    def _leave(self) -> None:
        """The current directory's children are complete."""
        count = self._inode + 1 - self._first_child
        if count:
            self._updates.append((self._first_child, count, self._directory_inode))
        if self._has_directories:
            self._flush()
            found = self._connection.execute(_CHILD_DIRECTORIES, (self._first_child, self._inode + 1))
            self._above.append((self._directory, found))

    def _flush(self) -> None:
        self._connection.executemany(_INSERT_ENTRY, self._entries)
        self._connection.executemany(_INSERT_OBJECT, self._objects)
        self._connection.executemany(_UPDATE_DIRECTORY, self._updates)
        self._entries.clear()
        self._objects.clear()
        self._updates.clear()


class _ObjectUsage:
    """How much of each object this version uses, and between which inodes: 33 bytes an object.

    As long as the extents of an object come with ascending offsets, adding them up is exact. Where they don't (a file
    that was moved, content that is named twice), the sum of its distinct extents is asked of the table at the end.
    """

    def __init__(self) -> None:
        self._live_bytes = array("q")
        self._end = array("q")
        self._first_inode = array("q")
        self._last_inode = array("q")
        self._unordered = bytearray()

    def __len__(self) -> int:
        return len(self._live_bytes)

    def append(self) -> int:
        for column in (self._live_bytes, self._end, self._first_inode, self._last_inode):
            column.append(0)
        self._unordered.append(0)
        return len(self._live_bytes)

    def add(self, number: int, offset: int, size: int, inode: int) -> None:
        index = number - 1
        if not self._first_inode[index]:
            self._first_inode[index] = inode
        self._last_inode[index] = inode
        if offset >= self._end[index]:
            self._live_bytes[index] += size
            self._end[index] = offset + size
        else:
            self._unordered[index] = 1

    def rows(self, connection: sqlite3.Connection) -> Iterator[tuple[int, int, int, int]]:
        """Parameters of the update of each object that is used."""
        for index, first in enumerate(self._first_inode):
            if first:
                last, live = self._last_inode[index], self._live_bytes[index]
                if self._unordered[index]:
                    live = connection.execute(_LIVE_BYTES, (first, last, index + 1)).fetchone()[0]
                yield live, first, last, index + 1
