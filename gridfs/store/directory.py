"""A directory as an object store: durable, atomic, create-only.

An object is the file of its key below the root. It is written to a temporary file in `.tmp/`, synced, and renamed to
its place; a create-only object is linked to its place instead, because link(2) fails where rename(2) replaces. The
rename is not yet durable: the directories that it changed are remembered, and `sync()` syncs them. So the order on disk
is data, directories (by `sync()`, which a committer awaits), commit record. A create-only object is itself durable when
`put_if_absent` returns. obstore's LocalStore syncs nothing, which is why this is ours.

What a crash leaves: files in `.tmp/` (removed by a later writer once they are a week old) and empty directories, which
no listing shows.
"""

from __future__ import annotations

import os
import stat
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import trio

from gridfs.errors import AccessDenied, InvalidInput, ObjectExists, Unsupported
from gridfs.model import Buffer, ByteRange
from gridfs.store.base import Deliver, ObjectHead
from gridfs.store.directory_files import (
    LINK_UNSUPPORTED,
    TEMPORARY,
    directories_with_objects,
    head_object,
    map_os_error,
    read_object,
    scan,
    sweep,
    sync_directory,
    unlink_if_there,
    write_object,
)

_T = TypeVar("_T")

_CHUNK_SIZE_BYTES = 1 << 20
"""A stream hands over this much for each trip to a thread (60 us)."""
_THREADS = 64
"""Enough to keep a network file system busy; trio's own 40 are shared with everyone."""
_REPLACE_ATTEMPTS = 10
"""A deleter may remove an empty directory between our mkdir and our rename."""


class DirectoryStore:
    """An ObjectStore in the directory *root*, which is made when something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()
        """Directories with a change that a power cut could undo. Guarded by _lock: worker threads add to it."""
        self._swept = False

    @property
    def url(self) -> str:
        return "file://" + quote(os.fsencode(self.root), safe="/")

    def check(self) -> None:
        """Raises InvalidInput if the root is there and no directory, and what its file system says if it is not to be
        looked at: a directory above it may be closed, a server of it away."""
        with map_os_error(self.url), suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISDIR(os.stat(self.root).st_mode):
                raise InvalidInput(f"the store {self.root} is no directory", remedy="name a directory")

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        return False  # a disk is asked in a thread

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        return await self._run(read_object, self._path(key), key, byte_range, if_match, None, abandon=True)

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        path = self._path(key)
        etag = if_match or (await self._run(head_object, path, key)).etag  # the file may be replaced between two chunks
        for start in range(byte_range.start, byte_range.stop, _CHUNK_SIZE_BYTES):
            piece = ByteRange(start, min(start + _CHUNK_SIZE_BYTES, byte_range.stop))
            place = None if into is None else into[start - byte_range.start : piece.stop - byte_range.start]
            deliver(await self._run(read_object, path, key, piece, etag, place, abandon=True))

    async def get(self, key: str) -> memoryview:
        return await self._run(read_object, self._path(key), key, None, None, None, abandon=True)

    async def head(self, key: str) -> ObjectHead:
        return await self._run(head_object, self._path(key), key)

    async def put(self, key: str, data: Buffer) -> None:
        await self._run(self._write, self._path(key), key, data)

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        path = self._path(key)
        temporary, descriptor = await self._run(self._open_temporary)
        written = 0
        try:
            try:
                async for chunk in chunks:
                    await self._run(write_object, descriptor, chunk, written)
                    written += memoryview(chunk).nbytes
                await self._run(os.fsync, descriptor)
            finally:
                os.close(descriptor)
            await self._run(self._into_place, temporary, path, os.replace)
        finally:
            unlink_if_there(temporary)
        return written

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        await self._run(self._write_new, self._path(key), key, data)

    async def verify_create_only(self) -> None:
        """Raises Unsupported where link(2) is impossible (vfat, some FUSE file systems)."""
        key = f"{uuid.uuid4().hex}.probe"
        await self.put_if_absent(key, b"gridfs probes whether this file system can link")
        await self.delete(key)

    async def delete(self, key: str) -> None:
        await self._run(self._remove, self._path(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        directory = prefix.rpartition("/")[0]
        below = self._path(directory) if directory else self.root
        pending = [(below, directory + "/" if directory else "")]
        while pending:
            path, base = pending.pop()
            heads, directories = await self._run(scan, path, base)
            for head in heads:
                if head.key.startswith(prefix):
                    yield head
            pending += [(path / name, f"{base}{name}/") for name in directories if f"{base}{name}/".startswith(prefix)]

    async def list_directories(self, prefix: str) -> Sequence[str]:
        below = self._path(prefix.rstrip("/")) if prefix else self.root
        return await self._run(directories_with_objects, below)

    async def sync(self) -> None:
        await self._run(self._sync)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _path(self, key: str) -> Path:
        """Where *key* lies. Keys are ours: a strange one is a defect or a forged manifest; nothing leaves the root."""
        components = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in components) or components[0] == TEMPORARY:
            raise InvalidInput(f"{key!r} can't be the key of an object in {self.url}")
        return self.root.joinpath(*components)

    async def _run(self, function: Callable[..., _T], *arguments: object, abandon: bool = False) -> _T:
        """Calls *function* in a thread; OSErrors become ours. A read may be abandoned: a server of files may hang."""

        def call() -> _T:
            with map_os_error(self.url):
                return function(*arguments)

        return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=abandon)

    # Everything below runs in worker threads.

    def _open_temporary(self) -> tuple[Path, int]:
        directory = self.root / TEMPORARY
        with self._lock:
            if not self._swept:
                self._make_directories(directory)
                sweep(directory)
                self._swept = True
        path = directory / uuid.uuid4().hex
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    @contextmanager
    def _written(self, data: Buffer) -> Iterator[Path]:
        """A temporary file that holds *data*, synced."""
        temporary, descriptor = self._open_temporary()
        try:
            try:
                write_object(descriptor, data, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield temporary
        finally:
            unlink_if_there(temporary)

    def _write(self, path: Path, key: str, data: Buffer) -> None:
        with self._written(data) as temporary:
            self._into_place(temporary, path, os.replace)

    def _write_new(self, path: Path, key: str, data: Buffer) -> None:
        with self._written(data) as temporary:
            try:
                self._into_place(temporary, path, os.link)
            except FileExistsError as error:
                if os.stat(temporary).st_nlink != 2:  # 2: NFS repeated a link whose first answer was lost
                    raise ObjectExists(f"{key} exists already in {self.url}") from error
            except OSError as error:
                if error.errno in LINK_UNSUPPORTED:
                    raise Unsupported(
                        f"the file system of {self.root} has no hard links, which numbering versions safely needs",
                        remedy="choose a store on another file system by --store",
                    ) from error
                raise
        self._sync_path(path.parent)

    def _into_place(self, temporary: Path, path: Path, move: Callable[[Path, Path], None]) -> None:
        for attempt in range(_REPLACE_ATTEMPTS):
            try:
                move(temporary, path)
                break
            except FileNotFoundError:
                if attempt == _REPLACE_ATTEMPTS - 1 or not temporary.exists():
                    raise
                with self._lock:
                    self._make_directories(path.parent)
        with self._lock:
            self._unsynced.add(path.parent)

    def _make_directories(self, directory: Path) -> None:
        """Makes *directory* and what lacks above it, and remembers what that changed. Called with _lock held."""
        if directory.is_dir():
            return
        self._make_directories(directory.parent)
        try:
            directory.mkdir()
        except FileExistsError:
            pass
        except (FileNotFoundError, NotADirectoryError) as error:
            raise AccessDenied(
                f"{directory} can't be made in the store {self.url}: {error.strerror}",
                remedy="choose a store elsewhere by --store",
            ) from error
        self._unsynced.add(directory.parent)

    def _remove(self, path: Path) -> None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()
        parent = path.parent
        with suppress(OSError):  # not empty: the end of the loop
            while parent != self.root:
                parent.rmdir()
                parent = parent.parent
        with self._lock:
            self._unsynced.add(parent)

    def _sync(self) -> None:
        with self._lock:
            unsynced, self._unsynced = self._unsynced, set()
        try:
            for directory in sorted(unsynced, key=lambda path: -len(path.parts)):  # a child before what names it
                sync_directory(directory)
        except OSError:
            with self._lock:
                self._unsynced |= unsynced
            raise

    def _sync_path(self, directory: Path) -> None:
        """Syncs *directory*, and those above it that the same put has made."""
        sync_directory(directory)
        while directory != self.root.parent:
            with self._lock:
                if directory.parent not in self._unsynced:
                    return
            directory = directory.parent
            sync_directory(directory)
