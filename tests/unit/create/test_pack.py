"""Packs: which files share one, and where they lie (create/pack.py)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridfs.create.pack import ALIGN_FRACTION, MAX_FILES, blocks_touched, group, is_large, layout, place

BLOCK = 128
PACK = 64 * BLOCK

sizes = st.lists(st.integers(1, PACK), max_size=60)


def grouped(listed: list[int]) -> list[tuple[list[int], bool]]:
    return list(group(enumerate(listed), BLOCK, PACK))


def test_blocks_touched() -> None:
    assert blocks_touched(0, 0, BLOCK) == 0
    assert blocks_touched(0, BLOCK, BLOCK) == 1
    assert blocks_touched(1, BLOCK, BLOCK) == 2
    assert blocks_touched(BLOCK - 1, 2, BLOCK) == 2
    assert blocks_touched(BLOCK, 1, BLOCK) == 1


def test_a_file_that_fits_the_rest_of_a_block_follows_without_a_gap() -> None:
    assert place(10, 100, BLOCK) == 10
    assert place(10, 118, BLOCK) == 10


def test_a_cheap_gap_saves_a_block() -> None:
    assert place(110, 110, BLOCK) == BLOCK, "a gap of 18 costs less than a fifth of 110"


def test_a_dear_gap_is_not_made() -> None:
    assert place(100, 110, BLOCK) == 100, "a gap of 28 would cost more than a fifth of 110"


def test_a_gap_that_saves_nothing_is_not_made() -> None:
    assert place(120, 130, BLOCK) == 120, "two blocks either way"


def test_files_of_110_kib_touch_one_block_of_128_kib_each() -> None:
    offsets, _ = layout([110 << 10] * 500, 128 << 10)
    assert all(blocks_touched(offset, 110 << 10, 128 << 10) == 1 for offset in offsets)


def test_a_file_of_half_a_pack_is_an_object_of_its_own() -> None:
    assert is_large(PACK // 2, PACK)
    assert not is_large(PACK // 2 - 1, PACK)
    assert grouped([5, PACK // 2, 6]) == [([1], True), ([0, 2], False)]


def test_a_pack_holds_a_limited_number_of_files() -> None:
    packs = group(((number, 1) for number in range(MAX_FILES + 3)), BLOCK, 1 << 40)
    assert [len(files) for files, _ in packs] == [MAX_FILES, 3]


@given(sizes)
def test_every_file_is_in_one_object_and_small_ones_keep_their_order(listed: list[int]) -> None:
    units = grouped(listed)
    assert sorted(index for files, _ in units for index in files) == list(range(len(listed)))
    packed = [index for files, large in units if not large for index in files]
    assert packed == sorted(packed)
    for files, large in units:
        assert large == is_large(listed[files[0]], PACK)
        assert len(files) == 1 or not large


@given(sizes)
def test_no_pack_exceeds_its_size_and_none_is_closed_half_empty(listed: list[int]) -> None:
    packs = [[listed[index] for index in files] for files, large in grouped(listed) if not large]
    ends = [layout(pack, BLOCK)[1] for pack in packs]
    assert all(end <= PACK for end in ends)
    assert all(end > PACK // 4 for end in ends[:-1]), "a gap is at most a fifth of a file of less than half a pack"


@given(sizes)
def test_files_do_not_overlap_and_gaps_are_bounded(listed: list[int]) -> None:
    offsets, total = layout(listed, BLOCK)
    end = 0
    for offset, size in zip(offsets, listed, strict=True):
        assert 0 <= (offset - end) * ALIGN_FRACTION <= size
        assert blocks_touched(offset, size, BLOCK) <= blocks_touched(end, size, BLOCK)
        end = offset + size
    assert end == total


@given(sizes, st.data())
def test_leaving_files_out_moves_none_of_the_others_up(listed: list[int], data: st.DataObject) -> None:
    kept = [index for index in range(len(listed)) if data.draw(st.booleans())]
    before, _ = layout(listed, BLOCK)
    after, _ = layout([listed[index] for index in kept], BLOCK)
    assert all(new <= before[index] for index, new in zip(kept, after, strict=True))
