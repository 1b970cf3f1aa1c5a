"""What a creation has found and what of it is durable, on this node's disk: one SQLite file for each creation.

It bounds the memory of a creation of millions of entries, sorts them into the manifest's order, and is what a creation
that was killed goes on from. `kill -9` loses nothing that was committed. The tables, and what the next run makes of
them:

    found     one row for each entry, keyed by its place in the manifest's order (manifest/order.py). The next scan
              writes over them: a row keeps its content if its stamp is still the same, and one not found again goes.
    object    one row for each object: PENDING before its upload begins, DURABLE when the store has said that it is
              there. What is PENDING when a journal is opened is forgotten with its contents; the object itself, if
              there is one, is left to garbage collection.
    content   what lies where in an object, by SHA-256: found by it, the same bytes are never uploaded twice.
    problem   the report; the part that a scan makes is made anew with each scan.

The connection is used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gridfs.create.source import IMPLIED_MODE, Found, SourceTotals
from gridfs.manifest.order import directories_above, path_of, place_of
from gridfs.model import Kind, Problem

PENDING, DURABLE = 0, 1

_PAGE_ROWS = 4096
_KNOWN_DIRECTORIES = 65_536
_CACHE_KIB = 16 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found(
    directory BLOB NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL, mode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, target BLOB, stamp BLOB NOT NULL, locator BLOB NOT NULL, same_as BLOB, etag TEXT,
    content INTEGER, scan INTEGER NOT NULL, PRIMARY KEY(directory, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS found_by_same_as ON found(same_as, content) WHERE same_as IS NOT NULL;
CREATE TABLE IF NOT EXISTS object(
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, checksums BLOB NOT NULL,
    state INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS content(
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, size INTEGER NOT NULL, object INTEGER NOT NULL,
    offset INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS content_by_hash ON content(sha256);
CREATE INDEX IF NOT EXISTS content_by_object ON content(object);
CREATE INDEX IF NOT EXISTS content_by_size ON content(size);
CREATE TABLE IF NOT EXISTS problem(
    scan INTEGER NOT NULL, reason TEXT NOT NULL, name BLOB NOT NULL, detail TEXT NOT NULL);
"""

_UPSERT = """
INSERT INTO found VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT DO UPDATE SET
    content = CASE WHEN excluded.content IS NOT NULL THEN excluded.content
                   WHEN stamp = excluded.stamp AND stamp <> x'' AND kind = excluded.kind AND size = excluded.size
                        THEN content END,
    kind = excluded.kind, mode = excluded.mode, size = excluded.size, mtime_ns = excluded.mtime_ns,
    target = excluded.target, stamp = excluded.stamp, locator = excluded.locator, same_as = excluded.same_as,
    etag = excluded.etag, scan = excluded.scan
WHERE NOT (kind = 1 AND excluded.kind <> 1 AND scan = excluded.scan)
"""
"""A directory that this scan has found is not replaced by a file of its name: two keys of a bucket, `a` and `a/b`."""

_FOUND = "directory, name, kind, mode, size, mtime_ns, target, stamp, locator, same_as, etag"
_UNREAD = f"""
SELECT {_FOUND} FROM found
WHERE (directory, name) > (?, ?) AND kind = 2 AND size > 0 AND content IS NULL
    AND (same_as IS NULL OR NOT EXISTS (
        SELECT 1 FROM found AS other WHERE other.same_as = found.same_as
            AND (other.directory, other.name) < (found.directory, found.name)))
ORDER BY directory, name LIMIT ?
"""  # noqa: S608 - no value of anybody's
_ROWS = """
SELECT directory, name, kind, mode, found.size, mtime_ns, target, locator, etag, content, sha256, object, offset
FROM found LEFT JOIN content ON content.id = found.content
WHERE (directory, name) > (?, ?) ORDER BY directory, name LIMIT ?
"""


class FoundRow(NamedTuple):
    """An entry in the manifest's order, with where its content lies."""

    directory: bytes
    name: bytes
    kind: int
    mode: int
    size: int
    mtime_ns: int
    target: bytes | None
    locator: bytes
    etag: str | None
    content: int | None
    sha256: bytes | None
    object: int | None
    """Number of the journal's object."""
    offset: int | None

    @property
    def path(self) -> bytes:
        return path_of(self.directory, self.name)


class StoredObject(NamedTuple):
    """An object that the version may name."""

    key: str
    size_bytes: int
    checksums: bytes


class Journal:
    """The journal of one creation. Changes are kept by `commit`, which every step of the pipeline ends with."""

    def __init__(self, path: Path, *, on_clash: Callable[[bytes], None] | None = None) -> None:
        """Opens the journal at *path*, or begins it. *on_clash* is told paths that are both a directory and not one;
        without it the directory wins and the report says so."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # NORMAL: a kill loses nothing, and a power cut may lose the last commits but not the file.
        self._connection.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-{_CACHE_KIB}; {_SCHEMA}"
        )
        self._on_clash = on_clash or self._report_clash
        self._known: set[bytes] = set()
        self._scan = int(self.get("scan") or 0)
        self.found_files = 0
        self.found_bytes = 0
        self._begin()
        self._forget_pending()

    def close(self) -> None:
        """Ends without keeping what was not committed."""
        self._connection.close()

    def commit(self) -> None:
        """Keeps everything up to here."""
        self._connection.execute("COMMIT")
        self._begin()

    def get(self, key: str) -> str | None:
        """A value that `put` has kept."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        """Keeps a value of the creation as a whole."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # What the source holds

    def begin_scan(self) -> None:
        """From now on the source tells what it holds; what it does not name again will be gone."""
        self._scan += 1
        self.put("scan", str(self._scan))
        self._known.clear()
        self.found_files = self.found_bytes = 0

    def add(self, found: Found, content: int | None = None) -> None:
        """Listing.add; *content* when it is known already."""
        directory, name = place_of(found.path)
        if directory and directory not in self._known:
            for above in directories_above(found.path):
                self._imply(above)
        if found.kind is Kind.DIRECTORY:
            self._remember(found.path)
            self._clash_with_file(directory, name, found.path)
        elif found.kind is Kind.FILE:
            self.found_files += 1
            self.found_bytes += found.size
        written = self._connection.execute(
            _UPSERT,
            (directory, name, int(found.kind), found.mode, found.size, found.mtime_ns, found.target, found.stamp,
             found.locator, found.same_as, found.etag, content, self._scan),
        ).rowcount  # fmt: skip
        if not written:
            self._on_clash(found.path)

    def add_problem(self, problem: Problem) -> None:
        """Listing.add_problem."""
        self._connection.execute("INSERT INTO problem VALUES (?, ?, ?, ?)", (self._scan, *problem))

    def end_scan(self) -> None:
        """The source has told everything."""
        self._connection.execute("DELETE FROM found WHERE scan <> ?", (self._scan,))
        self._connection.execute("DELETE FROM problem WHERE scan <> ?", (self._scan,))
        self.commit()

    def has_entries(self) -> bool:
        """Whether there is anything below the root."""
        return self._connection.execute("SELECT 1 FROM found WHERE name <> x'' LIMIT 1").fetchone() is not None

    def drop(self, path: bytes, problem: Problem) -> None:
        """The version will not have this entry, for a reason that is reported."""
        self._connection.execute("DELETE FROM found WHERE directory = ? AND name = ?", place_of(path))
        self.add_problem(problem)

    def update(self, found: Found) -> None:
        """A file is another generation than the scan has seen."""
        self.add(found._replace(same_as=None))

    # What is to be read, and what has been

    def unread(self) -> Iterator[Found]:
        """Files whose content is not known yet, in the manifest's order; of hard links only the first.

        The journal may be written to meanwhile.
        """
        after: tuple[bytes, bytes] = (b"", b"")
        while page := self._connection.execute(_UNREAD, (*after, _PAGE_ROWS)).fetchall():
            for directory, name, kind, *rest in page:
                yield Found(path_of(directory, name), Kind(kind), *rest)
            after = page[-1][:2]

    def totals(self, have_content: bool) -> SourceTotals:
        """Files with bytes whose content is known, or is not; hard links are counted as often as they are named."""
        files, total = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM found WHERE kind = 2 AND size > 0"
            " AND (content IS NOT NULL) = ?", (have_content,)
        ).fetchone()  # fmt: skip
        return SourceTotals(files, total)

    def set_content(self, path: bytes, content: int) -> None:
        """The file at *path* has this content."""
        self._connection.execute(
            "UPDATE found SET content = ? WHERE directory = ? AND name = ?", (content, *place_of(path))
        )

    def share_hard_links(self) -> list[bytes]:
        """Gives hard links the content of the one that was read; paths of files that still have none."""
        self._connection.execute(
            "UPDATE found SET content = (SELECT other.content FROM found AS other WHERE other.same_as = found.same_as"
            " AND other.content IS NOT NULL LIMIT 1) WHERE same_as IS NOT NULL AND content IS NULL AND size > 0"
        )
        missing = self._connection.execute(
            "SELECT directory, name FROM found WHERE kind = 2 AND size > 0 AND content IS NULL"
        )
        return [path_of(*row) for row in missing]

    def find_content(self, sha256: bytes) -> int | None:
        """Content with this hash."""
        row = self._connection.execute("SELECT id FROM content WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone()
        return None if row is None else row[0]

    def knows_size(self, size: int) -> bool:
        """Whether there is any content of this size (else a hash is certain to be new)."""
        return self._connection.execute("SELECT 1 FROM content WHERE size = ? LIMIT 1", (size,)).fetchone() is not None

    def add_content(self, sha256: bytes, size: int, number: int, offset: int) -> int:
        """Content that lies at *offset* of the object *number*; its id."""
        cursor = self._connection.execute(
            "INSERT INTO content(sha256, size, object, offset) VALUES (?, ?, ?, ?)", (sha256, size, number, offset)
        )
        return int(cursor.lastrowid or 0)

    def begin_object(self, key: str) -> int:
        """An object that is about to be uploaded; its number."""
        cursor = self._connection.execute(
            "INSERT INTO object(key, size, checksums, state) VALUES (?, 0, x'', ?)", (key, PENDING)
        )
        return int(cursor.lastrowid or 0)

    def finish_object(self, number: int, size_bytes: int, checksums: bytes) -> None:
        """The store has the object; this is committed."""
        self._connection.execute(
            "UPDATE object SET size = ?, checksums = ?, state = ? WHERE number = ?",
            (size_bytes, checksums, DURABLE, number),
        )
        self.commit()

    def has_durable(self) -> bool:
        """Whether anything was uploaded."""
        return self._connection.execute("SELECT 1 FROM object WHERE state = 1 LIMIT 1").fetchone() is not None

    def forget_object(self, number: int) -> None:
        """An object that `begin_object` numbered, and that will not be; nothing may refer to it."""
        self._connection.execute("DELETE FROM object WHERE number = ?", (number,))

    def object(self, number: int) -> StoredObject:
        """A durable object."""
        return StoredObject(*self._connection.execute(
            "SELECT key, size, checksums FROM object WHERE number = ? AND state = ?", (number, DURABLE)
        ).fetchone())  # fmt: skip

    def rows(self) -> Iterator[FoundRow]:
        """Everything, in the manifest's order, the root first."""
        root = self._connection.execute(_ROWS.replace("> (?, ?)", "= (?, ?)"), (b"", b"", 1)).fetchall()
        yield from map(FoundRow._make, root)
        after: tuple[bytes, bytes] = (b"", b"")
        while page := self._connection.execute(_ROWS, (*after, _PAGE_ROWS)).fetchall():
            yield from map(FoundRow._make, page)
            after = page[-1][:2]

    def problems(self) -> Iterator[Problem]:
        """The report."""
        for row in self._connection.execute("SELECT reason, name, detail FROM problem ORDER BY rowid"):
            yield Problem(*row)

    def problem_counts(self) -> list[tuple[str, int]]:
        """How often each reason is in the report."""
        rows = self._connection.execute("SELECT reason, count(*) FROM problem GROUP BY reason ORDER BY reason")
        return rows.fetchall()

    def _begin(self) -> None:
        self._connection.execute("BEGIN")

    def _forget_pending(self) -> None:
        execute = self._connection.execute
        execute(
            "UPDATE found SET content = NULL WHERE content IN (SELECT content.id FROM content JOIN object"
            " ON object.number = content.object WHERE object.state = ?)", (PENDING,)
        )  # fmt: skip
        execute("DELETE FROM content WHERE object IN (SELECT number FROM object WHERE state = ?)", (PENDING,))
        execute("DELETE FROM object WHERE state = ?", (PENDING,))
        self.commit()

    def _imply(self, path: bytes) -> None:
        """A directory that something lies in."""
        place = place_of(path)
        self._clash_with_file(*place, path)
        self._connection.execute(
            "INSERT INTO found(directory, name, kind, mode, size, mtime_ns, stamp, locator, scan)"
            " VALUES (?, ?, 1, ?, 0, 0, x'', x'', ?)"
            " ON CONFLICT DO UPDATE SET kind = 1, mode = excluded.mode, size = 0,"
            " mtime_ns = 0, target = NULL, content = NULL, same_as = NULL, stamp = x'', scan = excluded.scan"
            " WHERE kind <> 1 OR scan <> excluded.scan",
            (*place, IMPLIED_MODE, self._scan),
        )
        self._remember(path)

    def _remember(self, path: bytes) -> None:
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._known.clear()
        self._known.add(path.replace(b"/", b"\0"))

    def _clash_with_file(self, directory: bytes, name: bytes, path: bytes) -> None:
        row = self._connection.execute(
            "SELECT 1 FROM found WHERE directory = ? AND name = ? AND kind <> 1 AND scan = ?",
            (directory, name, self._scan),
        ).fetchone()
        if row is not None:
            self._on_clash(path)

    def _report_clash(self, path: bytes) -> None:
        self.add_problem(Problem("shadowed", path, "a directory has the same name and is what the version has"))
