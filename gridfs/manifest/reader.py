"""Reads a manifest: one read-only, immutable SQLite connection and a prepared query for each question.

Of entries nothing is cached here but SQLite's pages (8 MiB at most): the kernel keeps attributes and names for ever. Of
objects the last few are kept, with their checksums, since every read asks for both: two queries are 7 us in a loop,
and 40 us of a cold read, for which SQLite's code and pages have to come into the processor's caches. The file is not
mapped into memory, since a truncated one would end the process with SIGBUS; read, it is a FormatError, as is every
other damage that SQLite notices. Rows become records without an intermediate step: `find` over 1.28 million entries
makes each of them once.

A Manifest is used by one thread at a time (the daemon's trio thread).
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Self, TypeAlias, cast
from urllib.parse import quote

from cachetools import LRUCache

from gridfs.errors import FormatError
from gridfs.manifest.meta import from_column, read_meta
from gridfs.manifest.schema import CHECKSUM_SIZE_BYTES
from gridfs.model import ROOT_INODE, Entry, Kind, Mode, ObjectRecord, Problem, no_copy_identity

_CACHE_KIB = 8 * 1024

_OBJECTS_KEPT = 256
"""Packs of 16 GiB."""

_KEPT_CHECKSUMS_BYTES = 8 * 1024
"""Of one object, at most: 128 MiB in blocks of 128 KiB. A pack has half of it."""

_OPEN_CHECKSUMS = 16
"""Of objects with more, which stay open: opening costs 45 us, a tenth of what a cold read takes of the processor."""

_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""The second when SQLite's message has a damaged name of a table or column in it."""

_ENTRY = "SELECT * FROM entry WHERE inode = ?"
_LOOKUP = "SELECT * FROM entry WHERE parent = ? AND name = ?"
_RANGE = "SELECT * FROM entry WHERE inode >= ? AND inode < ? ORDER BY inode"
_NODES = """
SELECT inode, kind, mode, size, mtime_ns, object, offset, first_child, child_count FROM entry
WHERE inode >= ? AND inode < ? ORDER BY inode
"""
_NAMES = "SELECT inode, name, kind FROM entry WHERE inode >= ? AND inode < ? ORDER BY inode"
_NOT_BEFORE = "SELECT inode FROM entry WHERE parent = ? AND name >= ? ORDER BY name LIMIT 1"
_OBJECT = "SELECT * FROM object WHERE number = ?"
_OBJECTS = "SELECT * FROM object ORDER BY number"
_OBJECT_AT = "SELECT * FROM object WHERE first_block <= ? ORDER BY first_block DESC LIMIT 1"
_ENTRIES_OF_OBJECT = """
SELECT * FROM entry
WHERE inode >= (SELECT first_inode FROM object WHERE number = ?1)
  AND inode <= (SELECT last_inode FROM object WHERE number = ?1) AND object = ?1
ORDER BY offset, inode
"""

_EXTENTS_OF_OBJECT = """
SELECT offset, size, inode FROM entry
WHERE inode >= (SELECT first_inode FROM object WHERE number = ?1)
  AND inode <= (SELECT last_inode FROM object WHERE number = ?1) AND object = ?1 AND size > 0
ORDER BY offset, size, inode
"""

_Row: TypeAlias = tuple[object, ...]
_ObjectRow: TypeAlias = tuple[int, str, int, int, str | None, int | None, int | None, int | None, int | None]

_as_entry = cast("Callable[[_Row], Entry]", partial(tuple.__new__, Entry))
"""Entry._make without its check of the length, which the format fixes: half the time, for each row of a readdir."""


class Manifest:
    """An open manifest. Satisfies the Layout that the read path asks for."""

    def __init__(self, connection: sqlite3.Connection, path: Path, file: BufferedReader) -> None:
        self.path = path
        self._connection = connection
        self._file = file
        self._objects: LRUCache[int, ObjectRecord] = LRUCache(_OBJECTS_KEPT)
        self._checksums: LRUCache[int, bytes] = LRUCache(_OBJECTS_KEPT)
        self._open_checksums: LRUCache[int, sqlite3.Blob] = LRUCache(_OPEN_CHECKSUMS)
        with self._damage_is_format_error():
            self.info = read_meta(connection, path)

    @classmethod
    def open(cls, path: Path) -> Manifest:
        """Opens the file at *path*. Raises FormatError if it is damaged, of a newer format, or no manifest."""
        file = _opened(path)
        address = f"file:{quote(bytes(path.absolute()))}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA mmap_size=0")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            return cls(connection, path, file)
        except _DAMAGE as error:
            connection.close()
            file.close()
            raise FormatError(f"{path} is damaged: {error}", remedy=_REMEDY) from error
        except BaseException:
            connection.close()
            file.close()
            raise

    def close(self) -> None:
        self._open_checksums.clear()  # and so closed
        self._connection.close()
        self._file.close()

    def sha256(self) -> str:
        """Of the file as it is now, also when another one has its name. By one thread at a time. Raises OSError."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def entry(self, inode: int) -> Entry | None:
        """The entry of that inode."""
        return self._one(_ENTRY, (inode,))

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The entry *name* in the directory whose inode is *parent*."""
        return self._one(_LOOKUP, (parent, name))

    def children(self, directory: Entry, after: int = 0) -> Iterator[Entry]:
        """The children of *directory* whose inode is greater than *after*, in byte order of their names."""
        first = directory.first_child
        if first is None or not directory.child_count:
            return iter(())
        return self._entries(_RANGE, (max(first, after + 1), first + directory.child_count))

    def nodes(self, first: int, stop: int) -> Iterable[tuple[object, ...]]:
        """Of the inodes *first* to *stop* (exclusive) what a file system's inode is made from: image.Node's fields."""
        with self._damage_is_format_error():
            return self._connection.execute(_NODES, (first, stop)).fetchall()

    def names(self, first: int, stop: int) -> Iterable[tuple[int, bytes, int]]:
        """(inode, name, kind) of the inodes *first* to *stop* (exclusive)."""
        with self._damage_is_format_error():
            return self._connection.execute(_NAMES, (first, stop)).fetchall()

    def rank(self, directory: Entry, name: bytes) -> int:
        """How many children of *directory* have names before *name* in byte order."""
        with self._damage_is_format_error():
            row = self._connection.execute(_NOT_BEFORE, (directory.inode, name)).fetchone()
        if row is None:
            return directory.child_count or 0
        return int(row[0]) - (directory.first_child or 0)

    def resolve(self, path: bytes) -> Entry | None:
        """The entry at *path* below the root (`/`-separated; empty for the root). Links are not followed."""
        entry = self.entry(ROOT_INODE)
        for name in path.split(b"/"):
            if name and entry is not None:
                entry = self.lookup(entry.inode, name)
        return entry

    def walk(self, inode: int = ROOT_INODE) -> Iterator[tuple[bytes, Entry]]:
        """The entry *inode* and all below it in the manifest's order, with paths relative to it (its own is empty)."""
        top = self.entry(inode)
        if top is None:
            return
        yield b"", top
        pending = [(b"", top)] if top.kind == Kind.DIRECTORY else []
        while pending:
            prefix, directory = pending.pop()
            below = []
            for child in self.children(directory):
                path = prefix + child.name
                yield path, child
                if child.child_count:
                    below.append((path + b"/", child))
            pending.extend(reversed(below))

    def object(self, number: int) -> ObjectRecord:
        """The object of that number."""
        known = self._objects.get(number)
        if known is not None:
            return known
        with self._damage_is_format_error():
            row = self._connection.execute(_OBJECT, (number,)).fetchone()
        if row is None:
            raise FormatError(f"{self.path} names object {number} and does not describe it", remedy=_REMEDY)
        found = self._objects[number] = self._object_of(row)
        return found

    def object_at_block(self, block: int) -> ObjectRecord:
        """The object that block number *block* of the tape is of. Raises IndexError outside the tape."""
        if not 0 <= block < self.info.block_count:
            raise IndexError(f"block {block} is outside the tape of {self.info.block_count} blocks")
        with self._damage_is_format_error():
            return self._object_of(self._connection.execute(_OBJECT_AT, (block,)).fetchone())

    def objects(self) -> Iterator[ObjectRecord]:
        """All objects in the order of the tape."""
        with self._damage_is_format_error():
            yield from map(self._object_of, self._connection.execute(_OBJECTS))

    def checksums(self, number: int, start: int, stop: int) -> Sequence[int] | None:
        """xxh3_64 of the blocks *start* to *stop* (exclusive) of an object; None in a no-copy version.

        Of a large object only the bytes asked for are read: selecting the whole blob of 1 TiB takes 59 ms.
        """
        if self.info.mode is Mode.NO_COPY:
            return None
        begin, end = start * CHECKSUM_SIZE_BYTES, stop * CHECKSUM_SIZE_BYTES
        known = self._checksums.get(number)
        raw = self._read_checksums(number, begin, end) if known is None else known[begin:end]
        if len(raw) != end - begin:
            raise FormatError(f"{self.path} lacks checksums of object {number}", remedy=_REMEDY)
        return struct.unpack(f"<{stop - start}Q", raw)

    def _read_checksums(self, number: int, begin: int, end: int) -> bytes:
        """Bytes *begin* to *end* of an object's checksums; all of them are kept if they are few."""
        with self._damage_is_format_error():
            blob = self._open_checksums.get(number)
            if blob is None:
                blob = self._connection.blobopen("checksum", "blocks", number, readonly=True)
                if len(blob) <= _KEPT_CHECKSUMS_BYTES:
                    with blob:
                        self._checksums[number] = whole = blob.read()
                    return whole[begin:end]
                self._open_checksums[number] = blob
            blob.seek(begin)
            return blob.read(end - begin)

    def entries_of_object(self, number: int) -> Iterator[Entry]:
        """The files whose bytes lie in an object, by offset. Content that is named twice comes twice."""
        return self._entries(_ENTRIES_OF_OBJECT, (number,))

    def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
        """(offset, size, inode) of the files whose bytes lie in an object, in this order."""
        with self._damage_is_format_error():
            return self._connection.execute(_EXTENTS_OF_OBJECT, (number,)).fetchall()

    def problems(self) -> Iterator[Problem]:
        """What the version does not carry of its source, in the order in which it was found."""
        with self._damage_is_format_error():
            for reason, name, detail in self._connection.execute("SELECT * FROM problem ORDER BY rowid"):
                yield Problem(reason, name, from_column(detail))

    def _one(self, query: str, parameters: _Row) -> Entry | None:
        try:
            row = self._connection.execute(query, parameters).fetchone()
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return None if row is None else _as_entry(row)

    def _entries(self, query: str, parameters: _Row) -> Iterator[Entry]:
        with self._damage_is_format_error():
            yield from map(_as_entry, self._connection.execute(query, parameters))

    def _object_of(self, row: _ObjectRow) -> ObjectRecord:
        number, key, size_bytes, first_block, etag, last_modified_ns, live_bytes, *_ = row
        identity = key
        bucket = self.info.bucket
        if bucket is not None:
            identity = no_copy_identity(bucket.endpoint or "", bucket.bucket, key, etag or "", size_bytes)
        return ObjectRecord(number, key, size_bytes, first_block, identity, etag, last_modified_ns, live_bytes)

    @contextmanager
    def _damage_is_format_error(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FormatError:
        return FormatError(f"{self.path} is damaged: {error}", remedy=_REMEDY)


_REMEDY = "remove this file, and it is fetched again"


def _opened(path: Path) -> BufferedReader:
    """SQLite notices a missing page only when it needs it; a file that is too short is said at once."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise FormatError(f"{path} can't be read: {error.strerror}", remedy=_REMEDY) from error
    try:
        _check_length(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_length(path: Path, file: BufferedReader) -> None:
    try:
        header = file.read(100)
        size_bytes = file.seek(0, 2)
    except OSError as error:
        raise FormatError(f"{path} can't be read: {error.strerror}", remedy=_REMEDY) from error
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise FormatError(f"{path} is no manifest: it is not a SQLite file", remedy=_REMEDY)
    page_size_bytes, page_count = struct.unpack(">H10xI", header[16:32])
    if size_bytes != page_count * (65536 if page_size_bytes == 1 else page_size_bytes):
        raise FormatError(f"{path} is damaged: its length is not that of {page_count} pages", remedy=_REMEDY)
