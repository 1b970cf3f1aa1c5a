"""The read path under a clock and a store that the test decides: right bytes or an error, and no invariant broken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridfs.errors import IntegrityError, ObjectMissing, ReadTimeout, StoreUnavailable
from gridfs.store.simulated import Fault, Network
from tests.sim.simulation import BLOCK_SIZE_BYTES, Read, Scenario, simulate
from tests.support.layout import ListLayout

MIB = 1 << 20

reads = st.builds(
    Read,
    obj=st.integers(0, 5),
    start=st.integers(0, 3 * MIB),
    size=st.sampled_from([1, 1000, BLOCK_SIZE_BYTES, 110_000, 300_000]),
    patience_s=st.one_of(st.none(), st.none(), st.floats(0, 0.05)),
)
sequential = st.builds(
    lambda obj, start, size, count: tuple(Read(obj, start + size * step, size) for step in range(count)),
    obj=st.integers(0, 5),
    start=st.integers(0, 1 * MIB),
    size=st.sampled_from([5_000, 40_000, 131_072]),
    count=st.integers(1, 30),
)
scenarios = st.builds(
    Scenario,
    sizes=st.lists(
        st.sampled_from([1, 5_000, BLOCK_SIZE_BYTES, 110_000, 1 * MIB, 3 * MIB]), min_size=1, max_size=6
    ).map(tuple),
    readers=st.lists(st.one_of(st.lists(reads, max_size=12).map(tuple), sequential), min_size=1, max_size=6).map(tuple),
    network=st.sampled_from([Network(), Network(0.015, 90e6), Network(0.2, 5e6)]),
    faults=st.fixed_dictionaries(
        {},
        optional={
            Fault.UNAVAILABLE: st.just(0.1),
            Fault.TRUNCATED: st.just(0.1),
            Fault.STALLED: st.just(0.05),
            Fault.CORRUPT: st.just(0.2),
        },
    ),
    budget_bytes=st.sampled_from([2 * MIB, 5 * MIB, 64 * MIB]),
    disk_bytes=st.one_of(st.none(), st.sampled_from([200_000, 64 * MIB])),
    flip_rate=st.sampled_from([0.0, 0.3]),
    prefetch=st.sampled_from(["auto", "none"]),
    seed=st.integers(0, 1 << 30),
)


@pytest.mark.logs_warnings
@settings(max_examples=150)
@given(scenarios)
def test_any_reads_under_any_faults(scenario: Scenario) -> None:
    """Invariants 3, 4, 5 and 6, which `simulate` checks; without faults there are no errors either."""
    report = simulate(scenario)
    assert report.right + report.cancelled + len(report.errors) == sum(len(reads) for reads in scenario.readers)
    if not scenario.faults:
        assert not report.errors


def _sequential(size_bytes: int, step: int = 131_072, obj: int = 0) -> tuple[Read, ...]:
    return tuple(Read(obj, start, step) for start in range(0, size_bytes, step))


def test_each_byte_is_fetched_once_by_many_readers_of_one_object() -> None:
    report = simulate(Scenario(sizes=(3 * MIB,), readers=(_sequential(3 * MIB),) * 8, budget_bytes=64 * MIB))
    assert report.right == 8 * 24
    assert report.store is not None
    assert report.store.sent_bytes == 3 * MIB


def test_a_sequential_reader_gets_more_than_one_connection_gives() -> None:
    size = 64 * MIB
    report = simulate(Scenario(sizes=(size,), readers=(_sequential(size),), budget_bytes=256 * MIB))
    assert report.elapsed_s < (size / 90e6) / 3  # including the growth of the window


def test_small_files_in_tree_order_are_prefetched_across_objects() -> None:
    sizes = (110_000,) * 300
    readers = (tuple(Read(number, 0, 110_000) for number in range(300)),)
    report = simulate(Scenario(sizes=sizes, readers=readers, budget_bytes=64 * MIB))
    assert report.elapsed_s < 300 * 0.015 / 4


@pytest.mark.parametrize(("pilot_s", "other_s", "requests"), [(0.005, None, 2), (None, 0.005, 1)])
def test_a_cancelled_reader_takes_nobodys_bytes_along(
    pilot_s: float | None, other_s: float | None, requests: int
) -> None:
    """Invariant 5. The first reader flies, and two join it a millisecond later; without it, they ask again for both."""
    sizes = (MIB, MIB, MIB)
    pilot = (Read(0, 0, 1000, patience_s=pilot_s),)
    others = (
        (Read(1, 0, 1, patience_s=0.001), Read(0, 0, 1000, patience_s=other_s)),
        (Read(2, 0, 1, patience_s=0.001), Read(0, 500, 700)),
    )
    report = simulate(Scenario(sizes=sizes, readers=(pilot, *others)))
    assert (report.right, report.cancelled) == (2, 3)
    assert report.store is not None
    key = ListLayout(sizes, block_size_bytes=BLOCK_SIZE_BYTES).objects[0].key
    assert [request.key for request in report.store.requests].count(key) == requests


def test_a_reader_that_wants_a_part_of_a_flight_does_not_wait_for_the_rest() -> None:
    """What goes beyond its read is a task of its own, and so are several parts of one read, which come together."""
    two_parts = simulate(Scenario(sizes=(16 * MIB,), readers=((Read(0, 6 * MIB, 4 * MIB),),), budget_bytes=64 * MIB))
    assert two_parts.elapsed_s < 0.015 + 2 * MIB / 90e6 + 0.001


@pytest.mark.logs_warnings
def test_a_block_that_came_wrong_is_fetched_once_more() -> None:
    report = simulate(Scenario(sizes=(MIB,), readers=((Read(0, 0, MIB),),), faults={Fault.CORRUPT: 0.5}, seed=1))
    assert report.right + len(report.errors) == 1


@pytest.mark.logs_warnings
def test_a_block_that_is_wrong_twice_is_an_error_and_never_data() -> None:
    """Invariant 3."""
    report = simulate(Scenario(sizes=(5000,), readers=((Read(0, 0, 5000),),) * 2, faults={Fault.CORRUPT: 1.0}))
    assert [type(error) for error in report.errors] == [IntegrityError] * 2
    assert report.store is not None
    assert len(report.store.requests) == 2


def test_a_failure_is_remembered_for_the_second_try_of_the_kernel() -> None:
    readers = ((Read(0, 0, 1000), Read(0, 0, 1000)),)
    report = simulate(Scenario(sizes=(MIB,), readers=readers, faults={Fault.UNAVAILABLE: 1.0}))
    assert [type(error) for error in report.errors] == [StoreUnavailable] * 2
    assert report.store is not None
    assert len(report.store.requests) == 1


def test_a_store_that_hangs_fails_the_read_at_its_deadline() -> None:
    report = simulate(Scenario(sizes=(MIB,), readers=((Read(0, 0, 1000),),), faults={Fault.STALLED: 1.0}))
    assert [type(error) for error in report.errors] == [ReadTimeout]
    assert 19.9 < report.elapsed_s < 20.1


def test_a_deadline_that_has_passed_is_remembered_for_the_second_try_of_the_kernel() -> None:
    reads = (Read(0, 0, 1000), Read(0, 0, 1000))
    report = simulate(Scenario(sizes=(MIB,), readers=(reads, reads), faults={Fault.STALLED: 1.0}))
    assert [type(error) for error in report.errors] == [ReadTimeout] * 4
    assert report.elapsed_s < 20.1
    assert report.store is not None
    assert len(report.store.requests) == 1


def test_without_checksums_a_changed_object_is_never_read() -> None:
    """Errors of the store reach the reader as they are."""
    report = simulate(Scenario(sizes=(MIB, 10), readers=((Read(1, 0, 10),),), checksummed=False))
    assert report.right == 1
    report = simulate(Scenario(sizes=(MIB,), readers=((Read(0, 0, 10),),), faults={Fault.UNAVAILABLE: 1.0}))
    assert not isinstance(report.errors[0], ObjectMissing)


def test_a_reader_does_not_wait_for_background_fetches() -> None:
    """Invariant 9: windows of eight streams fill the network; another reader's cold read takes what it takes alone."""
    network = Network(0.015, 5e6)
    streams = tuple(_sequential(16 * MIB, obj=number)[:40] for number in range(8))
    sizes = (16 * MIB,) * 8 + (110_000,) * 20
    alone = tuple(Read(8 + 2 * number, 0, 110_000) for number in range(6))
    quiet = simulate(Scenario(sizes=sizes, readers=(alone,), network=network, budget_bytes=32 * MIB, prefetch="none"))
    times: list[float] = []
    for readers in ((alone,), (alone, *streams)):
        report = simulate(Scenario(sizes=sizes, readers=readers, network=network, budget_bytes=32 * MIB))
        assert report.store is not None
        mine = [r for r in report.store.requests if int(r.key, 16) in range(9, 30) and r.finished_s is not None]
        times.append(max(request.started_s for request in mine) - min(request.started_s for request in mine))
    assert times[1] <= quiet.elapsed_s * 1.01
