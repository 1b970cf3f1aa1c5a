"""Reads an EROFS image as the kernel does, as far as gridfs uses the format: written from the kernel's documentation
(filesystems/erofs.rst, fs/erofs/erofs_fs.h), and from nothing of gridfs.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 4096


class Inode(NamedTuple):
    nid: int
    mode: int
    size: int
    block: int
    uid: int
    gid: int
    mtime_ns: int
    links: int
    device: int = 0


class Image:
    """An image whose bytes *read* gives: (offset, size) to bytes."""

    def __init__(self, read: Callable[[int, int], bytes], second_device_at: int = 0) -> None:
        self._read = read
        self._device_at = (0, second_device_at)
        raw = read(1024, 128)
        magic, self.compat, block_bits, self.root_nid, self.entry_count = struct.unpack_from("<I4xIBxHQ", raw)
        self.blocks, self.inodes_at = struct.unpack_from("<II", raw, 36)
        (self.incompatible,) = struct.unpack_from("<I", raw, 80)
        assert (magic, 1 << block_bits) == (0xE0F5E1E2, BLOCK)
        devices, slot = struct.unpack_from("<HH", raw, 86)
        assert (self.incompatible, devices) in ((4, 0), (12, 1))
        if devices:  # which counts for `df`, and is mapped nowhere
            self.blocks, first = struct.unpack("<64xII56x", read(128 * slot, 128))
            assert first == 0

    def inode(self, nid: int) -> Inode:
        raw = self._read(self.inodes_at * BLOCK + nid * 32, 64)
        form, xattrs, mode, _, size, block, _, uid, gid, seconds, nanoseconds, links = struct.unpack_from(
            "<HHHHQIIIIqII", raw
        )
        device = 0
        if form == 1 | 4 << 1:  # in chunks, of which there is one, of 8 TiB
            assert block == 0x20 | 31
            device, block = struct.unpack("<2xHI", self._read(self.inodes_at * BLOCK + nid * 32 + 64, 8))
        else:
            assert form == 1
        assert xattrs == 0
        return Inode(nid, mode, size, block, uid, gid, seconds * 10**9 + nanoseconds, links, device)

    def content(self, inode: Inode) -> bytes:
        """As a reader sees it; read by pages, as the kernel does, which wants zeros behind the end."""
        raw = b"".join(
            self._read(
                self._device_at[inode.device] + inode.block * BLOCK + start,
                min(1 << 16, -(-(inode.size - start) // BLOCK) * BLOCK),
            )
            for start in range(0, inode.size, 1 << 16)
        )
        assert len(raw) == -(-inode.size // BLOCK) * BLOCK
        assert not any(raw[inode.size :])
        return raw[: inode.size]

    def listing(self, directory: Inode) -> list[tuple[bytes, int, int]]:
        """(name, nid, kind) of a directory's records, in their order; a bisection finds each."""
        found: list[tuple[bytes, int, int]] = []
        raw = self.content(directory)
        for start in range(0, len(raw), BLOCK):
            block = raw[start : start + BLOCK]
            count, rest = divmod(struct.unpack_from("<8xH", block)[0], 12)
            assert count
            assert not rest
            records = [struct.unpack_from("<QHB", block, 12 * index) for index in range(count)]
            ends = [offset for _, offset, _ in records[1:]]
            for (nid, offset, kind), end in zip(records, [*ends, None], strict=True):
                name = block[offset:end] if end is not None else block[offset:].partition(b"\0")[0]
                found.append((name, nid, kind))
        return found

    def walk(self, nid: int | None = None, path: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
        """Everything below the root, depth first, with paths; the root itself is empty."""
        inode = self.inode(self.root_nid if nid is None else nid)
        yield path, inode
        if not stat.S_ISDIR(inode.mode):
            return
        for name, child, _ in self.listing(inode):
            if name not in (b".", b".."):
                yield from self.walk(child, path + b"/" + name if path else name)
