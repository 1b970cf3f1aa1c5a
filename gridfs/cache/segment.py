"""One segment file: up to 8 MiB of an object's blocks, with a table of what is there. Format: docs/cache-format.md.

    0      header, 128 bytes: whose blocks these are, and a checksum of that
    128    table, 16 bytes a block: xxh3_64 of the block, its length (0: absent)
    ...    zeros up to a multiple of 4096
    data   block i of the segment at i times the block size; what is absent is a hole

Nothing is synced and nothing is ever renamed: data is written before its table entry, a reader verifies every block,
and so the state after a crash at any point is at worst a miss. Two daemons may write one segment at once: both write
the same bytes to the same places, because an identity names immutable bytes.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from gridfs.cache.base import Checksums, Span
from gridfs.cache.buffers import LARGE_FROM_BYTES
from gridfs.cache.verified import read_verified
from gridfs.config import PART_SIZE_BYTES
from gridfs.model import Buffer
from gridfs.raw_io import PAGE_SIZE_BYTES, read_at, write_all, write_direct

MAGIC = b"gridfsSG"
FORMAT_VERSION = 1
HEADER = struct.Struct("<8sIIQII32s")
"""Magic, format version, block size, object size, number of the segment in its object, blocks in it, identity."""
HEADER_SIZE_BYTES = 128
ENTRY = struct.Struct("<QII")
"""Checksum, length, zero."""

_OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where things lie in one segment."""

    identity: str
    object_size_bytes: int
    block_size_bytes: int
    number: int

    @classmethod
    def of(cls, span: Span) -> Geometry:
        """Of the segment that holds the span's first block."""
        number = span.first // blocks_per_segment(span.block_size_bytes)
        return cls(span.identity, span.object_size_bytes, span.block_size_bytes, number)

    @property
    def first_block(self) -> int:
        return self.number * blocks_per_segment(self.block_size_bytes)

    @property
    def block_count(self) -> int:
        whole = -(-self.object_size_bytes // self.block_size_bytes)
        return min(blocks_per_segment(self.block_size_bytes), whole - self.first_block)

    @property
    def data_offset(self) -> int:
        table_end = HEADER_SIZE_BYTES + ENTRY.size * self.block_count
        return -(-table_end // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES

    def header(self) -> bytes:
        packed = HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            self.block_size_bytes,
            self.object_size_bytes,
            self.number,
            self.block_count,
            self.identity.encode("ascii"),
        )
        return (packed + xxh3_64_intdigest(packed).to_bytes(8, "little")).ljust(HEADER_SIZE_BYTES, b"\0")

    def name(self) -> str:
        """Below the directory of this format: spread over 256 directories by the identity's first two digits."""
        return f"{self.identity[:2]}/{self.identity}.{self.number}"


def blocks_per_segment(block_size_bytes: int) -> int:
    return max(1, PART_SIZE_BYTES // block_size_bytes)


class Segment:
    """An open segment file. Its methods may run in any thread, except those that say otherwise; they raise OSError."""

    def __init__(self, path: str, geometry: Geometry) -> None:
        self.geometry = geometry
        self.fd = -1
        """-1: the first write opens it."""
        self.table: list[tuple[int, int]] | None = None
        """Checksum and length of each block as last read from the file; None: not read yet."""
        self._path = path
        self._begun = False
        """Whether the header is known to be right, and blocks may be written."""
        self._beginning = threading.Lock()
        self._tabling = threading.Lock()
        """Held while the table changes, and for no call to the file system."""
        self.table_read_s = 0.0
        self.touched_s = 0.0
        self.users = 0
        """Threads at work on it; it is closed when the last has left."""
        self.retired = False

    @classmethod
    def open(cls, path: str, geometry: Geometry) -> Segment | None:
        """Opens it, or returns None when there is none."""
        segment = cls(path, geometry)
        try:
            segment.fd = os.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        return segment

    @classmethod
    def to_write(cls, path: str, geometry: Geometry) -> Segment:
        """One that is empty until the first write, which makes the file: that took 0.01 ms on one ext4 and 0.3 on
        another, so it is not done in trio's thread.
        """
        segment = cls(path, geometry)
        segment.table = [(0, 0)] * geometry.block_count
        return segment

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read_table(self, *, nowait: bool) -> bool:
        """Reads header and table; False if that would wait for a disk. A foreign file has an empty table.

        What is known already stays: a writer's thread may have added it since the file was read, or be about to write
        the header, and what is wrong is found when it is read.
        """
        if self.fd < 0:
            return False
        wanted = HEADER_SIZE_BYTES + ENTRY.size * self.geometry.block_count
        buffer = bytearray(wanted)
        count = read_at(self.fd, memoryview(buffer), 0, nowait=nowait)
        if count is None:
            return False
        entries: list[tuple[int, int]] = [(0, 0)] * self.geometry.block_count
        if count == wanted and buffer[:HEADER_SIZE_BYTES] == self.geometry.header():
            table = memoryview(buffer)[HEADER_SIZE_BYTES:]
            entries = [(checksum, length) for checksum, length, _ in ENTRY.iter_unpack(table)]
        with self._tabling:
            known = self.table or entries
            self.table = [new if new[1] else old for new, old in zip(entries, known, strict=True)]
        return True

    def present(self, first: int, stop: int) -> int:
        """How many of the object's blocks *first* to *stop* are there, from the front on. Needs the table."""
        table = self.table or []
        base = self.geometry.first_block
        for block in range(first, min(stop, base + len(table))):
            if not table[block - base][1]:
                return block - first
        return max(0, min(stop, base + len(table)) - first)

    def held_bytes(self, first: int, stop: int) -> int:
        """How many bytes of the object's blocks *first* to *stop* are there. Needs the table."""
        base, size = self.geometry.first_block, self.geometry.block_size_bytes
        return sum(min(length, size) for _, length in (self.table or [])[first - base : stop - base])

    def read(
        self, span: Span, checksums: Checksums, *, nowait: bool, area: mmap.mmap | None = None
    ) -> memoryview | None:
        """The span's bytes, verified; None when absent, or when that would wait for a disk. Raises Mismatch.

        *area* as of `read_verified`.
        """
        if self.table is None and not self.read_table(nowait=nowait):
            return None
        base, size = self.geometry.first_block, span.block_size_bytes
        if self.present(span.first, span.stop) < span.stop - span.first or self.table is None:
            return None
        if checksums is None:
            checksums = [checksum for checksum, _ in self.table[span.first - base : span.stop - base]]
        offset = self.geometry.data_offset + (span.first - base) * size
        return read_verified(self.fd, span, offset, checksums, nowait=nowait, area=area)

    def write(self, span: Span, data: Buffer, checksums: Sequence[int], area: mmap.mmap | None = None) -> None:
        """Writes the span's blocks, then their entries. A file that is foreign or damaged is begun afresh.

        *area*: the mapping that *data* lies at the beginning of, if there is one.
        """
        with self._beginning:
            if not self._begun:
                is_blank = self._begin()
                self._write_data(span, data, area)
                self._write_entries(span, checksums)
                if is_blank:
                    write_all(self.fd, self.geometry.header(), 0)
                self._begun = True
                return
        self._write_data(span, data, area)
        self._write_entries(span, checksums)

    def _begin(self) -> bool:
        """Opens the file, and learns what it has; whether it lacks a header. A new one is neither read nor cut: ext4
        writes files that were cut to nothing when they are closed (auto_da_alloc), and of small objects each has a file
        of its own. Nor is one whose header is blank cut: another daemon is just writing its first blocks.
        """
        if self.fd < 0 and self._make():
            return True
        found = os.pread(self.fd, HEADER_SIZE_BYTES, 0)
        if found == self.geometry.header():
            self.read_table(nowait=False)
            return False
        if any(found):
            os.ftruncate(self.fd, 0)
        return True

    def _make(self) -> bool:
        """Opens the file; whether it is a new one."""
        try:
            self.fd = os.open(self._path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            return True
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        self.fd = os.open(self._path, _OPEN_FLAGS | os.O_CREAT, 0o600)
        return False

    def _write_data(self, span: Span, data: Buffer, area: mmap.mmap | None) -> None:
        size = span.block_size_bytes
        offset = self.geometry.data_offset + (span.first - self.geometry.first_block) * size
        # Small parts go through the page cache: written past it, each would be allocated on its own by the file system,
        # and reading 8 by 8 files at random from a store took 1.6 times as long.
        past = area is not None and span.size_bytes >= LARGE_FROM_BYTES and not size % PAGE_SIZE_BYTES
        if area is None or not past or not write_direct(self.fd, span.size_bytes, offset, area):
            write_all(self.fd, data, offset)

    def _write_entries(self, span: Span, checksums: Sequence[int]) -> None:
        size, position = span.block_size_bytes, span.first - self.geometry.first_block
        entries = [
            (checksum, min(size, span.object_size_bytes - block * size))
            for block, checksum in zip(range(span.first, span.stop), checksums, strict=True)
        ]
        packed = b"".join(ENTRY.pack(checksum, length, 0) for checksum, length in entries)
        write_all(self.fd, packed, HEADER_SIZE_BYTES + ENTRY.size * position)
        with self._tabling:
            if self.table is not None:
                self.table[position : position + len(entries)] = entries

    def forget(self, block: int) -> None:
        """Marks a block as absent, here and in the file."""
        position = block - self.geometry.first_block
        with self._tabling:
            if self.table is not None:
                self.table[position] = (0, 0)
        os.pwrite(self.fd, bytes(ENTRY.size), HEADER_SIZE_BYTES + ENTRY.size * position)

    @property
    def unlinked(self) -> bool:
        """Whether an evictor has removed the file: what is written now would be lost."""
        return self.fd >= 0 and os.fstat(self.fd).st_nlink == 0


def close_all(segments: Sequence[Segment]) -> None:
    """Closes segments that nobody can find any more."""
    for segment in segments:
        segment.close()
