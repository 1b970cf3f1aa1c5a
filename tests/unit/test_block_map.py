"""gridfs.read.block_map: what is said of blocks that are in memory, on their way, on disk, or nowhere."""

from __future__ import annotations

from gridfs.cache.base import Span
from gridfs.cache.memory import MemoryCache, Part
from gridfs.cache.tiered import TieredCache
from gridfs.model import ObjectRecord
from gridfs.read.block_map import GAP_BLOCKS, BlockMap
from gridfs.read.flight import Flight
from gridfs.read.plan import Run
from gridfs.read.prefetch import Priority
from tests.support.layout import ListLayout

BLOCK = 4096
BLOCKS = 32


class OnDisk(TieredCache):
    """A cache that says that some blocks are on disk."""

    def __init__(self, blocks: set[int]) -> None:
        super().__init__(MemoryCache())
        self._blocks_on_disk = blocks

    def present(self, span: Span) -> int:
        absent = (block for block in range(span.first, span.stop) if block not in self._blocks_on_disk)
        return next(absent, span.stop) - span.first


class Subject:
    """One object of 32 blocks; each argument names the blocks that are there."""

    def __init__(
        self, *, in_memory: Run | None = None, on_its_way: Run | None = None, on_disk: set[int] | None = None
    ) -> None:
        self.obj: ObjectRecord = ListLayout([BLOCKS * BLOCK], block_size_bytes=BLOCK).objects[0]
        cache = OnDisk(on_disk or set())
        self.map = BlockMap(BLOCK, cache)
        if in_memory is not None:
            start, stop = in_memory.first * BLOCK, in_memory.stop * BLOCK
            self.part = Part(self.obj.identity, BLOCK, start, stop, memoryview(bytearray(stop - start)))
            cache.memory.pin(self.part)
            cache.memory.publish(self.part, stop)
        if on_its_way is not None:
            self.flight = Flight(
                self.obj, on_its_way, self.map.span(self.obj, on_its_way), Priority.FOREGROUND, on_its_way
            )
            self.map.add_flight(self.flight)


def test_a_run_is_cut_by_who_has_its_blocks() -> None:
    subject = Subject(in_memory=Run(2, 4), on_its_way=Run(4, 7))
    assert list(subject.map.survey(subject.obj, Run(0, 9))) == [
        (Run(0, 2), None),
        (Run(2, 4), subject.part),
        (Run(4, 7), subject.flight),
        (Run(7, 9), None),
    ]
    assert list(subject.map.lacking(subject.obj, Run(0, 9))) == [Run(0, 2), Run(7, 9)]


def test_blocks_of_a_flight_that_is_over_are_lacking() -> None:
    subject = Subject(on_its_way=Run(0, 4))
    assert subject.map.known(subject.obj, 0)
    subject.map.remove_flight(subject.flight)
    assert not subject.map.known(subject.obj, 0)
    assert not subject.map.flights


def test_what_lacks_in_memory_is_cut_by_what_is_on_disk() -> None:
    subject = Subject(in_memory=Run(0, 2), on_its_way=Run(2, 4), on_disk={0, 6, 7})
    assert list(subject.map.not_in_memory(subject.obj, Run(0, 10))) == [Run(4, 6), Run(6, 8), Run(8, 10)]
    assert list(subject.map.only_on_disk(subject.obj, Run(0, 10))) == [Run(6, 8)]


def test_small_gaps_in_what_is_absent_are_closed_and_others_are_not() -> None:
    first, beyond = Run(2, 2 + GAP_BLOCKS), range(20, 20 + GAP_BLOCKS + 1)
    subject = Subject(in_memory=first, on_disk=set(beyond))
    assert list(subject.map.absent(subject.obj, Run(0, BLOCKS))) == [Run(0, 20), Run(beyond.stop, BLOCKS)]


def test_a_background_flight_takes_what_lacks_up_to_what_is_on_its_way() -> None:
    subject = Subject(in_memory=Run(0, 2), on_its_way=Run(6, 8))
    assert subject.map.takeable(subject.obj, Run(0, 10)) == Run(2, 6)
    assert subject.map.takeable(subject.obj, Run(6, 10)) == Run(8, 10)
    assert subject.map.takeable(subject.obj, Run(0, 2)) is None
