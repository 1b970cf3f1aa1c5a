"""The EROFS on-disk format, as far as an image without compression, holes and attributes needs it. Pure: bytes out.

    superblock   128 bytes at byte 1024: block size, where inodes begin, the root
    inode        64 bytes ("extended"): attributes, and of a directory or a link the block at which its content begins
                 ("flat plain"); of a file "chunks" of 8 TiB, whose one address follows and names a device too
    directory    blocks that begin with their records, 12 bytes each, behind which the names lie; all names of a
                 directory in byte order, so that the kernel finds one by bisection

Integers are little-endian. From the kernel's documentation (filesystems/erofs.rst) and its fs/erofs/erofs_fs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

BLOCK_BITS = 12
BLOCK_BYTES = 1 << BLOCK_BITS
INODE_BYTES = 96
"""With the address of a file's content and 24 bytes of nothing: inodes begin at multiples of 32."""
NODE_UNIT_BYTES = 32
"""Inodes are numbered in these ("nid")."""

ADDRESS_LIMIT = (1 << 32) - 1
"""A block address has 32 bits, and the highest stands for a hole."""

NAME_LIMIT_BYTES = 255
FILE, DIRECTORY, SYMLINK = 1, 2, 7
"""Kinds in a directory's records (linux/fs_types.h)."""

_SUPER_OFFSET = 1024
_SLOT_OFFSET = _SUPER_OFFSET + 128
_MAGIC = 0xE0F5E1E2
_HAS_MTIMES = 2  # EROFS_FEATURE_COMPAT_MTIME
_HAS_CHUNKS, _HAS_DEVICES = 4, 8  # EROFS_FEATURE_INCOMPAT_CHUNKED_FILE, _DEVICE_TABLE
_EXTENDED_FLAT_PLAIN, _EXTENDED_CHUNKS = 1 | 0 << 1, 1 | 4 << 1
_ONE_CHUNK = 0x20 | 31
"""EROFS_CHUNK_FORMAT_INDEXES, and the largest chunk: 4 KiB << 31."""
FILE_LIMIT_BYTES = BLOCK_BYTES << 31

_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_SLOT = struct.Struct("<64xII56x")
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_FILE = struct.Struct("<HHHHQIIIIqII16x2xHI24x")
_RECORD = struct.Struct("<QHBx")
RECORD_BYTES = _RECORD.size

_NS = 1_000_000_000


def superblock(
    *,
    root_nid: int,
    entry_count: int,
    content_blocks: int,
    inodes_at: int,
    has_two_devices: bool = False,
) -> bytes:
    """The first block. *inodes_at*: the block in which inode number 0 begins; *content_blocks*: what `df` shows."""
    blocks = min(content_blocks, ADDRESS_LIMIT)
    fields = _SUPER.pack(
        _MAGIC, 0, _HAS_MTIMES, BLOCK_BITS, 0, root_nid, entry_count, 0, 0, 0 if has_two_devices else blocks,
        inodes_at, 0, bytes(16), b"", _HAS_CHUNKS | (_HAS_DEVICES if has_two_devices else 0), 0,
        1 if has_two_devices else 0, _SLOT_OFFSET // _SLOT.size if has_two_devices else 0, 0, 0, 0, 0,
    )  # fmt: skip
    slot = _SLOT.pack(blocks, 0) if has_two_devices else b""
    return (bytes(_SUPER_OFFSET) + fields + slot).ljust(BLOCK_BYTES, b"\0")


def inode(mode: int, size: int, block: int, number: int, uid: int, gid: int, mtime_ns: int) -> bytes:
    """One inode with a link count of 1, of a directory or a link whose content begins at *block*.

    *mode* has the type bits; *number* is what a 32-bit stat shows.
    """
    seconds, nanoseconds = divmod(mtime_ns, _NS)
    return _INODE.pack(
        _EXTENDED_FLAT_PLAIN, 0, mode, 0, size, block, number & 0xFFFFFFFF, uid, gid, seconds, nanoseconds, 1
    ).ljust(INODE_BYTES, b"\0")


def file_inode(mode: int, size: int, device: int, block: int, number: int, uid: int, gid: int, mtime_ns: int) -> bytes:
    """As inode, of a file of at most FILE_LIMIT_BYTES. *block* is one of *device*: 0, the first, or 1, the second."""
    seconds, nanoseconds = divmod(mtime_ns, _NS)
    return _FILE.pack(
        _EXTENDED_CHUNKS, 0, mode, 0, size, _ONE_CHUNK, number & 0xFFFFFFFF, uid, gid, seconds, nanoseconds, 1,
        device, block,
    )  # fmt: skip


def records_per_block(longest_name_bytes: int) -> int:
    """How many entries always fit a directory's block when no name is longer."""
    return BLOCK_BYTES // (RECORD_BYTES + max(longest_name_bytes, 2))


def directory_block(entries: Sequence[tuple[bytes, int, int]]) -> bytes:
    """A block of a directory: (name, nid, kind) of each entry, at least one, in byte order of the names."""
    offset = RECORD_BYTES * len(entries)
    records = []
    for name, nid, kind in entries:
        records.append(_RECORD.pack(nid, offset, kind))
        offset += len(name)
    block = b"".join(records) + b"".join([name for name, _, _ in entries])
    if len(block) > BLOCK_BYTES:
        raise ValueError(f"{len(entries)} entries need {len(block)} bytes of a block of {BLOCK_BYTES}")
    return block.ljust(BLOCK_BYTES, b"\0")
