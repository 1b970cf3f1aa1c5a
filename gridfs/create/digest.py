"""The two checksums: SHA-256 of a file's content (its identity), xxh3_64 of each block of an object (guards reads).

Both release the GIL for more than 2 KiB (SHA-256) or take 4 us a block (xxh3), so a worker thread hashes while others
read and send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import xxhash

from gridfs.model import Buffer

EMPTY_SHA256 = hashlib.sha256().digest()


def sha256_of_each(contents: Iterable[memoryview]) -> list[bytes]:
    """The hash of each content."""
    return [hashlib.sha256(content).digest() for content in contents]


def block_checksums(data: memoryview, block_size: int) -> bytes:
    """8 bytes, little-endian, for each block of *data*, which begins at a block boundary of its object."""
    return b"".join(
        xxhash.xxh3_64_intdigest(data[start : start + block_size]).to_bytes(8, "little")
        for start in range(0, len(data), block_size)
    )


class StreamDigest:
    """Both checksums of an object that is one file, and comes in pieces of any size."""

    def __init__(self, block_size: int) -> None:
        self._sha256 = hashlib.sha256()
        self._block_size = block_size
        self._block = xxhash.xxh3_64()
        self._in_block = 0
        self._checksums = bytearray()
        self.size_bytes = 0

    def update(self, data: Buffer) -> None:
        """Takes the next bytes."""
        view = memoryview(data)
        self._sha256.update(view)
        self.size_bytes += len(view)
        while view:
            piece = view[: self._block_size - self._in_block]
            self._block.update(piece)
            self._in_block += len(piece)
            view = view[len(piece) :]
            if self._in_block == self._block_size:
                self._close_block()

    def finish(self) -> tuple[bytes, bytes]:
        """The content's SHA-256, and the checksums of all blocks."""
        if self._in_block:
            self._close_block()
        return self._sha256.digest(), bytes(self._checksums)

    def _close_block(self) -> None:
        self._checksums += self._block.intdigest().to_bytes(8, "little")
        self._block.reset()
        self._in_block = 0
