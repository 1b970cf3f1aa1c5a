"""Files whose every byte is known from their number, so that any process can verify what it read by a memcmp.

A bank of random bytes stands for all: file i is the slice of it that begins at offset_of(i); a large file is a row of
chunks of 1 MiB, each such a slice. Offsets are multiples of a prime, so that a wrong file, chunk or offset is seen.
Comparing costs 10 us for 110 KiB, the same for everyone; what runs on Python alone has this module beside it.
"""

from __future__ import annotations

import random
from typing import TypeAlias

BANK_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
STRIDE = 104_729


Buffer: TypeAlias = bytes | bytearray | memoryview


class Mismatch(Exception):
    """Bytes were read that are not the file's."""


class Bank:
    """The bytes that all contents are slices of."""

    def __init__(self) -> None:
        self.data = random.Random(7).randbytes(BANK_BYTES)
        self.view = memoryview(self.data)

    @staticmethod
    def offset_of(number: int) -> int:
        return number * STRIDE % (BANK_BYTES - CHUNK_BYTES)

    def file(self, number: int, size_bytes: int) -> memoryview:
        """Content of small file *number*, of at most 1 MiB."""
        offset = self.offset_of(number)
        return self.view[offset : offset + size_bytes]

    def check_file(self, number: int, size_bytes: int, read: Buffer, *, whole: bool) -> None:
        """Raises Mismatch unless *read* is file *number*; without *whole* its length and both ends are compared."""
        view = memoryview(read)
        if len(view) != size_bytes:
            raise Mismatch(f"file {number}: {len(view)} bytes instead of {size_bytes}")
        at = self.offset_of(number)
        if whole:
            right = self.data.startswith(view, at)
        else:
            right = self.data.startswith(view[:64], at) and self.data.startswith(view[-64:], at + size_bytes - 64)
        if not right:
            raise Mismatch(f"file {number}: other bytes than were written")

    def check_range(self, offset: int, read: Buffer) -> None:
        """Raises Mismatch unless *read* is what the large file has at *offset*."""
        view, done = memoryview(read), 0
        while done < len(view):
            chunk, within = divmod(offset + done, CHUNK_BYTES)
            size = min(CHUNK_BYTES - within, len(view) - done)
            if not self.data.startswith(view[done : done + size], self.offset_of(chunk) + within):
                raise Mismatch(f"large file: other bytes than were written at offset {offset + done}")
            done += size
