"""gridfs.read.plan: the cuts are complete, disjoint and within their limits, whatever the sizes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gridfs.config import PART_SIZE_BYTES
from gridfs.model import ByteRange, ObjectRecord, WholeObject
from gridfs.read.plan import Run, blocks_of, bytes_of, lacking, objects_of, parts_of, to_whole_part
from tests.support.layout import ListLayout

runs = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: Run(min(pair), max(pair)))


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.integers(1, 999))
def test_blocks_of_a_range_are_just_those_that_hold_it(start: int, size: int, block_size: int) -> None:
    run = blocks_of(ByteRange(start, start + size), block_size)
    assert run.first * block_size <= start < (run.first + 1) * block_size
    assert (run.stop - 1) * block_size < start + size <= run.stop * block_size


def test_an_empty_range_has_no_blocks() -> None:
    assert blocks_of(ByteRange(500, 500), 100).block_count == 0


def test_the_last_block_ends_with_its_object() -> None:
    assert bytes_of(Run(1, 3), 250, 100) == ByteRange(100, 250)
    assert bytes_of(Run(0, 2), 250, 100) == ByteRange(0, 200)


def test_all_blocks_of_an_object_are_the_whole_object() -> None:
    for run, kind in ((Run(0, 3), WholeObject), (Run(0, 2), ByteRange), (Run(1, 3), ByteRange)):
        assert type(bytes_of(run, 250, 100)) is kind


@given(runs, st.sets(st.integers(0, 300)))
def test_lacking_runs_are_maximal_and_hold_what_is_lacking(run: Run, have: set[int]) -> None:
    gaps = list(lacking(run, have.__contains__))
    assert [block for gap in gaps for block in range(*gap)] == [b for b in range(*run) if b not in have]
    assert all(left.stop < right.first for left, right in pairwise(gaps))


@given(runs, st.sampled_from([64 << 10, 128 << 10, 1 << 20, 8 << 20]), st.integers(1, 9 << 20))
def test_parts_cover_a_run_and_never_cross_a_segment(run: Run, block_size: int, part_size: int) -> None:
    parts = list(parts_of(run, block_size, part_size))
    assert [block for part in parts for block in range(*part)] == list(range(*run))
    per_segment = PART_SIZE_BYTES // block_size
    for part in parts:
        assert part.block_count * block_size <= max(part_size, block_size)
        assert part.first // per_segment == (part.stop - 1) // per_segment


@given(runs, st.integers(0, 100), st.sampled_from([1 << 20, 2 << 20, 8 << 20]))
def test_the_last_part_of_a_run_is_made_whole(run: Run, beyond: int, part_size: int) -> None:
    block_size, block_count = 128 << 10, run.stop + beyond
    whole = to_whole_part(run, block_count, block_size, part_size)
    assert whole.first == run.first
    assert run.stop <= whole.stop < run.stop + part_size // block_size
    assert whole.stop == block_count or whole.stop % (part_size // block_size) == 0


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20), st.data())
def test_a_run_of_the_tape_is_divided_among_its_objects(sizes: list[int], data: st.DataObject) -> None:
    layout = ListLayout(sizes)
    first = data.draw(st.integers(0, layout.info.block_count))
    stop = data.draw(st.integers(first, layout.info.block_count))
    found: list[int] = []
    for record, run in objects_of(Run(first, stop), layout.object_at_block, 1024):
        assert 0 <= run.first < run.stop <= record.block_count(1024)
        found += range(record.first_block + run.first, record.first_block + run.stop)
    assert found == list(range(first, stop))


def test_objects_are_asked_for_once_each() -> None:
    layout, asked = ListLayout([3000, 2000, 4000]), []

    def object_at_block(block: int) -> ObjectRecord:
        asked.append(block)
        return layout.object_at_block(block)

    assert len(list(objects_of(Run(1, 9), object_at_block, 1024))) == 3
    assert asked == [1, 3, 5]
