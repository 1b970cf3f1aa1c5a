"""The manifest's tables as SQL, and what a manifest says of itself: format 1 (docs/manifest-format.md).

A manifest is one SQLite file that is written once (writer.py), opened read-only and immutable (reader.py), and kept in
the store as independent zstd frames (transport.py). Its identity is the SHA-256 of the uncompressed file.

The columns of `entry` are the fields of `gridfs.model.Entry`, in its order, which is part of the format: a row becomes
an Entry without a name being looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridfs.model import Mode, SourceBucket

FORMAT = 1
"""PRAGMA user_version of what the writer makes; the reader refuses a higher one."""

READABLE_SINCE = "0.1.0"
"""The oldest gridfs that reads FORMAT. Written into each manifest, so that an older gridfs can say what to install."""

APPLICATION_ID = 0x67726466
"""PRAGMA application_id, `grdf`: what `file` and the reader tell a manifest by."""

PAGE_SIZE_BYTES = 4096

CHECKSUM_SIZE_BYTES = 8
"""xxh3_64 of one block, little-endian."""

CREATE_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entry(
    inode INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
    mode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, object INTEGER, offset INTEGER,
    sha256 BLOB, target BLOB, first_child INTEGER, child_count INTEGER);
CREATE TABLE object(
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, size INTEGER NOT NULL, first_block INTEGER NOT NULL,
    etag TEXT, last_modified_ns INTEGER, live_bytes INTEGER, first_inode INTEGER, last_inode INTEGER);
CREATE TABLE checksum(object INTEGER PRIMARY KEY, blocks BLOB NOT NULL);
CREATE TABLE problem(reason TEXT NOT NULL, name BLOB NOT NULL, detail TEXT NOT NULL);
"""

CREATE_INDEXES = """
CREATE UNIQUE INDEX entry_by_name ON entry(parent, name);
CREATE UNIQUE INDEX object_by_block ON object(first_block);
"""
"""Made after the rows: parents come in no ascending order, and sorting once is faster than 1.28 million insertions."""


@dataclass(frozen=True, slots=True)
class ManifestSettings:
    """What is known of a version before its first entry is written."""

    block_size_bytes: int
    mode: Mode
    source: str
    """As the user gave it, without credentials."""
    created_by: str
    """Name and version of the program, for people."""
    bucket: SourceBucket | None = None
    """Only and always in a no-copy version."""


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    """The meta table: what a manifest says of itself, keyed by the names of these fields and of SourceBucket's."""

    format: int
    readable_since: str
    """The oldest gridfs that reads it."""
    block_size_bytes: int
    block_count: int
    """Length of the tape."""
    mode: Mode
    source: str
    created_by: str
    file_count: int
    directory_count: int
    """Below the root, which is not counted."""
    symlink_count: int
    total_bytes: int
    """Sum of the sizes of all files; content that is stored once counts as often as it is named."""
    object_count: int
    problem_count: int
    bucket: SourceBucket | None = None
    longest_name_bytes: int | None = None
    """Of any entry; None in a manifest that was written before this was."""

    @property
    def entry_count(self) -> int:
        """Rows of the entry table, with the root."""
        return 1 + self.file_count + self.directory_count + self.symlink_count
