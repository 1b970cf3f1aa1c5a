"""A version as an EROFS image that exists nowhere: each block is made from the manifest when the kernel asks for it.

The daemon shows the image as one file in its hidden FUSE mount, and the kernel mounts that file. From then on names,
attributes, permissions and open() are the kernel's own, as on a local disk, and the daemon hears of nothing but READs:
of a block with 42 inodes, of a block of a directory, of bytes of a file. The pages of what was read are EROFS's, which
are as cheap as ext4's (docs/decisions/image.md has the measurements). Where everything lies: image_addresses.py.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from gridfs import erofs
from gridfs.erofs import BLOCK_BITS, BLOCK_BYTES, INODE_BYTES
from gridfs.errors import IntegrityError
from gridfs.image_addresses import INODES_PER_BLOCK, SMALL_BYTES, Addresses, SmallFiles, nid_of
from gridfs.manifest.schema import ManifestInfo
from gridfs.model import ROOT_INODE, Buffer, Entry, Kind, ObjectRecord
from gridfs.vfs import FileSystem

INODE = 1 << 62
"""The image's own inode in the FUSE mount; the manifest counts from 1."""

FILE_MODE = stat.S_IFREG | 0o400
"""Of the image's own file."""

_KINDS = {Kind.FILE: erofs.FILE, Kind.DIRECTORY: erofs.DIRECTORY, Kind.SYMLINK: erofs.SYMLINK}

READ_AHEAD_BLOCKS = 32
"""Of inodes, ahead of who asks for one block after the other (`find`): 1,344 of them, 2.5 ms of work."""

_BLOCKS_BEFORE_READ_AHEAD = 3
_SCANS_KEPT = 16
_DIRECTORIES_KEPT = 4096
_OBJECTS_KEPT = 256


class Node(NamedTuple):
    """What an inode is made from: columns of the manifest's entry."""

    inode: int
    kind: int
    mode: int
    size: int
    mtime_ns: int
    object: int | None
    offset: int | None
    first_child: int | None
    child_count: int | None


class Nodes(Protocol):
    """What is asked of a manifest (manifest.reader.Manifest), besides what the file system asks. All of it answers at
    once, and raises FormatError where the manifest is damaged.
    """

    info: ManifestInfo

    def nodes(self, first: int, stop: int) -> Iterable[tuple[object, ...]]:
        """The fields of a Node of each of the inodes *first* to *stop* (exclusive), in their order."""
        ...

    def names(self, first: int, stop: int) -> Iterable[tuple[int, bytes, int]]:
        """(inode, name, kind) of each of the inodes *first* to *stop* (exclusive), in their order."""
        ...

    def rank(self, directory: Entry, name: bytes) -> int:
        """How many children of *directory* have names before *name* in byte order."""
        ...

    def entry(self, inode: int) -> Entry | None:
        """The entry of that inode."""
        ...

    def object(self, number: int) -> ObjectRecord:
        """The object of that number."""
        ...

    def object_at_block(self, block: int) -> ObjectRecord:
        """The object that this block of the tape is part of."""
        ...

    def entries_of_object(self, number: int) -> Iterator[Entry]:
        """The files that lie in an object, by offset."""
        ...


class _Directory(NamedTuple):
    """What its blocks are made from."""

    inode: int
    parent: int
    first_child: int
    child_count: int
    dot: int
    """How many names come before `.` in byte order."""
    dot_dot: int


class Image:
    """The bytes of the image. Used from one thread."""

    def __init__(self, manifest: Nodes, files: FileSystem, name: str) -> None:
        self.name = name.encode("utf-8", "surrogateescape")
        """Of its file in the root of the FUSE mount: where the kernel says what is mounted, it shows this."""
        self.addresses = Addresses(manifest.info)
        self.size_bytes = self.addresses.end << BLOCK_BITS
        self.offered = False
        """Whether a LOOKUP finds it: while it is being mounted."""
        self.has_two_devices = False
        """Whether the kernel is to have metadata and content on a device each."""
        self.on_scan: Callable[[int, int], object] | None = None
        """Told (offset, size) of metadata that will be asked for soon, in bytes: where who asks might be given it."""
        self._scans: LRUCache[int, int] = LRUCache(_SCANS_KEPT)
        """Blocks of inodes read one after the other, by the block that would be next."""
        self._manifest = manifest
        self._files = files
        self._block_size_bytes = manifest.info.block_size_bytes
        self._directories: LRUCache[int, _Directory] = LRUCache(_DIRECTORIES_KEPT)
        self._large: LRUCache[int, tuple[list[int], list[int]]] = LRUCache(_OBJECTS_KEPT)

    @property
    def small_files(self) -> SmallFiles:
        """Where they lie, for whoever answers READs of them too."""
        begin, end = (block << BLOCK_BITS for block in (self.addresses.small, self.addresses.large))
        return SmallFiles(INODE, begin, end, SMALL_BYTES.bit_length() - 1)

    async def read(self, offset: int, size_bytes: int) -> Buffer:
        """Bytes of the image, fewer where a file ends in the last block. Behind that the kernel must be given zeros:
        EROFS asks for whole pages, and takes a short answer for EIO.
        """
        block = offset >> BLOCK_BITS
        if block < self.addresses.small:
            return self._metadata(offset, size_bytes)
        if block >= self.addresses.behind:
            return bytes(size_bytes)
        data = await self._content(offset, size_bytes)
        if size_bytes - len(data) < BLOCK_BYTES:
            return data
        return await self._across(data, offset, size_bytes)

    def _content(self, offset: int, size_bytes: int) -> Awaitable[Buffer]:
        """Bytes of the one file to which *offset* belongs, as far as it goes."""
        block, addresses = offset >> BLOCK_BITS, self.addresses
        if block >= addresses.large:
            inode, first = self._large_file(block)
            return self._files.read(inode, offset - (first << BLOCK_BITS), size_bytes)
        inode, inside = divmod(offset - (addresses.small << BLOCK_BITS), SMALL_BYTES)
        return self._files.read(inode, inside, size_bytes, whole=True)

    async def _across(self, data: Buffer, offset: int, size_bytes: int) -> Buffer:
        """*data*, with which the file at *offset* ends, and what the files behind it have there: of requests for files
        whose blocks are neighbours the block layer makes one.
        """
        found, stop = bytearray(data), offset + size_bytes  # a copy: *data* may be a buffer that is used again
        while True:
            end = offset + len(data)
            begin = max(end, offset + 1)  # on, also from a block in which no file has bytes
            offset = min(-(-begin // BLOCK_BYTES) * BLOCK_BYTES, stop)
            found += bytes(offset - end)
            if offset == stop:
                return found
            data = await self._content(offset, stop - offset)
            found += data

    def _metadata(self, offset: int, size_bytes: int) -> bytes:
        block = offset >> BLOCK_BITS
        stop = (offset + size_bytes - 1 >> BLOCK_BITS) + 1
        if self.addresses.inodes <= block and stop <= self.addresses.directories:
            self._watch(block, stop)
        blocks = b"".join([self._block(number) for number in range(block, stop)])
        begin = offset - (block << BLOCK_BITS)
        return blocks[begin : begin + size_bytes]

    def _watch(self, block: int, stop: int) -> None:
        """Finds out who reads all inodes: the kernel asks for one block at a time, each a switch to here and back."""
        length = self._scans.pop(block, 0) + stop - block
        self._scans[stop] = length
        count = min(READ_AHEAD_BLOCKS, self.addresses.directories - stop)
        if length >= _BLOCKS_BEFORE_READ_AHEAD and count > 0 and self.on_scan is not None:
            self.on_scan(stop << BLOCK_BITS, count << BLOCK_BITS)

    def _block(self, number: int) -> bytes:
        """One block of metadata; zeros where nothing lies."""
        addresses = self.addresses
        if number >= addresses.content:
            return bytes(BLOCK_BYTES)
        if number >= addresses.others:
            return self._other(number - addresses.others)
        if number >= addresses.directories:
            return self._directory_block(number - addresses.directories)
        if number >= addresses.inodes:
            return self._inodes((number - addresses.inodes) * INODES_PER_BLOCK)
        volume = self._files.volume
        return erofs.superblock(
            root_nid=nid_of(ROOT_INODE),
            entry_count=volume.entry_count,
            content_blocks=volume.block_count,
            inodes_at=addresses.inodes,
            has_two_devices=self.has_two_devices,
        )

    def _inodes(self, first: int) -> bytes:
        view, addresses = self._files.view, self.addresses
        owner = view.uid, view.gid
        device, device_begin = (1, addresses.content) if self.has_two_devices else (0, 0)
        made = []
        for row in self._manifest.nodes(first, first + INODES_PER_BLOCK):
            node = Node._make(row)
            inode, mode = node.inode, view.mode_of(node)
            if node.kind == Kind.DIRECTORY:
                children = node.child_count or 0
                block = addresses.of_directory(inode, node.first_child if children else None)
                size = addresses.directory_blocks(children) << BLOCK_BITS
                made.append(erofs.inode(mode, size, block, inode, *owner, node.mtime_ns))
            elif node.kind == Kind.SYMLINK:
                made.append(erofs.inode(mode, node.size, addresses.of_link(inode), inode, *owner, node.mtime_ns))
            else:
                is_small = node.size <= SMALL_BYTES
                tape_byte = 0 if is_small else self._tape_byte(node.object, node.offset)
                block = addresses.of_small(inode) if is_small else addresses.of_large(tape_byte)
                made.append(
                    erofs.file_inode(mode, node.size, device, block - device_begin, inode, *owner, node.mtime_ns)
                )
        if not first:
            made.insert(0, bytes(INODE_BYTES))  # inodes count from 1
        return b"".join(made).ljust(BLOCK_BYTES, b"\0")

    def _tape_byte(self, number: int | None, offset: int | None) -> int:
        if number is None or offset is None:
            raise IntegrityError("the manifest has a file with bytes and no object that holds them")
        return self._manifest.object(number).first_block * self._block_size_bytes + offset

    def _other(self, inode: int) -> bytes:
        """The target of a link, or an empty directory."""
        entry = self._manifest.entry(inode)
        if entry is None or entry.kind == Kind.FILE:
            return bytes(BLOCK_BYTES)
        if entry.target is not None:
            return entry.target.ljust(BLOCK_BYTES, b"\0")
        return erofs.directory_block(
            [
                (b".", nid_of(inode), erofs.DIRECTORY),
                (b"..", nid_of(entry.parent), erofs.DIRECTORY),
            ]
        )

    def _directory_block(self, child: int) -> bytes:
        """The block at the address that belongs to the child of this inode; of the directory that it is in."""
        directory = self._directory_of(child)
        if directory is None:
            return bytes(BLOCK_BYTES)
        per_block = self.addresses.per_block
        first = (child - directory.first_child) * per_block
        stop = min(first + per_block, directory.child_count + 2)
        if first >= stop:
            return bytes(BLOCK_BYTES)
        dots = {
            directory.dot: (b".", nid_of(directory.inode), erofs.DIRECTORY),
            directory.dot_dot: (b"..", nid_of(directory.parent), erofs.DIRECTORY),
        }
        before = (first > directory.dot) + (first > directory.dot_dot)
        within = sum(first <= place < stop for place in dots)
        begin = directory.first_child + first - before
        rows = self._manifest.names(begin, begin + stop - first - within)
        entries = [(name, nid_of(inode), _KINDS[kind]) for inode, name, kind in rows]  # type: ignore[index]
        for place in sorted(dots):
            if first <= place < stop:
                entries.insert(place - first, dots[place])
        return erofs.directory_block(entries)

    def _directory_of(self, child: int) -> _Directory | None:
        found = self._directories.get(child)
        if found is not None:
            return found
        entry = self._manifest.entry(child)
        parent = self._manifest.entry(entry.parent) if entry is not None and entry.inode != ROOT_INODE else None
        if parent is None or parent.first_child is None or parent.child_count is None:
            return None
        found = self._directories.get(parent.first_child)
        if found is None:
            found = _Directory(
                inode=parent.inode,
                parent=parent.parent,
                first_child=parent.first_child,
                child_count=parent.child_count,
                dot=self._manifest.rank(parent, b"."),
                dot_dot=self._manifest.rank(parent, b"..") + 1,
            )
            self._directories[parent.first_child] = found
        return found

    def _large_file(self, block: int) -> tuple[int, int]:
        """The inode of the large file that has *block*, and its first block."""
        tape_block = self.addresses.last_beginning(block) // self._block_size_bytes
        tape_block = min(tape_block, self._manifest.info.block_count - 1)
        while tape_block >= 0:
            obj = self._manifest.object_at_block(tape_block)
            firsts, inodes = self._large_files(obj)
            index = bisect_right(firsts, block) - 1
            if index >= 0:
                return inodes[index], firsts[index]
            tape_block = obj.first_block - 1
        raise IntegrityError(f"block {block} of the image is in no file")

    def _large_files(self, obj: ObjectRecord) -> tuple[list[int], list[int]]:
        """First blocks of the large files of an object, ascending, and their inodes."""
        found = self._large.get(obj.number)
        if found is None:
            begin = obj.first_block * self._block_size_bytes
            large = [entry for entry in self._manifest.entries_of_object(obj.number) if entry.size > SMALL_BYTES]
            firsts = [self.addresses.of_large(begin + (entry.offset or 0)) for entry in large]
            found = self._large[obj.number] = firsts, [entry.inode for entry in large]
        return found
