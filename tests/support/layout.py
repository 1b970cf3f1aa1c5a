"""A layout in memory: objects of ramp data with their checksums, prepared without the code under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from gridfs.model import Entry, ObjectRecord
from tests.support.data import ramp


@dataclass(frozen=True)
class Info:
    block_size_bytes: int
    block_count: int
    total_bytes: int
    object_count: int
    file_count: int = 1
    """As if all objects held one large file: what is dense then is tested with the prefetcher."""


class ListLayout:
    """A version whose objects have the given sizes; object *n* holds a ramp that starts at 17 n."""

    def __init__(self, sizes: Sequence[int], *, block_size_bytes: int = 1024, checksummed: bool = True) -> None:
        self._records: list[ObjectRecord] = []
        self._checksummed = checksummed
        self.data: dict[str, bytes] = {}
        block = 0
        for number, size in enumerate(sizes, 1):
            record = ObjectRecord(number, f"{number:032x}", size, block, f"{number:032x}")
            self._records.append(record)
            self.data[record.key] = ramp(size, 17 * number)
            block += record.block_count(block_size_bytes)
        self.info = Info(block_size_bytes, block, sum(sizes), len(sizes))

    @property
    def objects(self) -> list[ObjectRecord]:
        return list(self._records)

    def object(self, number: int) -> ObjectRecord:
        return self._records[number - 1]

    def object_at_block(self, block: int) -> ObjectRecord:
        size = self.info.block_size_bytes
        return next(r for r in self._records if r.first_block <= block < r.first_block + r.block_count(size))

    def checksums(self, number: int, start: int, stop: int) -> Sequence[int] | None:
        if not self._checksummed:
            return None
        data, size = self.data[self.object(number).key], self.info.block_size_bytes
        return [xxhash.xxh3_64_intdigest(data[b * size : (b + 1) * size]) for b in range(start, stop)]

    def entries_of_object(self, number: int) -> Iterator[Entry]:
        return iter(())
