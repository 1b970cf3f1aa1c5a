"""The vocabulary: immutable records that the layers hand to each other.

Nothing here does I/O, and nothing here imports another module of gridfs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

ROOT_INODE = 1


class Kind(IntEnum):
    """What an entry is. The numbers are part of the manifest's format."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3


class Mode(StrEnum):
    """Where a version's bytes lie: copied into the store, or left in the source bucket."""

    COPY = "copy"
    NO_COPY = "no-copy"


class ByteRange(NamedTuple):
    """Bytes *start* (inclusive) to *stop* (exclusive) of an object."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class WholeObject(ByteRange):
    """All bytes of an object: a store may ask for them without saying which.

    Ceph RGW reads the first bytes with the head of an object, but not when a range is asked for: a whole object of
    110 KiB took 0.87 ms, and the range of its bytes 1.06 ms.
    """

    __slots__ = ()


def range_within(start: int, stop: int, object_size_bytes: int) -> ByteRange:
    """Bytes *start* to *stop* of an object of that size: a WholeObject if that is all of it."""
    return WholeObject(start, stop) if (start, stop) == (0, object_size_bytes) else ByteRange(start, stop)


class Entry(NamedTuple):
    """One row of the manifest's tree, in the order of the table's columns.

    A NamedTuple and not a dataclass: `find` over 1.28 million entries makes each of them once, and a frozen
    dataclass takes three times as long to make.
    """

    inode: int
    parent: int
    name: bytes
    kind: Kind | int
    mode: int
    """Permission bits as the source had them; what a mount shows is decided by the mount's options."""
    size: int
    """Bytes of a file, bytes of a link's target, 0 for a directory."""
    mtime_ns: int
    object: int | None
    """Number of the object that holds a file's bytes; None for an empty file and for what is no file."""
    offset: int | None
    """Where the file begins in that object."""
    sha256: bytes | None
    """Hash of the file's content; None in a no-copy version."""
    target: bytes | None
    """Target of a symbolic link, as given."""
    first_child: int | None
    """Inode of a directory's first child; its children are numbered consecutively in byte order of their names."""
    child_count: int | None


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object of a version: a pack, a large file, or an object of the source bucket (no-copy)."""

    number: int
    """Row of the manifest's object table, from 1."""
    key: str
    """Managed: the object's id (32 hex digits). No-copy: the key in the source bucket."""
    size_bytes: int
    first_block: int
    """Number of its first block on the tape."""
    identity: str
    """What names these very bytes in every cache (32 hex digits)."""
    etag: str | None = None
    """No-copy: the ETag that every read must match, with its quotes."""
    last_modified_ns: int | None = None
    live_bytes: int | None = None
    """Bytes of it that this version's entries refer to; less than *size_bytes* after a partial reuse."""

    def block_count(self, block_size_bytes: int) -> int:
        return -(-self.size_bytes // block_size_bytes)


def no_copy_identity(endpoint: str, bucket: str, key: str, etag: str, size_bytes: int) -> str:
    """Cache identity of an object that stays in its bucket: another generation of a key has another identity."""
    digest = hashlib.sha256()
    for part in (endpoint, bucket, key, etag, str(size_bytes)):
        raw = part.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:32]


class Problem(NamedTuple):
    """Something of the source that a version does not carry, or carries changed (invariant 8)."""

    reason: str
    """A fixed word: `socket`, `fifo`, `device`, `unreadable`, `xattr`, `acl`, `hard-link`, `changed`, ..."""
    name: bytes
    """Path below the root, or the key, byte for byte."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceBucket:
    """Where the objects of a no-copy version lie."""

    bucket: str
    endpoint: str | None
    """None: AWS itself."""
    region: str | None
    prefix: str
    """With a final slash, or empty for the whole bucket; entry paths are relative to it."""
    signed: bool
    requester_pays: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """A commit record: the small object that makes a version exist. Field for field its JSON (manifest-format.md)."""

    name: str
    version: int
    created_at: str
    """UTC, ISO 8601 with a `Z`."""
    source: str
    """What the user gave: a path, an s3:// or an http(s):// address, without credentials."""
    mode: Mode
    file_count: int
    directory_count: int
    symlink_count: int
    total_bytes: int
    manifest_key: str
    manifest_sha256: str
    """Hash of the uncompressed SQLite file: the manifest's identity on a node."""
    manifest_bytes: int
    """Size of the uncompressed SQLite file."""
    problem_count: int = 0
    deleted_at: str | None = None
    """Set in a tombstone: the number stays taken, the data goes."""


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """`NAME` or `NAME@VERSION` as a user writes it; no version means the highest."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"
