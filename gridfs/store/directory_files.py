"""The file operations of a directory store: what its worker threads do, and what the errors of a file system mean."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gridfs.errors import (
    AccessDenied,
    InvalidInput,
    ObjectChanged,
    ObjectMissing,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from gridfs.model import Buffer, ByteRange
from gridfs.raw_io import PAGE_SIZE_BYTES, read_at, write_all, write_pages
from gridfs.store.base import ObjectHead

TEMPORARY = ".tmp"
"""Directory in the root for files that are being written; no listing shows it."""

_TEMPORARY_LIFETIME_S = 7 * 86400.0
"""As long as garbage collection's grace period: no creation is that old and still writes."""

_DIRECT_FROM_BYTES = 1 << 20
"""Packs and pieces of large files. They are written once and synced at once, so their pages would only be copied, and
push others out: 17 packs took 0.9 to 2.8 s and as much of a processor through the page cache, and 0.6 to 0.75 s and
none past it (docs/decisions/part-buffers.md)."""

LINK_UNSUPPORTED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""link(2) says EPERM where the file system has no hard links (vfat), others say what it is."""


@contextmanager
def map_os_error(url: str) -> Iterator[None]:
    """Turns an OSError that leaves the block into the class that says what to do about it."""
    try:
        yield
    except (IsADirectoryError, FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(f"there is no object {error.filename}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise AccessDenied(
                f"{where}{error.strerror}", remedy=f"check who may use the directory of the store {url}"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"the store {url} is full ({error.strerror})", remedy="free space there") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise InvalidInput(f"{where}{error.strerror}") from error
        raise StoreUnavailable(f"the store {url} failed: {where}{error.strerror}") from error


def open_object(path: Path, key: str, if_match: str | None) -> int:
    """A descriptor of the object, which the caller closes. Raises ObjectMissing, ObjectChanged, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(f"there is no object {key}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectMissing(f"there is no object {key}")
        if if_match is not None and (etag := _etag(status)) != if_match:
            raise ObjectChanged(f"{key} has ETag {etag} and not {if_match}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_object(
    path: Path, key: str, byte_range: ByteRange | None, if_match: str | None, into: memoryview | None
) -> memoryview:
    """*byte_range* of the object, or all of it; in *into*, if that is given and has room for exactly so much.

    Raises what `open_object` and `read_exactly` raise.
    """
    descriptor = open_object(path, key, if_match)
    try:
        return read_exactly(descriptor, key, byte_range or ByteRange(0, os.fstat(descriptor).st_size), into)
    finally:
        os.close(descriptor)


def read_exactly(descriptor: int, key: str, byte_range: ByteRange, into: memoryview | None) -> memoryview:
    """All bytes of *byte_range*. Raises StoreRefused when the object is shorter, OSError."""
    buffer = memoryview(bytearray(byte_range.size_bytes)) if into is None else into
    filled = read_at(descriptor, buffer, byte_range.start, nowait=False) or 0
    if filled < buffer.nbytes:
        raise StoreRefused(f"{key} ends at byte {byte_range.start + filled}, before {byte_range.stop}")
    return buffer.toreadonly()


def head_object(path: Path, key: str) -> ObjectHead:
    """What is known of the object. Raises ObjectMissing, OSError."""
    descriptor = open_object(path, key, None)
    try:
        return _head_of(os.fstat(descriptor), key)
    finally:
        os.close(descriptor)


def _head_of(status: os.stat_result, key: str) -> ObjectHead:
    return ObjectHead(key, status.st_size, _etag(status), status.st_mtime_ns)


def _etag(status: os.stat_result) -> str:
    """The inode too: two objects put in one tick of the clock (4 ms) may have one size."""
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def write_object(descriptor: int, data: Buffer, offset: int) -> None:
    """Writes *data* at *offset* of an object, past the page cache what can be."""
    view = memoryview(data).cast("B")
    whole = view.nbytes // PAGE_SIZE_BYTES * PAGE_SIZE_BYTES
    if whole >= _DIRECT_FROM_BYTES and write_pages(descriptor, view[:whole], offset):
        view, offset = view[whole:], offset + whole
    write_all(descriptor, view, offset)


def scan(directory: Path, base: str) -> tuple[Sequence[ObjectHead], Sequence[str]]:
    """The objects and the sub-directories of one directory; nothing when it is gone.

    *base* is what their keys begin with: empty for the store's root, where temporary files are left out.
    """
    heads: list[ObjectHead] = []
    directories: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if base or entry.name != TEMPORARY:
                    directories.append(entry.name)
            else:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    heads.append(_head_of(entry.stat(), base + entry.name))
    return heads, directories


def directories_with_objects(directory: Path) -> Sequence[str]:
    """Names of the sub-directories that hold an object at any depth, sorted: empty ones are what a crash has left."""
    _, names = scan(directory, "any/")
    return sorted(name for name in names if name != TEMPORARY and _holds_object(directory / name))


def _holds_object(directory: Path) -> bool:
    try:
        heads, names = scan(directory, "any/")
    except PermissionError:
        return True  # who asks for what is in it is told; what others keep for themselves doesn't hide all the rest
    return bool(heads) or any(_holds_object(directory / name) for name in names)


def sweep(directory: Path) -> None:
    """Removes what crashed writers left."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # its writer has renamed it meanwhile
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - _TEMPORARY_LIFETIME_S:
                    os.unlink(entry.path)


def unlink_if_there(path: Path) -> None:
    """Removes a file; not an error when there is none."""
    with suppress(FileNotFoundError):
        path.unlink()


def sync_directory(directory: Path) -> None:
    """Makes the names in *directory* durable."""
    with suppress(FileNotFoundError):  # pruned since: then its parent has changed, and is synced
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
