"""An archive as a source: at an HTTP address, or a local file that is to be taken apart.

What it is, its first bytes say: zip, tar, or tar in gzip, bzip2, xz or zstd; names and content types are not asked. A
tar passes by once. A zip is read by its central directory, which lies at its end: by ranges where the server has them,
and otherwise from a spool file on this node's disk, which has no name and is gone with the process.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias, cast

import trio

from gridfs.addresses import shown_url
from gridfs.config import FREE_SPACE_FRACTION
from gridfs.create.archive_rules import Account
from gridfs.create.archive_tar import BLOCK_SIZE_BYTES, is_tar, stream_tar
from gridfs.create.archive_zip import ZIP_MAGICS, stream_zip
from gridfs.create.decompress import Readable, compression_of, decompressed
from gridfs.create.remote_file import opened
from gridfs.create.source import Arrivals
from gridfs.create.web import HttpResource, Patience
from gridfs.errors import AccessDenied, NotFound, SourceProblem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SPOOL_STEP_BYTES = 1 << 20


class ArchiveFile(Readable, Protocol):
    """What an archive is read from, in one worker thread."""

    def seekable(self) -> bool:
        """Whether it can be read from anywhere; known after the first read."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


OpenArchive: TypeAlias = Callable[[], AbstractAsyncContextManager[ArchiveFile]]
"""Opens an archive from its beginning, as often as it is called."""


class ArchiveSource:
    """A StreamedSource."""

    def __init__(self, label: str, open_file: OpenArchive, spool_directory: Path) -> None:
        self._label = label
        self._open_file = open_file
        self._spool_directory = spool_directory

    @property
    def label(self) -> str:
        return self._label

    async def stream(self, arrivals: Arrivals) -> None:
        async with self._open_file() as file:
            await trio.to_thread.run_sync(self._walk, file, arrivals)

    def _walk(self, file: ArchiveFile, arrivals: Arrivals) -> None:
        account = Account(self._label)
        beginning = _read_fully(file, BLOCK_SIZE_BYTES)
        if beginning.startswith(ZIP_MAGICS):
            self._zip(beginning, file, arrivals, account)
            return
        content: Readable = _Rejoined(beginning, file, account)
        compression = compression_of(beginning)
        if compression is not None:
            content = decompressed(content, compression, account)
            beginning = _read_fully(content, BLOCK_SIZE_BYTES)
            content = _Rejoined(beginning, content, None)
        if not is_tar(beginning):
            kind = f"{compression}, but what it unpacks to is no tar" if compression else "nothing that gridfs knows"
            raise SourceProblem(
                f"{self._label} is no archive: by its content it is {kind}",
                remedy="archives are .zip and .tar, the latter also compressed by gzip, bzip2, xz or zstd",
            )
        stream_tar(content, arrivals, account)

    def _zip(self, beginning: bytes, file: ArchiveFile, arrivals: Arrivals, account: Account) -> None:
        with self._spool() as directory:
            if file.seekable():
                stream_zip(cast("IO[bytes]", file), directory, arrivals, account)
                return
            with self._spool() as whole:
                self._fill(whole, _Rejoined(beginning, file, account))
                stream_zip(whole, directory, arrivals, account)

    def _spool(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self._spool_directory, prefix="spool-")

    def _fill(self, spool: IO[bytes], content: Readable) -> None:
        """Copies *content* as long as the disk keeps the share free that caches keep free too."""
        while data := content.read(_SPOOL_STEP_BYTES):
            usage = shutil.disk_usage(self._spool_directory)
            if usage.free - len(data) < usage.total * FREE_SPACE_FRACTION:
                raise SourceProblem(
                    f"{self._label} is a zip on a server without ranges, and does not fit into {self._spool_directory}",
                    remedy="free space there, or choose another place by XDG_STATE_HOME",
                )
            spool.write(data)


class _Rejoined:
    """What was read to look at it, and then the rest; counts what goes in."""

    def __init__(self, beginning: bytes, rest: Readable, account: Account | None) -> None:
        self._beginning = beginning
        self._rest = rest
        self._account = account

    def read(self, size: int, /) -> bytes:
        if self._beginning:
            data, self._beginning = self._beginning[:size], self._beginning[size:]
        else:
            data = self._rest.read(size)
        if self._account is not None:
            self._account.add_in(len(data))
        return data


def http_archive(url: str, spool_directory: Path, patience: Patience = Patience()) -> ArchiveSource:  # noqa: B008
    """The archive at *url*."""

    def open_file() -> AbstractAsyncContextManager[ArchiveFile]:
        return opened(HttpResource(url, patience))

    return ArchiveSource(shown_url(url), open_file, spool_directory)


class _LocalFile(io.FileIO):
    """What its disk says is not said of the one with the spools."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise SourceProblem(f"{self.name} can't be read: {error.strerror}", remedy="check its disk") from error


def local_archive(path: Path, spool_directory: Path) -> ArchiveSource:
    """The archive in the file *path*."""

    @asynccontextmanager
    async def open_file() -> AsyncIterator[ArchiveFile]:
        try:
            file = io.BufferedReader(_LocalFile(path))
        except FileNotFoundError as error:
            raise NotFound(f"there is no archive {path}", remedy="check the path") from error
        except IsADirectoryError as error:
            raise SourceProblem(f"{path} is a folder and no archive", remedy="leave out --extract") from error
        except OSError as error:
            raise AccessDenied(f"{path} can't be read: {error.strerror}") from error
        with file:
            generation = _generation(file)
            yield cast("ArchiveFile", file)
            if _generation(file) != generation:
                raise SourceProblem(f"{path} changed while it was read", remedy="run the same command again")

    return ArchiveSource(str(path), open_file, spool_directory)


def _generation(file: IO[bytes]) -> tuple[int, int, int]:
    """What no writer leaves as it is."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_fully(file: Readable, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
