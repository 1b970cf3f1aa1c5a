"""Reads a version's objects past all caches and judges every block: what `verify` and `download` have in common.

Only blocks that hold something of a file are read, in parts of at most 8 MiB, cut as the read path cuts them. A block
that differs from its checksum is fetched once more before it counts as wrong. A no-copy version has no checksums; the
store is asked for the generation that was listed, and refuses another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import trio

from gridfs.catalog_contents import Contents
from gridfs.errors import StoreUnavailable
from gridfs.model import ROOT_INODE, ByteRange, Entry, ObjectRecord
from gridfs.read.plan import Run, blocks_of, bytes_of, parts_of
from gridfs.read.verify import wrong_blocks

OBJECTS_AT_ONCE = PARTS_AT_ONCE = 16
"""Parts in memory at once, of one object or of many: 128 MiB."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was read."""

    start: int
    """Of its first byte, in the object."""
    data: memoryview
    wrong: tuple[tuple[int, int], ...]
    """Bytes of the object (start and stop) that are not what was stored."""

    @property
    def stop(self) -> int:
        return self.start + self.data.nbytes

    def is_right(self, start: int, stop: int) -> bool:
        """Whether no byte between these offsets in the object is wrong."""
        return not any(start < wrong_stop and wrong_start < stop for wrong_start, wrong_stop in self.wrong)


def range_of(file: Entry) -> ByteRange:
    """Where a file's bytes are in its object."""
    assert file.offset is not None
    return ByteRange(file.offset, file.offset + file.size)


def parts_with(files: Iterable[Entry], block_size_bytes: int) -> Iterator[Run]:
    """The parts that hold the bytes of *files*, which are of one object and come by offset."""
    wanted: Run | None = None
    for file in files:
        run = blocks_of(range_of(file), block_size_bytes)
        if wanted is None:
            wanted = run
        elif run.first <= wanted.stop:
            wanted = Run(wanted.first, max(wanted.stop, run.stop))
        else:
            yield from parts_of(wanted, block_size_bytes)
            wanted = run
    if wanted is not None:
        yield from parts_of(wanted, block_size_bytes)


async def read_part(contents: Contents, record: ObjectRecord, run: Run) -> Part:
    """Reads the blocks *run* of an object. Raises what the store raises; wrong blocks are in the answer."""
    block_size_bytes = contents.manifest.info.block_size_bytes
    byte_range = bytes_of(run, record.size_bytes, block_size_bytes)
    expected = contents.manifest.checksums(record.number, run.first, run.stop)
    for last in (False, True):
        data = await contents.objects.get_range(contents.key_of(record), byte_range, if_match=record.etag)
        if data.nbytes != byte_range.size_bytes:
            raise StoreUnavailable(
                f"{contents.objects.url} answers with {data.nbytes} bytes of {byte_range.size_bytes}"
            )
        if expected is None:
            return Part(byte_range.start, data, ())
        found = await trio.to_thread.run_sync(_wrong, data, expected, block_size_bytes)
        if not found or last:
            break
    starts = [byte_range.start + position * block_size_bytes for position in found]
    return Part(byte_range.start, data, tuple((start, start + block_size_bytes) for start in starts))


def path_of_entry(contents: Contents, entry: Entry) -> bytes:
    """The path of an entry below the root."""
    names = []
    current: Entry | None = entry
    while current is not None and current.inode != ROOT_INODE:
        names.append(current.name)
        current = contents.manifest.entry(current.parent)
    return b"/".join(reversed(names))


def _wrong(data: memoryview, expected: Sequence[int], block_size_bytes: int) -> list[int]:
    return list(wrong_blocks(data, expected, block_size_bytes))
