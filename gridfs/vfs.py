"""The file system without a kernel: names, attributes, listings and bytes of one version.

Everything is answered from the manifest, in microseconds and without waiting, except `read`, which asks the reader.
So metadata never waits for data (invariant 9). Inodes are the manifest's, a file handle is the inode, and nothing is
remembered of open files or of what the kernel has looked up: there is nothing to forget.

Nothing here knows pyfuse3; fuse.py translates types and errors.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from gridfs.config import MountOptions
from gridfs.errors import IntegrityError, InvalidInput, NotFound
from gridfs.model import ROOT_INODE, Buffer, ByteRange, Entry, Kind, ObjectRecord

PREFERRED_IO_BYTES = 4096
"""st_blksize, ext4's. Python's open() takes it for its buffer: 128 KiB would cost an mmap and munmap for each file."""

STATFS_BLOCK_BYTES = 4096
NAME_MAX_BYTES = 255

EXTENTS_KEPT = 4096
"""Files whose place is remembered: a sequential read of one file asks for it once in 128 KiB (12 us of SQLite)."""

DOT, DOT_DOT = 1, 2
"""Cookies of `.` and `..`. A child's is its inode + 1: inodes of children begin at 2, and so no two are the same."""


class VersionMetadata(Protocol):
    """What the file system asks of a manifest (manifest.reader.Manifest). All of it answers at once, and raises
    FormatError where the manifest is damaged.
    """

    def entry(self, inode: int) -> Entry | None:
        """The entry of that inode; None when there is none."""
        ...

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The entry *name* in the directory whose inode is *parent*; None when there is none."""
        ...

    def children(self, directory: Entry, after: int = 0) -> Iterator[Entry]:
        """The children of *directory* whose inode is greater than *after*, in byte order of their names."""
        ...

    def object(self, number: int) -> ObjectRecord:
        """The object of that number."""
        ...


class Bytes(Protocol):
    """What the file system asks of a reader (read.reader.Reader): verified bytes of objects, or an error."""

    def read_nowait(self, obj: ObjectRecord, byte_range: ByteRange, /) -> Buffer | None:
        """The bytes, if they are in memory."""
        ...

    def read(self, obj: ObjectRecord, byte_range: ByteRange, reach: ByteRange | None = None, /) -> Awaitable[Buffer]:
        """The bytes, wherever they are. *reach* holds *byte_range*: what else of it is lacking is fetched with it."""
        ...


@dataclass(frozen=True, slots=True)
class Volume:
    """What `df` shows; fixed for a version."""

    block_count: int
    entry_count: int
    block_size_bytes: int = STATFS_BLOCK_BYTES
    name_max_bytes: int = NAME_MAX_BYTES

    @classmethod
    def of(cls, *, total_bytes: int, entry_count: int) -> Volume:
        return cls(-(-total_bytes // STATFS_BLOCK_BYTES), entry_count)


class Moded(Protocol):
    """An entry, as far as its mode goes."""

    @property
    def kind(self) -> int: ...
    @property
    def mode(self) -> int: ...


@dataclass(frozen=True, slots=True)
class View:
    """How entries look: owner and permission bits, decided by the mount's options and the source's execute bit."""

    uid: int
    gid: int
    directory_mode: int
    """With the type bits, as st_mode."""
    file_mode: int
    executable_mode: int
    symlink_mode: int = stat.S_IFLNK | 0o777

    @classmethod
    def of(cls, options: MountOptions, *, uid: int, gid: int) -> View:
        """The look that *options* ask for; *uid* and *gid* own everything unless the options name others.

        A file that its owner could execute at the source can be executed by all who can read it.
        """
        keep = ~(options.umask or 0)
        executable = options.file_mode | (options.file_mode & 0o444) >> 2
        return cls(
            uid=uid if options.uid is None else options.uid,
            gid=gid if options.gid is None else options.gid,
            directory_mode=stat.S_IFDIR | options.dir_mode & keep,
            file_mode=stat.S_IFREG | options.file_mode & keep,
            executable_mode=stat.S_IFREG | executable & keep,
        )

    def mode_of(self, entry: Moded) -> int:
        """st_mode of *entry*."""
        if entry.kind == Kind.FILE:
            return self.executable_mode if entry.mode & stat.S_IXUSR else self.file_mode
        return self.directory_mode if entry.kind == Kind.DIRECTORY else self.symlink_mode


class Listed(NamedTuple):
    """One line of a listing."""

    name: bytes
    entry: Entry
    cookie: int
    """Where a listing goes on after this line."""


class _Extent(NamedTuple):
    """Where a file's bytes lie."""

    obj: ObjectRecord | None
    """None: the file is empty."""
    offset: int
    size: int


class FileSystem:
    """One version as a tree. Used from one thread."""

    def __init__(self, manifest: VersionMetadata, reader: Bytes, view: View, volume: Volume) -> None:
        self.view = view
        self.volume = volume
        self._manifest = manifest
        self._reader = reader
        self._extents: LRUCache[int, _Extent] = LRUCache(EXTENTS_KEPT)

    def entry(self, inode: int) -> Entry:
        """Raises NotFound for an inode that the version has not."""
        entry = self._manifest.entry(inode)
        if entry is None:
            raise NotFound(f"inode {inode} is not in the manifest")
        return entry

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The child of that name; None when there is none."""
        return self._manifest.lookup(parent, name)

    def listing(self, inode: int, after: int = 0) -> Iterator[Listed]:
        """`.`, `..` and the children of a directory that come after the cookie *after* (0: all of them)."""
        directory = self.entry(inode)
        if directory.kind != Kind.DIRECTORY:
            raise InvalidInput(f"inode {inode} is no directory")
        if after < DOT:
            yield Listed(b".", directory, DOT)
        if after < DOT_DOT:
            yield Listed(b"..", self.entry(directory.parent), DOT_DOT)
        for child in self._manifest.children(directory, max(after - 1, ROOT_INODE)):
            yield Listed(child.name, child, child.inode + 1)

    def readlink(self, inode: int) -> bytes:
        """Target of a symbolic link, as given."""
        target = self.entry(inode).target
        if target is None:
            raise InvalidInput(f"inode {inode} is no symbolic link")
        return target

    async def read(self, inode: int, offset: int, size_bytes: int, *, whole: bool = False) -> Buffer:
        """Up to *size_bytes* of a file from *offset*; fewer only at its end. Raises whatever the reader raises.

        *whole*: who reads its beginning will read all of it, so the rest is fetched with it.
        """
        obj, start, file_size = self._extents.get(inode) or self._find_extent(inode)
        stop = min(offset + size_bytes, file_size)
        if obj is None or offset >= stop:
            return b""
        wanted = ByteRange(start + offset, start + stop)
        data = self._reader.read_nowait(obj, wanted)
        if data is None:
            reach = ByteRange(start, start + file_size) if whole and not offset else None
            data = await self._reader.read(obj, wanted, reach)
        if len(data) != wanted.size_bytes:
            # The kernel takes a short answer for the end of the file and fills the page with zeros (invariant 3).
            raise IntegrityError(
                f"the reader gave {len(data)} bytes of object {obj.key} where {wanted.size_bytes} were asked for"
            )
        return data

    def _find_extent(self, inode: int) -> _Extent:
        entry = self.entry(inode)
        if entry.kind != Kind.FILE:
            raise InvalidInput(f"inode {inode} is no file")
        if entry.object is None or entry.offset is None:
            if entry.size:
                raise IntegrityError(f"inode {inode} has {entry.size} bytes and no object that holds them")
            extent = _Extent(None, 0, 0)
        else:
            extent = _Extent(self._manifest.object(entry.object), entry.offset, entry.size)
        self._extents[inode] = extent
        return extent

    def attributes_of_origin(self, inode: int) -> dict[bytes, bytes]:
        """What `--xattr` shows of an entry, below `user.gridfs.`: where its bytes lie, and their hash."""
        entry = self.entry(inode)
        shown = {b"inode": str(entry.inode).encode()}
        if entry.object is not None:
            shown[b"object"] = self._manifest.object(entry.object).key.encode("utf-8", "surrogateescape")
            shown[b"offset"] = str(entry.offset).encode()
        if entry.sha256 is not None:
            shown[b"sha256"] = entry.sha256.hex().encode()
        return {b"user.gridfs." + name: value for name, value in shown.items()}
