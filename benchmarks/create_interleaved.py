"""How reading slows down when a version's files are scattered over the packs of many versions.

    python benchmarks/create_interleaved.py            (a minute; simulated network, so the figures repeat exactly)

A dataset of 2,048 files of one block (128 KiB) in tree order, packed by the first version. Each later version replaces
1 % of the files, drawn by a seed, and puts its own into one pack. A reader then reads the last version in tree order
through the real read path, over a simulated network of 20 ms and 90 MB/s a connection, on a clock that jumps. Told are
its time as a ratio to the version that was packed at once, and the same after all thin packs were packed together.

This is what MAX_STREAMS in gridfs/create/reuse.py stands on; see docs/decisions/repacking.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio
import xxhash
from trio.testing import MockClock

from gridfs.cache.memory import MemoryCache
from gridfs.cache.tiered import TieredCache
from gridfs.model import ByteRange, Entry, ObjectRecord
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import Network, SimulatedStore

BLOCK_SIZE_BYTES = 128 << 10
FILES = 2048
FILES_A_PACK = 512
CHANGED = FILES // 100
NETWORK = Network(latency_s=0.020, connection_bytes_per_s=90e6)
BUDGET_BYTES = 256 << 20
VERSIONS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 64)


@dataclass(frozen=True, slots=True)
class Info:
    block_size_bytes: int
    block_count: int
    total_bytes: int


class Tape:
    """A version as the read path sees it: each file a block, each pack an object, in the order of first reference."""

    def __init__(self, pack_of_file: Sequence[int]) -> None:
        numbers: dict[int, int] = {}
        files: dict[int, list[int]] = {}
        for file, pack in enumerate(pack_of_file):
            numbers.setdefault(pack, len(numbers) + 1)
            files.setdefault(pack, []).append(file)
        self._records: list[ObjectRecord] = []
        self.place: list[tuple[ObjectRecord, int]] = [None] * len(pack_of_file)  # type: ignore[list-item]
        first_block = 0
        for pack, number in numbers.items():
            size = len(files[pack]) * BLOCK_SIZE_BYTES
            record = ObjectRecord(number, f"{number:032x}", size, first_block, f"{number:032x}")
            self._records.append(record)
            first_block += len(files[pack])
            for index, file in enumerate(files[pack]):
                self.place[file] = (record, index * BLOCK_SIZE_BYTES)
        self.info = Info(BLOCK_SIZE_BYTES, first_block, first_block * BLOCK_SIZE_BYTES)

    @property
    def objects(self) -> Sequence[ObjectRecord]:
        return self._records

    def object(self, number: int) -> ObjectRecord:
        return self._records[number - 1]

    def object_at_block(self, block: int) -> ObjectRecord:
        return next(
            record
            for record in self._records
            if record.first_block <= block < record.first_block + record.block_count(BLOCK_SIZE_BYTES)
        )

    def checksums(self, number: int, start: int, stop: int) -> Sequence[int]:
        return [_ZEROS_CHECKSUM] * (stop - start)

    def entries_of_object(self, number: int) -> Iterator[Entry]:
        return iter(())


_ZEROS_CHECKSUM = xxhash.xxh3_64_intdigest(bytes(BLOCK_SIZE_BYTES))


def packs_after(versions: int, *, together: bool) -> list[int]:
    """The pack that each file lies in; *together*: all that ever changed in one."""
    random = Random(7)
    packs = [file // FILES_A_PACK for file in range(FILES)]
    for version in range(versions):
        for file in random.sample(range(FILES), CHANGED):
            packs[file] = 1000 + (0 if together else version)
    return packs


async def reading_s(tape: Tape) -> float:
    """Seconds that a reader takes who reads every file in tree order, 1 ms of work each."""
    store = SimulatedStore(NETWORK)
    for record in tape.objects:
        store.place(record.key, bytes(record.size_bytes))
    reader = Reader(tape, store, lambda record: record.key, TieredCache(MemoryCache()), ReaderSettings(BUDGET_BYTES))
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        started_s = trio.current_time()
        for record, offset in tape.place:
            wanted = ByteRange(offset, offset + BLOCK_SIZE_BYTES)
            if reader.read_nowait(record, wanted) is None:
                await reader.read(record, wanted)
            await trio.sleep(0.001)
        elapsed_s = trio.current_time() - started_s
        nursery.cancel_scope.cancel()
    return elapsed_s


def main() -> int:
    whole_s = 0.0
    print(f"{'versions':>9} {'time':>8} {'ratio':>7} {'packed together':>16}")
    for versions in VERSIONS:
        times_s = [
            trio.run(reading_s, Tape(packs_after(versions, together=together)), clock=MockClock(autojump_threshold=0))
            for together in (False, True)
        ]
        whole_s = whole_s or times_s[0]
        print(f"{versions:9} {times_s[0]:7.2f}s {times_s[0] / whole_s:7.2f} {times_s[1] / whole_s:16.2f}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
