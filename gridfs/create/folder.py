"""A local folder as a source, or one local file.

Scanning walks the tree with one descriptor for each directory (beneath.py) and asks lstat and listxattr of every entry:
about 12 us each. What a version can't carry is reported by name: sockets, FIFOs and devices are left out, extended
attributes and ACLs are not kept.

A file's generation is (size, mtime, ctime, inode). It is compared before and after every reading with the one that the
scan saw: the ctime can't be set back, so a writer between the two is always seen, unless it writes through a mapping
that it has not yet synced (the kernel dates such pages when they are written back).
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from gridfs.create.beneath import Beneath
from gridfs.create.groups import single_error
from gridfs.create.source import Found, Listing, Outcome, Reading, Wanted, clamped_ns
from gridfs.errors import AccessDenied, InvalidInput, NotFound, SourceProblem
from gridfs.model import Kind, Problem

_STAMP = struct.Struct("<qQQQ")
_64_BITS = (1 << 64) - 1
_DEVICE = struct.Struct("<Q")
_SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "fifo", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_READ_ALL = 0o444
"""Then nobody needs to be asked; an ACL that says otherwise shows when the file is read."""
_ACLS = frozenset({"system.posix_acl_access", "system.posix_acl_default"})
_LONGEST_PATH = 1000
"""In characters; the kernel takes 4095 bytes, and a character has up to four."""
_LABELS = frozenset({"security.selinux", "security.ima", "security.evm"})
"""Put on every file by the machine's own policy: no property of the dataset."""

SLOW_FILE_S = 0.001
SLOW_READERS = 8
"""Where a small file takes longer than SLOW_FILE_S (a network file system, a disk that seeks), the next pack is read by
SLOW_READERS threads. Where it does not, one thread is faster than two: a file of some bytes costs five system calls and
40 us of Python, and threads that hand the interpreter's lock back and forth took half as much CPU again."""
ENOUGH_FILES = 16

CHECK_EVERY = 1000
"""Entries between two looks for a cancellation."""


def local_source(path: Path, *, skip_unreadable: bool = False, leave_out: Sequence[Path] = ()) -> FolderSource:
    """The source at *path*: a folder, or a file (a datastore of one file).

    *leave_out*: directories that are not scanned, because gridfs itself writes there. Raises NotFound or AccessDenied
    when there is nothing at *path* that can be looked at, and InvalidInput when it is neither folder nor file.
    """
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no folder or file {path}", remedy="check the path") from error
    except PermissionError as error:
        raise AccessDenied(f"{path} can't be looked at: {error.strerror}") from error
    except (OSError, RuntimeError) as error:  # a loop of links is the RuntimeError
        raise SourceProblem(f"{path} can't be looked at: {error}") from error
    if stat.S_ISDIR(mode):
        return FolderSource(resolved, skip_unreadable=skip_unreadable, leave_out=leave_out)
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"{path} is neither a folder nor a file", remedy="give a folder")
    return FolderSource(resolved.parent, skip_unreadable=skip_unreadable, only=(os.fsencode(path.name), resolved))


class FolderSource:
    """A ListedSource of the folder *root*; with *only* of one file in it, and the name that the version gives it."""

    def __init__(
        self,
        root: Path,
        *,
        skip_unreadable: bool = False,
        leave_out: Sequence[Path] = (),
        only: tuple[bytes, Path] | None = None,
    ) -> None:
        self._root = root
        self._readers = trio.CapacityLimiter(1)
        self._skip_unreadable = skip_unreadable
        self._only = only
        self._leave_out = leave_out

    @property
    def label(self) -> str:
        return str(self._root if self._only is None else self._only[1])

    async def scan(self, listing: Listing) -> None:
        await trio.to_thread.run_sync(self._scan, listing)

    async def read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        threads = int(self._readers.total_tokens)
        readings: list[list[Reading]] = [[] for _ in range(threads)]
        run = -(-len(wanted) // threads)

        async def read_run(number: int) -> None:
            files = wanted[number * run : (number + 1) * run]
            readings[number] = await trio.to_thread.run_sync(self._read, files, limiter=self._readers)

        began = time.perf_counter()
        with single_error():
            async with trio.open_nursery() as nursery:
                for number in range(threads):
                    nursery.start_soon(read_run, number, name="read files")
        if len(wanted) >= ENOUGH_FILES:
            file_s = (time.perf_counter() - began) * threads / len(wanted)
            self._readers.total_tokens = SLOW_READERS if file_s > SLOW_FILE_S else 1
        return [reading for part in readings for reading in part]

    async def look_again(self, file: Found) -> Found | None:
        return await trio.to_thread.run_sync(self._look_again, file)

    # Everything below runs in worker threads.

    def _scan(self, listing: Listing) -> None:
        # Looked up now: the store of a first version, and the journal's place, are made after the source is opened.
        leave_out = {identity for place in self._leave_out if (identity := _identity(place)) is not None}
        with self._beneath() as beneath:
            _Scan(beneath, listing, leave_out, self._skip_unreadable, str(self._root)).run(self._only)

    def _read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        with self._beneath() as beneath:
            return [_read_one(beneath, *each) for each in wanted]

    def _look_again(self, file: Found) -> Found | None:
        with self._beneath() as beneath:
            try:
                descriptor = beneath.file(file.locator or file.path)
            except OSError:
                return None
            try:
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        return _file(file.path, status, file.locator) if stat.S_ISREG(status.st_mode) else None

    def _beneath(self) -> Beneath:
        try:
            return Beneath(str(self._root))
        except OSError as error:
            raise AccessDenied(f"the folder {self._root} can't be read: {error.strerror}") from error


class _Scan:
    """One walk through the folder."""

    def __init__(
        self, beneath: Beneath, listing: Listing, leave_out: set[tuple[int, int]], skip_unreadable: bool, root: str
    ) -> None:
        self._beneath = beneath
        self._listing = listing
        self._leave_out = leave_out
        self._skip_unreadable = skip_unreadable
        self._root = root
        self._pending: list[bytes] = []
        self._refused: list[tuple[bytes, str]] = []
        """The first unreadable one and, in its place, how many more."""
        self._refused_count = 0
        self._seen = 0

    def run(self, only: tuple[bytes, Path] | None) -> None:
        status = os.fstat(self._beneath.directory(b""))
        if only is not None:
            name, file = only
            self._listing.add(Found(b"", Kind.DIRECTORY, 0o755, 0, _mtime_ns(status)))
            self._entry(self._beneath.directory(b""), file.name, name, file.stat(), locator=os.fsencode(file.name))
        else:
            self._listing.add(Found(b"", Kind.DIRECTORY, stat.S_IMODE(status.st_mode), 0, _mtime_ns(status)))
            self._pending.append(b"")
        while self._pending:
            path = self._pending.pop()
            try:
                self._directory(path)
            except OSError as error:  # it can't be opened, or its listing breaks off
                self._refuse(path, error.strerror or str(error))
        if self._refused_count:
            path, cause = self._refused[0]
            more = f" (and {self._refused_count - 1} more)" if self._refused_count > 1 else ""
            raise SourceProblem(
                f"{self._root}/{os.fsdecode(path)} can't be read: {cause}{more}",
                remedy="make it readable, or leave such files out by --skip-unreadable",
            )

    def _directory(self, path: bytes) -> None:
        directory = self._beneath.directory(path)
        with os.scandir(directory) as listing:
            for entry in listing:
                self._seen += 1
                if self._seen % CHECK_EVERY == 0:
                    trio.from_thread.check_cancelled()
                name = os.fsencode(entry.name)
                below = path + b"/" + name if path else name
                try:
                    self._entry(directory, entry.name, below, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # removed since the directory was read: as if it had never been there
                except OSError as error:
                    self._refuse(below, error.strerror or str(error))

    def _entry(self, directory: int, name: str, path: bytes, status: os.stat_result, locator: bytes = b"") -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            if status.st_mode & _READ_ALL != _READ_ALL and not os.access(
                name, os.R_OK, dir_fd=directory, effective_ids=True
            ):
                self._refuse(path, "Permission denied")
                return
            self._listing.add(_file(path, status, locator))
        elif kind == stat.S_IFDIR:
            if (status.st_dev, status.st_ino) in self._leave_out:
                self._listing.add_problem(Problem("own-directory", path, "gridfs itself writes there"))
                return
            self._listing.add(Found(path, Kind.DIRECTORY, stat.S_IMODE(status.st_mode), 0, _mtime_ns(status)))
            self._pending.append(path)
        elif kind == stat.S_IFLNK:
            target = os.fsencode(os.readlink(name, dir_fd=directory))
            self._listing.add(Found(path, Kind.SYMLINK, 0o777, len(target), _mtime_ns(status), target))
        else:
            self._listing.add_problem(Problem(_SPECIAL.get(kind, "special"), path))
            return
        if kind != stat.S_IFLNK:
            self._attributes(directory, name, path, locator or path)

    def _attributes(self, directory: int, name: str, path: bytes, place: bytes) -> None:
        # By the full path: 1.3 us, through /proc 3.6 us. That someone may swap a directory meanwhile matters only to
        # the report.
        full = f"{self._root}/{os.fsdecode(place)}"
        if len(full) > _LONGEST_PATH:
            full = f"/proc/self/fd/{directory}/{name}"
        try:
            names = os.listxattr(full, follow_symlinks=False)
        except (OSError, AttributeError):  # a file system or a system (macOS) without them
            return
        if names:
            if not _ACLS.isdisjoint(names):
                self._listing.add_problem(Problem("acl", path))
            if others := [name for name in names if name not in _ACLS and name not in _LABELS]:
                self._listing.add_problem(Problem("xattr", path, ", ".join(others)))

    def _refuse(self, path: bytes, cause: str) -> None:
        if self._skip_unreadable:
            self._listing.add_problem(Problem("unreadable", path, cause))
        else:
            self._refused_count += 1
            if not self._refused:
                self._refused.append((path, cause))


def _mtime_ns(status: os.stat_result) -> int:
    return clamped_ns(status.st_mtime_ns)  # ext4 has times up to 2446, XFS up to 2486


def _stamp(status: os.stat_result) -> bytes:
    times = status.st_mtime_ns & _64_BITS, status.st_ctime_ns & _64_BITS  # not clamped: two years are two stamps
    return _STAMP.pack(status.st_size, *times, status.st_ino)


def _file(path: bytes, status: os.stat_result, locator: bytes) -> Found:
    stamp = _stamp(status)
    # With the stamp: names of one file that were seen before and after a change of it have not one content.
    same_as = _DEVICE.pack(status.st_dev) + stamp if status.st_nlink > 1 else None
    return Found(
        path, Kind.FILE, stat.S_IMODE(status.st_mode), status.st_size, _mtime_ns(status), None, stamp, locator, same_as
    )


def _read_one(beneath: Beneath, file: Found, start: int, destination: memoryview) -> Reading:
    try:
        descriptor = beneath.file(file.locator or file.path)
    except FileNotFoundError:
        return Reading(Outcome.UNREADABLE, "it is gone")
    except OSError as error:
        return Reading(Outcome.UNREADABLE, error.strerror or str(error))
    try:
        if _stamp(os.fstat(descriptor)) != file.stamp:
            return Reading(Outcome.CHANGED)
        filled, wanted = 0, len(destination)
        while filled < wanted:
            count = os.preadv(descriptor, [destination[filled:]], start + filled)
            if count == 0:
                return Reading(Outcome.CHANGED)
            filled += count
        if _stamp(os.fstat(descriptor)) != file.stamp:
            return Reading(Outcome.CHANGED)
    except OSError as error:
        return Reading(Outcome.UNREADABLE, error.strerror or str(error))
    finally:
        os.close(descriptor)
    return Reading(Outcome.READ)


def _identity(place: Path) -> tuple[int, int] | None:
    try:
        status = place.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
