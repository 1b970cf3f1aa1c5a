"""A manifest as it lies in the store: independent zstd frames of 1 MiB and a table of them ("zstd seekable format").

    frame 0 | frame 1 | ... | skippable frame: the seek table

The seek table is a skippable frame (magic 0x184D2A5E, length) that holds, for each frame, its compressed and its
decompressed size (4 bytes each, little-endian), and ends with the number of frames (4 bytes), a descriptor byte of 0
(no checksums) and the magic 0x8F92EAB1. So `zstd -d` makes the SQLite file of it, and a reader that wants one page gets
the last 9 bytes, the table, and the one frame that has the page.

Both directions stream: they hold one frame, whatever the manifest's size.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from gridfs.errors import FormatError
from gridfs.model import Buffer

FRAME_SIZE_BYTES = 1 << 20
_LEVEL = 3
_PIECE_SIZE_BYTES = 4096
"""Fed to zstd at once: a block of 4 bytes can mean 128 KiB, so a hostile piece grows to 128 MiB at most."""

_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_FOOTER = struct.Struct("<IBI")
_FRAME_ENTRY = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Packed:
    """What `compress` made, as the commit record and the key in the store need it."""

    sha256: str
    """Of the uncompressed file."""
    size_bytes: int
    """Of the uncompressed file."""
    compressed_bytes: int


def compress(source: Path, target: Path) -> Packed:
    """Writes the SQLite file *source* to *target* as frames and their table; *target* is replaced if it exists."""
    digest = hashlib.sha256()
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    table = bytearray()
    size_bytes = compressed_bytes = 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while plain := reading.read(FRAME_SIZE_BYTES):
            digest.update(plain)
            frame = compressor.compress(plain)
            writing.write(frame)
            table += _FRAME_ENTRY.pack(len(frame), len(plain))
            size_bytes += len(plain)
            compressed_bytes += len(frame)
        table += _FOOTER.pack(len(table) // _FRAME_ENTRY.size, 0, _SEEKABLE_MAGIC)
        writing.write(struct.pack("<II", _SKIPPABLE_MAGIC, len(table)) + table)
        compressed_bytes += 8 + len(table)
    return Packed(digest.hexdigest(), size_bytes, compressed_bytes)


class Unpacker:
    """Takes the compressed bytes in order, in pieces of any size, and writes the SQLite file to *target*.

    It stops at the first byte over *size_bytes*, so that a hostile manifest can't fill the disk.
    """

    def __init__(self, target: Path, *, sha256: str, size_bytes: int) -> None:
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._file = target.open("wb")
        self._digest = hashlib.sha256()
        self._written = 0
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def feed(self, piece: Buffer) -> None:
        """Takes the next bytes. Raises FormatError when they are no zstd, or too many."""
        view = memoryview(piece)
        for start in range(0, len(view), _PIECE_SIZE_BYTES):
            try:
                plain = self._decompressor.decompress(view[start : start + _PIECE_SIZE_BYTES])
            except zstandard.ZstdError as error:
                raise FormatError(f"the manifest is damaged in the store: {error}") from error
            self._written += len(plain)
            if self._written > self._size_bytes:
                raise FormatError(f"the manifest is longer than the {self._size_bytes} bytes of its commit record")
            self._digest.update(plain)
            self._file.write(plain)

    def finish(self) -> None:
        """All has been fed; the file is complete and written out of Python's buffer, not yet synced.

        Raises FormatError when it is not the file that the commit record names.
        """
        self._file.flush()
        if self._written != self._size_bytes or self._digest.hexdigest() != self._sha256:
            raise FormatError(
                f"the manifest in the store has SHA-256 {self._digest.hexdigest()} and {self._written} bytes, "
                f"its commit record says {self._sha256} and {self._size_bytes} bytes"
            )

    def fileno(self) -> int:
        """Of the file that is written, for fsync."""
        return self._file.fileno()
