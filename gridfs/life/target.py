"""A directory that files are written into, and never out of.

Names come from a manifest, which may be hostile, and the directory may hold links that somebody put there. So every
directory is opened name by name from the top without following links, and names that are no names are refused.

What is not whole yet lies in `.gridfs-partial/` at the top, and is renamed to its place with its size, mode and mtime:
a file that is seen under its name is whole, also after `kill -9`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from gridfs.errors import FormatError, InvalidInput
from gridfs.model import Buffer, Entry, Kind

_PARTIAL = b".gridfs-partial"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class State(Enum):
    """What is at an entry's place."""

    ABSENT = auto()
    PRESENT = auto()
    """The entry: kind, size and mtime are right."""
    OTHER = auto()


class Target:
    """The directory *root*, which is made if need be. Its methods block; they may be called from several threads."""

    def __init__(self, root: Path, generation: str) -> None:
        """*generation* names the version, so that parts of another one are not continued."""
        try:
            root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidInput(f"{root} is not a directory", remedy="name a directory, new or not") from error
        self.root = root
        self._generation = generation.encode()
        self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._top)

    def state(self, path: bytes, entry: Entry) -> State:
        """What is at *path* now. A directory that is there is PRESENT."""
        try:
            with self._parent(path) as (parent, name):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if entry.kind == Kind.DIRECTORY:
                    return State.PRESENT if S_ISDIR(status.st_mode) else State.OTHER
                if entry.kind == Kind.SYMLINK:
                    same = S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=parent) == entry.target
                    return State.PRESENT if same else State.OTHER
        except FileNotFoundError:
            return State.ABSENT
        # Whole seconds: not every file system keeps nanoseconds.
        same = status.st_size == entry.size and status.st_mtime_ns // 10**9 == entry.mtime_ns // 10**9
        return State.PRESENT if same and S_ISREG(status.st_mode) else State.OTHER

    def make_directory(self, path: bytes) -> None:
        with self._parent(path) as (parent, name), suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)

    def make_link(self, path: bytes, entry: Entry) -> None:
        """The symbolic link as given. Made when nothing is written below any more."""
        with self._parent(path) as (parent, name), suppress(FileExistsError):
            os.symlink(entry.target or b"", name, dir_fd=parent)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def set_directory_time(self, path: bytes, entry: Entry) -> None:
        with self._parent(path) as (parent, name):
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def write(self, entry: Entry, offset: int, data: Buffer) -> None:
        """Writes a piece of a file that is not whole yet."""
        with self._partials(create=True) as partials:
            mode = 0o777 if entry.mode & 0o100 else 0o666  # the umask does the rest
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._partial_name(entry), flags, mode, dir_fd=partials)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(file, view, offset)
                    offset, view = offset + written, view[written:]
            finally:
                os.close(file)

    def read_partial(self, entry: Entry, offset: int, size_bytes: int) -> bytes:
        """What an earlier run has written of a file; less than asked for where it wrote nothing."""
        try:
            with self._partials(create=False) as partials:
                name = self._partial_name(entry)
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=partials)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(file, size_bytes, offset)
        finally:
            os.close(file)

    def finish(self, path: bytes, entry: Entry) -> None:
        """The file is whole: it gets its mtime and its name."""
        with self._partials(create=False) as partials, self._parent(path) as (parent, name):
            partial = self._partial_name(entry)
            os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=partials, follow_symlinks=False)
            os.rename(partial, name, src_dir_fd=partials, dst_dir_fd=parent)

    def forget_partials(self) -> None:
        """Removes what earlier runs have left."""
        with suppress(FileNotFoundError), self._partials(create=False) as partials:
            for name in os.listdir(partials):
                os.unlink(name, dir_fd=partials)
            os.rmdir(_PARTIAL, dir_fd=self._top)

    def _partial_name(self, entry: Entry) -> bytes:
        return b"%s-%d" % (self._generation[:16], entry.inode)

    @contextmanager
    def _partials(self, *, create: bool) -> Iterator[int]:
        if create:
            with suppress(FileExistsError):
                os.mkdir(_PARTIAL, 0o700, dir_fd=self._top)
        with self._directory((_PARTIAL,)) as descriptor:
            yield descriptor

    @contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The directory of *path*, open, and the name in it."""
        *above, name = path.split(b"/")
        for each in (*above, name):
            if each in (b"", b".", b"..") or b"\0" in each:
                raise FormatError(f"the manifest names {path!r}, which would leave {self.root}")
        if path.split(b"/", 1)[0] == _PARTIAL:
            raise InvalidInput(f"the version holds {_PARTIAL.decode()}, which a download uses itself")
        with self._directory(tuple(above)) as descriptor:
            yield descriptor, name

    @contextmanager
    def _directory(self, names: tuple[bytes, ...]) -> Iterator[int]:
        descriptor = os.dup(self._top)
        try:
            for name in names:
                try:
                    below = os.open(name, _DIRECTORY, dir_fd=descriptor)
                except NotADirectoryError as error:
                    where = self.root / os.fsdecode(b"/".join(names))
                    raise InvalidInput(
                        f"{where} goes through something that is no directory", remedy="choose an empty directory"
                    ) from error
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)
