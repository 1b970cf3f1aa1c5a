"""Which files share a pack, and where each lies in it. Pure: sizes go in, offsets come out.

The rules, in tree order:

1. A file of half a pack or more is an object of its own, so no pack is closed less than half full for want of room.
2. A smaller one joins the pack that is open, unless the pack would exceed PACK_SIZE_BYTES or hold more files than
   `MAX_FILES`; then the next pack begins with it.
3. In the pack it begins where the one before ended, or at the next block boundary when both hold:
   it then touches fewer blocks, and the gap costs at most `ALIGN_FRACTION` of its size.

Rule 3 is about cold random reads. Blocks are fetched and verified whole (128 KiB), so a file of 110 KiB that begins
anywhere touches 1.86 blocks on average and costs 2.1 times its bytes; at a boundary it costs 1.16 times, and the gap
costs sequential readers and the store 16 %. For log-normal sizes round 110 KiB (sigma 0.5) a limit of 1/5 lowers the
fetched bytes from 2.16 to 1.98 times for gaps of 1.9 % of the store; a limit of 1/2 would reach 1.78 times for 8.5 %.
One fifth is where equal files of 107 to 128 KiB (the worst case for straddling) are all aligned, and it bounds what
anyone can pay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from gridfs.config import PACK_SIZE_BYTES

ALIGN_FRACTION = 5
"""A gap before a file is worth at most this part (one fifth) of the file."""

MAX_FILES = 16_384
"""Files of one pack: bounds the records in memory at about 8 MiB for each pack in work, whatever the files' sizes."""


def blocks_touched(offset: int, size: int, block_size: int) -> int:
    """How many blocks the bytes from *offset* on lie in."""
    return 0 if size == 0 else (offset + size - 1) // block_size - offset // block_size + 1


def place(end: int, size: int, block_size: int) -> int:
    """Offset of a file of *size* bytes in a pack whose last file ended at *end* (rule 3)."""
    gap = -end % block_size
    if gap * ALIGN_FRACTION > size:
        return end
    fewer = blocks_touched(end + gap, size, block_size) < blocks_touched(end, size, block_size)
    return end + gap if fewer else end


def layout(sizes: Sequence[int], block_size: int) -> tuple[list[int], int]:
    """Offsets of files of these *sizes* in one pack, and the size of the pack."""
    offsets, end = [], 0
    for size in sizes:
        offset = place(end, size, block_size)
        offsets.append(offset)
        end = offset + size
    return offsets, end


def is_large(size: int, pack_size: int = PACK_SIZE_BYTES) -> bool:
    """Whether a file of *size* bytes is an object of its own (rule 1)."""
    return size * 2 >= pack_size


T = TypeVar("T")


def group(
    files: Iterable[tuple[T, int]], block_size: int, pack_size: int = PACK_SIZE_BYTES
) -> Iterator[tuple[list[T], bool]]:
    """Files and their sizes, in tree order, as the objects they become: (files, whether it is one large file).

    Holds one pack's files at a time. A large file is given out at once, before the small ones ahead of it that still
    wait for their pack: the order on the tape is the order of the objects in the manifest and not of this.
    """
    members: list[T] = []
    end = 0
    for file, size in files:
        if is_large(size, pack_size):
            yield [file], True
            continue
        offset = place(end, size, block_size)
        if members and (offset + size > pack_size or len(members) == MAX_FILES):
            yield members, False
            members, offset = [], 0
        members.append(file)
        end = offset + size
    if members:
        yield members, False
