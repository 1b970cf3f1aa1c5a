"""Where everything lies in the image of a version (image.py): arithmetic alone.

It follows from an entry's inode, or from its place on the tape, so nothing is computed beforehand, and a mount is ready
at once whatever its size. Addresses cost nothing, and most name no block that is ever read:

    superblock     block 0
    inodes         42 in a block, in the order of the manifest
    directories    the block with the number of its first child, and those behind it: as many as children at most
    others         one block for each inode, used by empty directories and by the targets of symbolic links
    content        begins here, on a device of its own if there are two, with PROBED_BLOCKS that nothing is in
    small files    64 blocks for each inode
    large files    by their place on the tape, spread by a 64th, so that no two share a block

    Between two files there need not be a free block: one READ can be for both.

    8 TiB in all, which is EROFS's limit for a file of one address; a version that needs more has no image, nor one of
    large files (`pays`).
"""

from __future__ import annotations

from typing import NamedTuple

from gridfs import erofs
from gridfs.erofs import BLOCK_BITS, BLOCK_BYTES, INODE_BYTES
from gridfs.manifest.schema import ManifestInfo

SLOT_BLOCKS = 64
PROBED_BLOCKS = (16 << 20) >> BLOCK_BITS
"""At the beginning and the end of the image, and of its content, kept free of files: who meets a new block device, as
udev does, looks there for signatures, and shall not cause a fetch."""

LARGEST_MEAN_FILE_BYTES = 4 << 20
"""Of a version that is shown as an image. What it saves is saved for each file; bytes come a little faster without."""

SMALL_BYTES = SLOT_BLOCKS << BLOCK_BITS

INODES_PER_BLOCK = BLOCK_BYTES // INODE_BYTES


class SmallFiles(NamedTuple):
    """Where the READs of small files go: of inode *node*, to bytes begin + (n << shift) for the manifest's inode n."""

    node: int
    begin: int
    end: int
    shift: int


class Addresses:
    """Which block is whose. All addresses are in blocks of 4 KiB."""

    def __init__(self, info: ManifestInfo) -> None:
        entry_count = info.entry_count
        self.per_block = erofs.records_per_block(info.longest_name_bytes or erofs.NAME_LIMIT_BYTES)
        """Entries in a directory's block."""
        self.inodes = 1
        self.directories = self.inodes + entry_count // INODES_PER_BLOCK + 1
        self.others = self.directories + entry_count + 1
        self.content = max(self.others + entry_count + 1, PROBED_BLOCKS)
        self.small = self.content + PROBED_BLOCKS
        self.large = self.small + SLOT_BLOCKS * (entry_count + 1)
        self.behind = self.large + self._spread(info.block_count * info.block_size_bytes) + 1
        self.end = self.behind + PROBED_BLOCKS

    @property
    def metadata_bytes(self) -> int:
        """Where content begins."""
        return self.content << BLOCK_BITS

    @property
    def fits(self) -> bool:
        """Whether every address can be said."""
        return self.end << BLOCK_BITS <= erofs.FILE_LIMIT_BYTES

    def directory_blocks(self, child_count: int) -> int:
        """Blocks of a directory: with `.` and `..`, and never more than it has children, if it has any."""
        return -(-(child_count + 2) // self.per_block)

    def of_directory(self, inode: int, first_child: int | None) -> int:
        return self.others + inode if first_child is None else self.directories + first_child

    def of_link(self, inode: int) -> int:
        return self.others + inode

    def of_small(self, inode: int) -> int:
        """Of a file up to SMALL_BYTES."""
        return self.small + SLOT_BLOCKS * inode

    def of_large(self, tape_byte: int) -> int:
        """Of a file above SMALL_BYTES that begins at this byte of the tape."""
        return self.large + self._spread(tape_byte)

    def last_beginning(self, block: int) -> int:
        """The last byte of the tape at which a large file can begin that has *block*."""
        return ((block - self.large + 1) * SMALL_BYTES - 1) // (SLOT_BLOCKS + 1)

    @staticmethod
    def _spread(tape_byte: int) -> int:
        # A file gets one block more for each 64, which is room for its ends: both may lie inside a block.
        return tape_byte * (SLOT_BLOCKS + 1) // SMALL_BYTES


def nid_of(inode: int) -> int:
    """What EROFS calls an inode, and shows as st_ino: where it lies, in units of 32 bytes."""
    block, place = divmod(inode, INODES_PER_BLOCK)
    return (block * BLOCK_BYTES + place * INODE_BYTES) // erofs.NODE_UNIT_BYTES


def pays(info: ManifestInfo) -> bool:
    """Whether a version is better shown as an image."""
    mean_file_bytes = info.total_bytes // max(1, info.file_count)
    return mean_file_bytes <= LARGEST_MEAN_FILE_BYTES and Addresses(info).fits
