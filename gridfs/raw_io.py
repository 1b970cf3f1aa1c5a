"""Reading without waiting, and reading and writing past the page cache.

What is written to the disk tier has just been read by someone, so the kernel has it in its page cache under the mount
already; a second copy of it there would push other pages out, and new pages are dear (cache/buffers.py). What a
creation puts into a directory store is synced at once and read by nobody there. So whole parts and packs are
written with O_DIRECT, which asks for memory, offset and length in whole pages: parts in mappings have that. Measured:
1.6 GB/s and no CPU, against 0.21 GB/s and 1 s of CPU for each GB through the page cache of a fresh virtual machine
(docs/decisions/part-buffers.md). File systems without O_DIRECT (tmpfs, some overlays) are written as usual.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gridfs.model import Buffer

PAGE_SIZE_BYTES = 4096
"""What O_DIRECT asks for; no disk in use has larger sectors."""

_WOULD_WAIT = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})
_NO_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.EACCES})
"""The last two: a root without /proc, or a file whose mode does not let even its owner open it once more."""


def read_at(fd: int, buffer: memoryview, offset: int, *, nowait: bool) -> int | None:
    """Bytes read, fewer only at the end of the file; None if *nowait* and a disk would have to be waited for.

    RWF_NOWAIT answers EAGAIN, or a short count, when not all pages are there; tmpfs and some overlays know it not and
    say EOPNOTSUPP: their reads go to a thread like any other.
    """
    if nowait:
        try:
            count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _WOULD_WAIT:
                return None
            raise
        return count if count == buffer.nbytes else None
    done = 0
    while done < buffer.nbytes:
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def read_into(fd: int, area: mmap.mmap, size_bytes: int, offset: int) -> int:
    """Reads whole pages for *size_bytes* into *area*, past the page cache if the file system can; bytes read."""
    whole = min(-(-size_bytes // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES, len(area))
    with memoryview(area) as view:
        # A short answer is the end of the file, or the file system's choice: the page cache has the last word.
        if offset % PAGE_SIZE_BYTES == 0 and _read_direct(fd, view[:whole], offset) >= size_bytes:
            return size_bytes
        return read_at(fd, view[:size_bytes], offset, nowait=False) or 0


def _read_direct(fd: int, pages: memoryview, offset: int) -> int:
    """Reads past the page cache, once; bytes read, 0 if the file system can't."""
    try:
        with _opened_direct(fd, os.O_RDONLY) as direct:
            return os.preadv(direct, [pages], offset)
    except OSError as error:
        if error.errno not in _NO_DIRECT:
            raise
        return 0


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Writes *data* through the page cache."""
    view = memoryview(data)
    while view.nbytes:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def write_direct(fd: int, size_bytes: int, offset: int, area: mmap.mmap) -> bool:
    """Writes the first *size_bytes* of *area* past the page cache, with zeros up to a whole page.

    *offset* is a multiple of the page size. False if the file system can't.
    """
    whole = -(-size_bytes // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES
    if whole > size_bytes:
        area[size_bytes:whole] = bytes(whole - size_bytes)
    with memoryview(area) as view:
        return write_pages(fd, view[:whole], offset)


def write_pages(fd: int, pages: memoryview, offset: int) -> bool:
    """Writes whole pages past the page cache; False if the file system, or where they lie, does not allow it."""
    if sys.platform != "linux":
        return False
    try:
        with _opened_direct(fd, os.O_WRONLY) as direct:
            write_all(direct, pages, offset)
    except OSError as error:
        if error.errno in _NO_DIRECT:
            return False
        raise
    return True


@contextmanager
def _opened_direct(fd: int, flags: int) -> Iterator[int]:
    """The file of *fd* opened once more, past the page cache."""
    direct = os.open(f"/proc/self/fd/{fd}", flags | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield direct
    finally:
        os.close(direct)
