"""Reads one large file in pieces, hashes them, and hands them on: three stages that work at the same time.

    reader task --> hasher task --> whoever takes the chunks (put_stream)

The channels between them hold nothing, so at most three pieces are in memory. Hashing (1.2 GB/s with the processor's
SHA instructions) is the slowest stage on a local disk, and reading and sending hide behind it.
"""

from __future__ import annotations

import mmap
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from gridfs.cache.buffers import BufferPool
from gridfs.config import MIB
from gridfs.create.digest import StreamDigest
from gridfs.create.groups import single_error
from gridfs.create.source import Found, ListedSource, Outcome, Reading, Wanted
from gridfs.model import Buffer

PIECE_SIZE_BYTES = 8 * MIB
"""For each trip to a thread (60 us)."""


class PieceBuffers:
    """Memory for pieces, used again when nobody looks at a piece any more."""

    def __init__(self) -> None:
        self._pool = BufferPool()
        self._lent: list[mmap.mmap] = []

    def take(self, size_bytes: int) -> memoryview:
        """*size_bytes* to be filled; their memory is the taker's until the last view of it is gone."""
        self._lent = [area for area in self._lent if not self._pool.give(area)]
        area = self._pool.take(size_bytes)
        self._lent.append(area)
        return memoryview(area)[:size_bytes]


class PiecewiseReading:
    """The reading of *file*, once. After `run`: `failure`, or `sha256` and `checksums`."""

    def __init__(self, source: ListedSource, file: Found, block_size_bytes: int) -> None:
        self._source = source
        self._file = file
        self._digest = StreamDigest(block_size_bytes)
        self.failure: Reading | None = None
        self.sha256 = b""
        self.checksums = b""

    async def run(self, take: Callable[[AsyncIterator[Buffer]], Awaitable[object]]) -> None:
        """Gives the pieces to *take*. When the file can't be read, *take* gets an exception from the iterator."""
        with single_error():
            async with trio.open_nursery() as nursery:
                read_out, read_in = trio.open_memory_channel[memoryview](0)
                hash_out, hash_in = trio.open_memory_channel[memoryview](0)
                nursery.start_soon(self._read, read_out, name="read pieces")
                nursery.start_soon(self._hash, read_in, hash_out, name="hash pieces")
                try:
                    await take(self._chunks(hash_in))
                except Exception:
                    if self.failure is None:
                        raise
                finally:
                    hash_in.close()
                nursery.cancel_scope.cancel()
        if self.failure is None:
            self.sha256, self.checksums = self._digest.finish()

    async def _read(self, out: trio.MemorySendChannel[memoryview]) -> None:
        buffers = PieceBuffers()
        with out:
            for start in range(0, self._file.size, PIECE_SIZE_BYTES):
                piece = buffers.take(min(PIECE_SIZE_BYTES, self._file.size - start))
                reading = (await self._source.read([Wanted(self._file, start, piece)]))[0]
                if reading.outcome is not Outcome.READ:
                    self.failure = reading
                    return
                await out.send(piece)

    async def _hash(self, read: trio.MemoryReceiveChannel[memoryview], out: trio.MemorySendChannel[memoryview]) -> None:
        with read, out:
            async for piece in read:
                await trio.to_thread.run_sync(self._digest.update, piece)
                await out.send(piece)

    async def _chunks(self, pieces: trio.MemoryReceiveChannel[memoryview]) -> AsyncIterator[Buffer]:
        async for piece in pieces:
            yield piece
        if self.failure is not None:
            raise _ReadingFailed


class _ReadingFailed(Exception):
    """Ends an upload whose content can't be had; never leaves `run`."""
