"""Packs and uploads what streams in: the pipeline of a source that passes by once.

    worker thread of the source: entry() / file() -> pull into the open pack, hash, drop what is known -> journal
    trio: UPLOADS tasks: put -> journal

Two pack buffers go round: one is filled while the other is sent, and when both are full, the source waits; that is the
bound of the memory. A file of half a pack or more becomes an object of its own and is sent while it arrives; what a
header said of its size does not count, so one that turns out larger than it said leaves the pack that it began in.

The stream can't be read again, so a creation that is continued hears it from the beginning. What is durable already is
recognised by its hash and not sent again. A large file could only be recognised after it was sent; so where an earlier
run (or the version before) has a file of the same path, size and mtime, it is only hashed, and expected to be the same.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

import trio

from gridfs.cache.buffers import new_area
from gridfs.create.archive_rules import link_outside, link_stays_inside
from gridfs.create.digest import StreamDigest, block_checksums
from gridfs.create.expected import Expected
from gridfs.create.groups import single_error
from gridfs.create.journal import Journal
from gridfs.create.pack import MAX_FILES, is_large, place
from gridfs.create.piecewise import PIECE_SIZE_BYTES, PieceBuffers
from gridfs.create.progress import Progress
from gridfs.create.publish import PublishSettings
from gridfs.create.source import Found, ReadInto, StreamedSource
from gridfs.errors import SourceProblem
from gridfs.model import Buffer, Kind, Problem
from gridfs.store.base import ObjectStore

BUFFERS = 2
_REPORT_INTERVAL_S = 0.1


class _Pack(NamedTuple):
    """A pack that is full."""

    number: int
    key: str
    buffer: mmap.mmap
    size_bytes: int


class Arriving:
    """Arrivals that become durable; `run` drives a source through it."""

    def __init__(
        self,
        journal: Journal,
        store: ObjectStore,
        settings: PublishSettings,
        progress: Progress,
        expected: Expected,
    ) -> None:
        self._journal = journal
        self._store = store
        self._settings = settings
        self._progress = progress
        self._expected = expected
        self._lock = threading.Lock()
        """Held for each use of the journal, by the source's thread and by trio's."""
        self._free_out, self._free_in = trio.open_memory_channel[mmap.mmap | None](BUFFERS)
        self._full_out, self._full_in = trio.open_memory_channel[_Pack](0)
        self._buffer: mmap.mmap | None = None
        self._number, self._key = 0, ""
        self._end = self._members = 0
        self._files = self._bytes = 0
        self.sent_bytes = 0
        self.reused_files = 0
        """Files that were not sent, because their content was there."""
        self.reused_bytes = 0

    async def run(self, source: StreamedSource) -> None:
        """Returns when all is durable but for the store's final sync."""
        await trio.to_thread.run_sync(self._journal.index_contents)
        for _ in range(BUFFERS):
            self._free_out.send_nowait(None)
        with single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, name="report")
                async with trio.open_nursery() as uploads:
                    for number in range(BUFFERS):
                        uploads.start_soon(self._upload, self._full_in.clone(), name=f"upload {number}")
                    self._full_in.close()
                    async with self._full_out:
                        await source.stream(self)
                        if (pack := self._close_pack()) is not None:
                            await self._full_out.send(pack)
                nursery.cancel_scope.cancel()
        self._progress.on_advance(self._files, self._bytes)

    # Arrivals: called in the source's worker thread

    def entry(self, found: Found) -> None:
        with self._lock:
            if found.same_as is not None:
                self._hard_link(found, found.same_as)
            else:
                self._journal.add(found)

    def _hard_link(self, found: Found, first_path: bytes) -> None:
        """Another name of what came by the name *first_path*: also of a symbolic link, or of what was left out."""
        earlier = self._journal.find_named(first_path)
        if earlier is not None:
            first, content = earlier
            if first.kind is Kind.SYMLINK and not link_stays_inside(found.path, first.target or b""):
                self._journal.add_problem(link_outside(found.path, first.target or b""))
            else:
                mode = found.mode if first.kind is Kind.FILE else first.mode
                self._journal.add(first._replace(path=found.path, mode=mode, mtime_ns=found.mtime_ns), content)
        elif (left_out := self._journal.find_problem(first_path)) is not None:
            self._journal.add_problem(left_out._replace(name=found.path))
        else:
            raise SourceProblem(
                f"a hard link names {_shown(first_path)}, which is no file that came before it",
                remedy="nothing of it was kept; get it anew",
            )

    def add_problem(self, problem: Problem) -> None:
        with self._lock:
            self._journal.add_problem(problem)

    def file(self, found: Found, read_into: ReadInto) -> None:
        if is_large(found.size, self._settings.pack_size_bytes):
            self._large(found, read_into, b"")
        else:
            self._small(found, read_into)

    def _small(self, found: Found, read_into: ReadInto) -> None:
        pack_size = self._settings.pack_size_bytes
        offset = place(self._end, found.size, self._settings.block_size_bytes)
        if self._end and (offset + found.size > pack_size or self._members == MAX_FILES):
            self._send_pack()
            offset = 0
        view = self._open_pack()
        end = offset
        while True:
            room = view[end : min(pack_size, offset + pack_size // 2)]
            if not room:
                break
            count = read_into(room)
            if count == 0:
                break
            end += count
        if end == pack_size or is_large(end - offset, pack_size):  # larger than its header said
            self._large(found, read_into, bytes(view[offset:end]))
            return
        self._keep(found, view, offset, end)

    def _keep(self, found: Found, view: memoryview, offset: int, end: int) -> None:
        size = end - offset
        found = found._replace(size=size)
        with self._lock:
            if size == 0:
                self._journal.add(found)
            else:
                sha256 = hashlib.sha256(view[offset:end]).digest()
                content = self._journal.find_content(sha256)
                if content is not None:
                    self._count_reused(size)
                else:
                    view[self._end : offset] = bytes(offset - self._end)
                    content = self._journal.add_content(sha256, size, self._number, offset)
                    self._end = end
                    self._members += 1
                self._journal.add(found, content)
        self._count(size)

    def _large(self, found: Found, read_into: ReadInto, beginning: bytes) -> None:
        """Sends a file as an object of its own, or only hashes it; *beginning* was read from it already."""
        with self._lock:
            expected = self._expected.sha256_of(found)
        digest = StreamDigest(self._settings.block_size_bytes)
        pieces = _Pieces(read_into, beginning, digest)
        if expected is not None:
            for _ in pieces:
                pass
        else:
            key = uuid.uuid4().hex
            with self._lock:
                number = self._journal.begin_object(key)
            trio.from_thread.run(self._send_large, self._settings.key_of(key), pieces, found.size)
        sha256, checksums = digest.finish()
        found = found._replace(size=digest.size_bytes)
        with self._lock:
            if expected is None:
                content: int | None = self._journal.add_content(sha256, found.size, number, 0)
                self._journal.finish_object(number, found.size, checksums)
                self.sent_bytes += found.size
            else:
                content = self._journal.find_content(sha256)
                if content is None:
                    raise SourceProblem(
                        f"{_shown(found.path)} has the size and date that it had before, and another content",
                        remedy="run the command again with --checksum",
                    )
                self._count_reused(found.size)
            self._journal.add(found, content)
        self._count(found.size)

    def _open_pack(self) -> memoryview:
        if self._buffer is None:
            free = trio.from_thread.run(self._free_in.receive)
            self._buffer = free or new_area(self._settings.pack_size_bytes)
            self._key = uuid.uuid4().hex
            with self._lock:
                self._number = self._journal.begin_object(self._key)
        return memoryview(self._buffer)

    def _send_pack(self) -> None:
        if (pack := self._close_pack()) is not None:
            trio.from_thread.run(self._full_out.send, pack)

    def _close_pack(self) -> _Pack | None:
        if self._buffer is None:
            return None
        pack = _Pack(self._number, self._key, self._buffer, self._end)
        self._buffer = None
        self._end = self._members = 0
        return pack

    def _count_reused(self, size: int) -> None:
        self.reused_files += 1
        self.reused_bytes += size

    def _count(self, size: int) -> None:
        self._files += 1
        self._bytes += size

    # In trio

    async def _upload(self, packs: trio.MemoryReceiveChannel[_Pack]) -> None:
        async with packs:
            async for pack in packs:
                if pack.size_bytes:
                    await self._put(pack)
                else:  # nothing in it was new
                    with self._lock:
                        self._journal.forget_objects([pack.number])
                self._free_out.send_nowait(pack.buffer)

    async def _put(self, pack: _Pack) -> None:
        data = memoryview(pack.buffer)[: pack.size_bytes]
        checksums = await trio.to_thread.run_sync(block_checksums, data, self._settings.block_size_bytes)
        await self._store.put(self._settings.key_of(pack.key), data)
        with self._lock:
            self._journal.finish_object(pack.number, pack.size_bytes, checksums)
        self.sent_bytes += pack.size_bytes

    async def _send_large(self, key: str, pieces: _Pieces, size_hint_bytes: int) -> None:
        await self._store.put_stream(key, pieces.chunks(), size_hint_bytes=size_hint_bytes)

    async def _report(self) -> None:
        while True:
            self._progress.on_advance(self._files, self._bytes)
            await trio.sleep(_REPORT_INTERVAL_S)


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))


class _Pieces:
    """The pieces of a large file, hashed as they come."""

    def __init__(self, read_into: ReadInto, beginning: bytes, digest: StreamDigest) -> None:
        self._read_into = read_into
        self._beginning = beginning
        self._digest = digest
        self._buffers = PieceBuffers()

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> memoryview:
        if self._beginning:
            piece, self._beginning = memoryview(self._beginning), b""
        else:
            buffer = self._buffers.take(PIECE_SIZE_BYTES)
            end = 0
            while end < len(buffer) and (count := self._read_into(buffer[end:])):
                end += count
            if not end:
                raise StopIteration
            piece = buffer[:end]
        self._digest.update(piece)
        return piece

    async def chunks(self) -> AsyncIterator[Buffer]:
        """The same, for put_stream: each piece is pulled in a worker thread."""
        while (piece := await trio.to_thread.run_sync(next, self, None)) is not None:
            yield piece
