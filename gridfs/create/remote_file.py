"""An HTTP resource as a file that a worker thread reads: read, seek, tell.

    trio: pump task --chunks--> channel (CHUNKS_AHEAD) --> worker thread: read()

The pump stays ahead of the reader, so that receiving and unpacking work at the same time. A seek to somewhere else
starts another pump there; one that is only a little ahead reads on, which is cheaper than a round trip.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from gridfs.create.groups import single_error
from gridfs.create.web import HttpResource
from gridfs.errors import GridfsError

CHUNKS_AHEAD = 4
"""Of 1 MiB: what 30 ms bring at 1 Gb/s."""
SKIP_SIZE_BYTES = 4 << 20


class RemoteFile:
    """Made by `opened`; its methods are called from one worker thread."""

    def __init__(self, resource: HttpResource, nursery: trio.Nursery) -> None:
        self._resource = resource
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._chunks: trio.MemoryReceiveChannel[bytes] | None = None
        self._failure: GridfsError | None = None
        self._position = 0
        self._chunk = b""
        self._chunk_start = 0
        """Where the current chunk lies; the pump goes on at its end."""

    def seekable(self) -> bool:
        """Whether the server can begin in the middle, and would notice a change (known after the first read)."""
        info = self._resource.info
        return info.has_ranges and info.validator is not None and info.size_bytes is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            size = self._resource.info.size_bytes
            if size is None:
                raise io.UnsupportedOperation("the server does not say how long it is")
            offset += size
        elif whence == io.SEEK_CUR:
            offset += self._position
        if offset < 0:
            raise OSError("before the beginning")
        self._position = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes as they come (all that are left for -1); fewer only at the end."""
        pieces = []
        while size:
            piece = self._some(size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece) if size > 0 else 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _some(self, size: int) -> bytes:
        while True:
            start = self._position - self._chunk_start
            if 0 <= start < len(self._chunk):
                piece = self._chunk[start : start + size] if size > 0 else self._chunk[start:]
                self._position += len(piece)
                return piece
            if not trio.from_thread.run(self._advance):
                return b""

    # What follows runs in trio.

    async def _advance(self) -> bool:
        """Gets the chunk at or ahead of the position; False at the end."""
        end = self._chunk_start + len(self._chunk)
        if self._chunks is None or not end <= self._position <= end + SKIP_SIZE_BYTES:
            self._scope.cancel()
            size = self._resource.info.size_bytes if self._chunks is not None else None
            if size is not None and self._position >= size:
                self._chunk, self._chunk_start = b"", self._position
                return False
            self._scope = trio.CancelScope()
            send, self._chunks = trio.open_memory_channel[bytes](CHUNKS_AHEAD)
            self._nursery.start_soon(self._pump, send, self._scope, self._position, name="receive")
            end = self._position
        try:
            self._chunk, self._chunk_start = await self._chunks.receive(), end
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from self._failure.__cause__
            self._chunk, self._chunk_start = b"", end
            return False
        return True

    async def _pump(self, send: trio.MemorySendChannel[bytes], scope: trio.CancelScope, start: int) -> None:
        with scope, send:
            try:
                async with aclosing(self._resource.chunks(start)) as chunks:
                    async for chunk in chunks:
                        await send.send(chunk)
            except GridfsError as error:  # raised to the reader, who would take it for the end otherwise
                self._failure = error


@asynccontextmanager
async def opened(resource: HttpResource) -> AsyncIterator[RemoteFile]:
    """*resource* as a file. What goes wrong with it is raised from this context, as one error."""
    with single_error():
        async with resource, trio.open_nursery() as nursery:
            yield RemoteFile(resource, nursery)
            nursery.cancel_scope.cancel()
