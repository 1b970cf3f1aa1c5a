"""A directory that files are written into, and never out of.

Names come from a manifest, which may be hostile, and the directory may hold links that somebody put there. So every
directory is opened name by name from the top without following links, and names that are no names are refused.

What is not whole yet lies in `.gridfs-partial/` at the top, and is renamed to its place with its size, mode and mtime:
a file that is seen under its name is whole, also after `kill -9`. One download at a time writes there: its lock file
lies there too, and goes with its end.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from gridfs.errors import Busy, FormatError, GridfsError, InvalidInput
from gridfs.model import Buffer, Entry, Kind

_PARTIAL = b".gridfs-partial"
_LOCK = b"lock"
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Of a file system without flock(2): Lustre unless mounted with it, NFS without its lock service."""
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
        self._lock: int | None = None
        self._begun: set[int] = set()
        """Inodes of the files that have a partial, as far as this run has seen or made it."""

    def lock(self) -> bool:
        """Keeps other downloads out until `close`; False while another one is at work. Nothing is written before."""
        with suppress(FileExistsError):
            os.mkdir(_PARTIAL, 0o700, dir_fd=self._top)
        try:
            with self._partials() as partials, ExitStack() as undo:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC  # NFS locks only what may be written
                lock = os.open(_LOCK, flags, 0o600, dir_fd=partials)
                undo.callback(os.close, lock)
                # Its last holder may have removed it since it was opened: what is locked then keeps nobody out.
                if _flocked(lock) and os.path.samestat(os.fstat(lock), os.stat(_LOCK, dir_fd=partials)):
                    self._lock = lock
                    undo.pop_all()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # removed by its last holder, at this moment
                raise
        return self._lock is not None

    def close(self) -> None:
        """Lets others in. What is not whole stays for the next run, and nothing else."""
        if self._lock is not None:
            with suppress(OSError, GridfsError), self._partials() as partials:
                os.unlink(_LOCK, dir_fd=partials)
            os.close(self._lock)
            with suppress(OSError):  # after the close: NFS keeps a file that is open, by another name
                os.rmdir(_PARTIAL, dir_fd=self._top)
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

    def lacks(self, path: bytes, entry: Entry) -> bool:
        """Whether *entry* is still to be made. Raises InvalidInput if something else is at its place by now."""
        state = self.state(path, entry)
        if state is State.OTHER:
            raise self._appeared(path)
        return state is State.ABSENT

    def make_directory(self, path: bytes) -> None:
        with self._parent(path) as (parent, name), suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)

    def make_link(self, path: bytes, entry: Entry) -> None:
        """The symbolic link as given. Made when nothing is written below any more."""
        with self._parent(path) as (parent, name):
            try:
                os.symlink(entry.target or b"", name, dir_fd=parent)
            except FileExistsError:
                self.lacks(path, entry)
            else:
                os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def set_directory_time(self, path: bytes, entry: Entry) -> None:
        with self._parent(path) as (parent, name):
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def write(self, entry: Entry, offset: int, data: Buffer) -> None:
        """Writes a piece of a file that is not whole yet. Raises Busy if what was written of it before is gone."""
        mode = 0o777 if entry.mode & 0o100 else 0o666  # the umask does the rest
        # Made once: made again after somebody removed it, it would have a hole where the earlier pieces were.
        create = 0 if entry.inode in self._begun else os.O_CREAT
        flags = os.O_WRONLY | create | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._none_vanishes(), self._partials() as partials:
            file = os.open(self._partial_name(entry), flags, mode, dir_fd=partials)
        try:
            self._begun.add(entry.inode)
            view = memoryview(data)
            while view:
                written = os.pwrite(file, view, offset)
                offset, view = offset + written, view[written:]
        finally:
            os.close(file)

    def read_partial(self, entry: Entry, offset: int, size_bytes: int) -> bytes:
        """What an earlier run has written of a file; less than asked for where it wrote nothing."""
        try:
            with self._partials() as partials:
                name = self._partial_name(entry)
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=partials)
        except FileNotFoundError:
            return b""
        try:
            self._begun.add(entry.inode)
            return os.pread(file, size_bytes, offset)
        finally:
            os.close(file)

    def finish(self, path: bytes, entry: Entry) -> None:
        """The file is whole: it gets its mtime and its name. Raises InvalidInput if something has that name by now."""
        with self._none_vanishes(), self._partials() as partials:
            partial = self._partial_name(entry)
            os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=partials, follow_symlinks=False)
        with self._partials() as partials, self._parent(path) as (parent, name):
            try:
                # Not rename(2), which replaces what somebody may have put there since it was looked at.
                os.link(partial, name, src_dir_fd=partials, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                raise self._appeared(path) from None
            except OSError:  # FAT and others have no links; what can't be written at all fails here too
                with suppress(FileNotFoundError):
                    os.stat(name, dir_fd=parent, follow_symlinks=False)
                    raise self._appeared(path) from None
                os.rename(partial, name, src_dir_fd=partials, dst_dir_fd=parent)
            else:
                os.unlink(partial, dir_fd=partials)
        self._begun.discard(entry.inode)

    def forget_partials(self) -> None:
        """Removes what earlier runs have left."""
        with self._partials() as partials:
            for name in os.listdir(partials):
                if name != os.fsdecode(_LOCK):
                    os.unlink(name, dir_fd=partials)

    def folds_case(self) -> bool:
        """Whether `README` and `readme` are one file there; asked of the lock file, so `lock` comes before."""
        with suppress(FileNotFoundError), self._partials() as partials:
            names = (os.stat(name, dir_fd=partials, follow_symlinks=False) for name in (_LOCK, _LOCK.upper()))
            return os.path.samestat(*names)
        return False

    def _appeared(self, path: bytes) -> InvalidInput:
        return InvalidInput(
            f"{self.root / os.fsdecode(path)} was not there when the download began, and now is: somebody made it, or "
            "the file system takes two names for one",
            remedy="remove it, or choose another directory; what is there already is not fetched again",
        )

    def _partial_name(self, entry: Entry) -> bytes:
        return b"%s-%d" % (self._generation[:16], entry.inode)

    @contextmanager
    def _none_vanishes(self) -> Iterator[None]:
        """Where the file system has no locks, or somebody cleans up, what this run has written may be gone."""
        try:
            yield
        except FileNotFoundError as error:
            raise Busy(
                f"{self.root / os.fsdecode(_PARTIAL)} was emptied by something else while it was written to",
                remedy="let one download at a time write there; the same command then continues",
            ) from error

    @contextmanager
    def _partials(self) -> Iterator[int]:
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


def _flocked(descriptor: int) -> bool:
    """Takes the lock, if nobody has it. Without locks each download goes on, and fails where another interferes."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # SMB says EACCES
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
