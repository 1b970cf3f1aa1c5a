"""The tables of a creation's journal as SQL, its longer statements, and the records that they give and take."""

from __future__ import annotations

from typing import NamedTuple

from gridfs.manifest.order import path_of

PENDING, DURABLE, BASE = 0, 1, 2
"""States of an object (journal.py)."""

SCHEMA = """
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
CREATE TEMP TABLE IF NOT EXISTS gone(object INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS problem(
    scan INTEGER NOT NULL, reason TEXT NOT NULL, name BLOB NOT NULL, detail TEXT NOT NULL);
"""

INDEX_CONTENTS = """
CREATE INDEX IF NOT EXISTS content_by_hash ON content(sha256);
CREATE INDEX IF NOT EXISTS content_by_size ON content(size);
"""
"""Made when contents are first looked for: sorting once is faster than a million insertions, and a version of which
nothing changed looks for none."""

_ON_CONFLICT = """
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

UPSERT = f"""
INSERT INTO found VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) {_ON_CONFLICT}
"""  # noqa: S608 - no value of anybody's
FILES_AT_ONCE = 500
"""Rows of UPSERT_FILES: 5,500 of the 32,766 values that SQLite takes in a statement."""
_FILE_ROWS = ", ".join(["(?, ?, 2, ?, ?, ?, ?, ?, ?, ?, ?)"] * FILES_AT_ONCE)
UPSERT_FILES = f"""
INSERT INTO found(directory, name, kind, mode, size, mtime_ns, stamp, locator, same_as, etag, scan)
VALUES {_FILE_ROWS} {_ON_CONFLICT}
"""  # noqa: S608
"""One statement for many: Python's lock is given up once, and not for each row."""

IMPLY = """
INSERT INTO found(directory, name, kind, mode, size, mtime_ns, stamp, locator, scan)
VALUES (?, ?, 1, ?, 0, 0, x'', x'', ?)
ON CONFLICT DO UPDATE SET kind = 1, mode = excluded.mode, size = 0, mtime_ns = 0, target = NULL, content = NULL,
    same_as = NULL, stamp = x'', scan = excluded.scan
WHERE kind <> 1 OR scan <> excluded.scan
"""

FOUND = "directory, name, kind, mode, size, mtime_ns, target, stamp, locator, same_as, etag"
UNREAD = f"""
SELECT {FOUND} FROM found
WHERE (directory, name) > (?, ?) AND kind = 2 AND size > 0 AND content IS NULL
    AND (same_as IS NULL OR NOT EXISTS (
        SELECT 1 FROM found AS other WHERE other.same_as = found.same_as
            AND (other.directory, other.name) < (found.directory, found.name)))
ORDER BY directory, name LIMIT ?
"""  # noqa: S608 - no value of anybody's
NAMED = f"SELECT {FOUND}, content FROM found WHERE directory = ? AND name = ? AND kind <> 1 AND scan = ?"  # noqa: S608
NAMES_OF = f"SELECT {FOUND} FROM found WHERE same_as = ? ORDER BY directory, name"  # noqa: S608
ROWS = """
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


class BaseFile(NamedTuple):
    """A file of the version before."""

    path: bytes
    size: int
    mtime_ns: int
    sha256: bytes
    object: int
    """Number of the journal's object."""
    offset: int


class StoredObject(NamedTuple):
    """An object that the version may name."""

    key: str
    size_bytes: int
    checksums: bytes
