"""gridfs.read.prefetch: what is wanted after which history of reads."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gridfs.config import KIB, MIB
from gridfs.read.plan import Run
from gridfs.read.prefetch import STREAM_LIMIT, Outcome, Prefetcher, Priority, Want, may_fill

BLOCK = 128 * KIB
PER_MIB = MIB // BLOCK
TAPE = 1 << 20
"""Blocks: 128 GiB."""


def prefetcher(
    *, blocks: int = TAPE, budget: int = 1 << 30, file_bytes: int = 4 * MIB, mode: str = "auto"
) -> Prefetcher:
    return Prefetcher(
        block_size_bytes=BLOCK, block_count=blocks, budget_bytes=budget, mean_file_bytes=file_bytes, mode=mode
    )


def read_on(subject: Prefetcher, start: int, count: int, outcome: Outcome, step: int = 1) -> list[Want]:
    wants: list[Want] = []
    for block in range(start, start + count * step, step):
        wants += subject.observe(block, block + step, outcome)
    return wants


def test_a_first_read_wants_nothing() -> None:
    assert not prefetcher().observe(100, 101, Outcome.MISS)


def test_the_second_read_in_order_opens_a_window_of_1_mib() -> None:
    subject = prefetcher()
    subject.observe(100, 101, Outcome.HIT)
    (want,) = subject.observe(101, 102, Outcome.HIT)
    assert want == Want(Run(102, 102 + PER_MIB), Priority.WINDOW, MIB, is_guess=True)


def test_small_files_in_one_block_are_a_stream_once_they_leave_it() -> None:
    subject = prefetcher()
    assert not [subject.observe(7, 8, Outcome.MISS) for _ in range(20)][-1]
    assert subject.observe(7, 9, Outcome.MISS)


def test_a_window_is_refilled_at_half_and_is_continuous() -> None:
    subject = prefetcher()
    wants = read_on(subject, 0, 100, Outcome.HIT)
    assert all(left.run.stop == right.run.first for left, right in pairwise(wants))
    assert all(want.run.block_count >= PER_MIB // 2 for want in wants)
    assert wants[-1].run.stop <= 100 + PER_MIB
    assert [want.is_guess for want in wants] == [True] + [False] * (len(wants) - 1)


def test_a_reader_that_never_waits_keeps_its_small_window() -> None:
    subject = prefetcher()
    read_on(subject, 0, 1000, Outcome.HIT)
    assert subject.streams[0].window == PER_MIB


def test_waiting_doubles_the_window_up_to_the_cap() -> None:
    subject = prefetcher(budget=64 * MIB)
    windows = []
    for block in range(3000):
        subject.observe(block, block + 1, Outcome.WAIT)
        windows.append(subject.streams[0].window)
    assert windows[-1] == 32 * PER_MIB  # half of the budget
    assert all(after in (before, before * 2) for before, after in pairwise(windows[1:]))


def test_one_stall_seen_by_many_requests_doubles_once() -> None:
    subject = prefetcher()
    read_on(subject, 0, 2, Outcome.HIT)
    before = subject.streams[0].window
    read_on(subject, 2, 4, Outcome.WAIT)  # the kernel's read-ahead: several requests for one wait
    assert subject.streams[0].window == before * 2


def test_parts_grow_with_the_window_to_8_mib() -> None:
    wants = read_on(prefetcher(), 0, 4000, Outcome.WAIT)
    assert wants[0].part_size_bytes == MIB
    assert wants[-1].part_size_bytes == 8 * MIB


def test_streams_are_told_apart_by_position() -> None:
    subject = prefetcher()
    wants: list[Want] = []
    for step in range(50):
        for stream in range(8):
            wants += subject.observe(stream * 100_000 + step, stream * 100_000 + step + 1, Outcome.HIT)
    for stream in range(8):
        mine = [want.run for want in wants if want.run.first // 100_000 == stream]
        assert mine[0].first == stream * 100_000 + 2
        assert mine[-1].stop >= stream * 100_000 + 50


def test_all_streams_divide_the_budget() -> None:
    subject = prefetcher(budget=256 * MIB)
    for step in range(2000):
        for stream in range(8):
            subject.observe(stream * 100_000 + step, stream * 100_000 + step + 1, Outcome.WAIT)
    assert sum(stream.window for stream in subject.streams) * BLOCK <= 128 * MIB


def test_requests_out_of_order_are_one_stream() -> None:
    subject = prefetcher()
    wants: list[Want] = []
    for pair in range(0, 320, 16):
        for first in (pair + 8, pair):
            wants += subject.observe(first, first + 8, Outcome.MISS)
    assert max(want.run.stop for want in wants) >= 320
    assert sum(1 for stream in subject.streams if stream.window) <= 2


@given(st.permutations(range(0, 100_000, 3_125)))
def test_sparse_random_reads_want_nothing(order: list[int]) -> None:
    subject = prefetcher()
    assert not [want for block in order for want in subject.observe(block, block + 1, Outcome.MISS)]


def random_misses(subject: Prefetcher, count: int, blocks: int) -> list[Want]:
    """*count* reads of *blocks* each at places of the first pack that continue none of the others."""
    starts = [(number * 149) % (512 - blocks) for number in range(1, count + 1)]
    return [want for first in starts for want in subject.observe(first, first + blocks, Outcome.MISS)]


def test_misses_of_an_eighth_of_a_pack_want_the_rest_of_it_once() -> None:
    assert not random_misses(prefetcher(), 31, 2)
    assert random_misses(prefetcher(), 32, 2) == [Want(Run(0, 512), Priority.FILL, 8 * MIB)]
    assert len(random_misses(prefetcher(), 60, 2)) == 1


def test_where_files_are_small_a_64th_of_a_pack_is_enough() -> None:
    small = 110 * KIB
    assert not random_misses(prefetcher(file_bytes=small), 7, 1)
    assert random_misses(prefetcher(file_bytes=small), 8, 1) == [Want(Run(0, 512), Priority.FILL, 8 * MIB)]
    assert not random_misses(prefetcher(file_bytes=MIB), 63, 1)


def test_three_misses_are_no_pattern_however_large() -> None:
    assert not random_misses(prefetcher(), 3, 60)
    assert random_misses(prefetcher(), 4, 30)


def test_a_denied_fill_may_be_asked_for_again_by_as_many_misses() -> None:
    subject = prefetcher()
    (want,) = random_misses(subject, 32, 2)
    assert subject.is_dense(want.run.first)
    subject.deny(want.run)
    assert not subject.is_dense(want.run.first)
    assert len(random_misses(subject, 64, 2)) <= 3


def test_among_random_reads_two_in_order_are_chance_and_three_a_stream() -> None:
    subject = prefetcher()
    for number in range(40):
        assert not subject.observe(1000 * number, 1000 * number + 1, Outcome.MISS)
    assert not read_on(subject, 500, 2, Outcome.MISS)
    (window,) = subject.observe(502, 503, Outcome.MISS)
    assert (window.run.first, window.priority) == (503, Priority.WINDOW)


def test_files_of_two_reads_each_are_no_streams() -> None:
    subject = prefetcher()
    wants = [read_on(subject, 1000 * number, 2, Outcome.MISS) for number in range(40)]
    assert not any(wants[17:])


def test_once_most_reads_are_in_order_again_two_are_a_stream() -> None:
    subject = prefetcher()
    for number in range(40):
        subject.observe(1000 * number, 1000 * number + 1, Outcome.MISS)
    read_on(subject, 500, 30, Outcome.HIT)
    assert len(read_on(subject, 99_000, 2, Outcome.MISS)) == 1


def test_reads_beside_streams_are_not_taken_for_random_ones() -> None:
    """The kernel reads ahead in several requests, which come in any order."""
    subject = prefetcher()
    for start in range(0, 320, 4):
        for block in reversed(range(start, start + 4)):
            subject.observe(block, block + 1, Outcome.HIT)
    assert len(read_on(subject, 99_000, 2, Outcome.MISS)) == 1


def test_hits_and_waits_are_no_misses() -> None:
    subject = prefetcher()
    for outcome in (Outcome.HIT, Outcome.WAIT):
        assert not [w for block in range(0, 500, 20) for w in subject.observe(block, block + 1, outcome)]


def test_without_prefetching_nothing_is_wanted() -> None:
    assert not read_on(prefetcher(mode="none"), 0, 1000, Outcome.MISS)


def test_a_fill_pays_only_while_all_that_lacks_fits() -> None:
    assert may_fill(lacking_bytes=100, room_bytes=100)
    assert not may_fill(lacking_bytes=101, room_bytes=100)


reads = st.lists(st.tuples(st.integers(0, 199), st.integers(1, 9), st.sampled_from(Outcome)), max_size=200)


@given(reads, st.integers(1, 200))
def test_any_history_keeps_the_promises(history: list[tuple[int, int, Outcome]], blocks: int) -> None:
    """Wants lie on the tape, a window's part is at most 8 MiB, and what is remembered is bounded."""
    subject = prefetcher(blocks=blocks, budget=32 * MIB)
    for first, count, outcome in history:
        for want in subject.observe(first % blocks, min(first % blocks + count, blocks), outcome):
            assert 0 <= want.run.first < want.run.stop <= blocks
            assert want.part_size_bytes in (MIB, 2 * MIB, 4 * MIB, 8 * MIB)
        assert len(subject.streams) <= STREAM_LIMIT
        assert all(stream.window * BLOCK <= 16 * MIB for stream in subject.streams)
