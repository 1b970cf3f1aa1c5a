"""Retries on a mock clock: what is repeated, for how long, and what is never done twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from random import Random

import pytest
import trio

from gridfs.errors import AccessDenied, ObjectExists, ObjectMissing, StoreUnavailable, StoreUnreachable
from gridfs.model import ByteRange, WholeObject
from gridfs.store.base import ObjectHead
from gridfs.store.limit import LimitedStore
from gridfs.store.retry import RetryingStore, RetryPolicy, pauses, persist
from gridfs.store.simulated import Fault, Network, SimulatedStore
from gridfs.store.trace import StoreStatistics, TracedStore
from tests.support.data import ramp
from tests.support.on_trio import on_mock_clock

MIB = 1 << 20


def test_pauses_grow_to_a_limit_and_never_exceed_their_due() -> None:
    policy = RetryPolicy(first_pause_s=0.1, largest_pause_s=1.0, factor=2)
    for seed in range(20):
        drawn = list(islice(pauses(policy, Random(seed)), 8))
        for pause_s, due_s in zip(drawn, [0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1], strict=True):
            assert due_s / 2 <= pause_s <= due_s
    assert list(islice(pauses(policy, Random(1)), 4)) != list(islice(pauses(policy, Random(2)), 4))


@on_mock_clock
async def test_what_may_work_is_tried_until_it_does() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(100))
    raw.inject(Fault.UNAVAILABLE, times=3)
    store = RetryingStore(raw, random=Random(1))
    assert await store.get("k") == ramp(100)
    assert store.repeated == 3
    assert 0.35 <= trio.current_time() <= 0.7


@on_mock_clock
async def test_the_deadline_ends_it_with_the_last_cause() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(100))
    raw.inject(Fault.UNAVAILABLE, times=1000)
    with pytest.raises(StoreUnavailable, match="503"):
        await RetryingStore(raw, RetryPolicy(deadline_s=20)).get_range("k", ByteRange(0, 5))
    assert 15 <= trio.current_time() <= 20


REFUSED = StoreUnreachable("s3://b can't be reached (connection refused)")


@on_mock_clock
async def test_a_store_that_was_never_there_is_given_up_soon() -> None:
    raw = SimulatedStore()
    raw.inject(REFUSED, times=1000)
    policy = RetryPolicy(deadline_s=20, unreachable_deadline_s=2)
    with pytest.raises(StoreUnreachable):
        await RetryingStore(raw, policy).get("k")
    assert 0.7 <= trio.current_time() <= 2  # four pauses of at least 0.05, 0.1, 0.2, 0.4 s
    assert len(raw.requests) > 3
    with pytest.raises(StoreUnreachable):
        await persist(lambda: raw.get("k"), policy, Random(1))
    assert trio.current_time() <= 4


@pytest.mark.parametrize("answered_by", ["data", "a failure that is an answer"])
@on_mock_clock
async def test_a_store_that_restarts_is_waited_for(answered_by: str) -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(100))
    store = RetryingStore(raw, RetryPolicy(deadline_s=20, unreachable_deadline_s=2))
    if answered_by == "data":
        await store.get("k")
    else:
        with pytest.raises(ObjectMissing):
            await store.get("none")
    raw.inject(REFUSED, times=1000)
    with pytest.raises(StoreUnreachable):
        await store.get("k")
    assert 15 <= trio.current_time() <= 20


@on_mock_clock
async def test_what_will_fail_again_is_not_repeated() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(100))
    raw.inject(AccessDenied("no"))
    with pytest.raises(AccessDenied):
        await RetryingStore(raw).get("k")
    assert len(raw.requests) == 1


@on_mock_clock
async def test_a_broken_stream_goes_on_where_it_ended() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(4 * MIB))
    raw.inject(Fault.TRUNCATED, times=3)
    received = bytearray()
    await RetryingStore(raw).stream_range("k", ByteRange(5, 4 * MIB), received.extend)
    assert received == ramp(4 * MIB - 5, 5)
    assert raw.sent_bytes == 4 * MIB - 5


@on_mock_clock
async def test_what_a_broken_stream_goes_on_with_lies_in_its_place() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(4 * MIB))
    raw.inject(Fault.TRUNCATED, times=3)
    buffer = memoryview(bytearray(4 * MIB - 5))
    received = bytearray()
    await RetryingStore(raw).stream_range("k", ByteRange(5, 4 * MIB), received.extend, into=buffer)
    assert received == buffer == ramp(4 * MIB - 5, 5)


@on_mock_clock
async def test_the_rest_of_a_whole_object_is_asked_for_as_a_range() -> None:
    raw = SimulatedStore()
    raw.place("k", ramp(4 * MIB))
    raw.inject(StoreUnavailable("503"))
    raw.inject(Fault.TRUNCATED)
    received = bytearray()
    await RetryingStore(raw).stream_range("k", WholeObject(0, 4 * MIB), received.extend)
    assert received == ramp(4 * MIB)
    assert [type(request.byte_range) for request in raw.requests] == [WholeObject, WholeObject, ByteRange]


@on_mock_clock
async def test_a_lost_answer_to_a_create_only_put_is_success_for_the_writer_alone() -> None:
    raw = SimulatedStore()
    raw.inject(Fault.LOST_ANSWER)
    await RetryingStore(raw).put_if_absent("v", b"ours")
    with pytest.raises(ObjectExists):
        await RetryingStore(raw).put_if_absent("v", b"theirs")
    raw.inject(Fault.LOST_ANSWER)
    with pytest.raises(ObjectExists):
        await RetryingStore(raw).put_if_absent("v", b"theirs")
    assert raw.contents() == {"v": b"ours"}


@on_mock_clock
async def test_an_interrupted_listing_names_everything_once() -> None:
    raw = SimulatedStore()
    for number in range(5):
        raw.place(f"k{number}", b"")
    raw.inject(Fault.UNAVAILABLE, times=2)
    assert [head.key async for head in RetryingStore(raw).list("k")] == [f"k{number}" for number in range(5)]


class Pages(SimulatedStore):
    """Lists ten objects, one in ten seconds, and fails after every third that nobody has been told of yet."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        for number in range(10):
            await trio.sleep(10)
            yield ObjectHead(f"{prefix}{number}", 0, None, 0)
            if number > self.told:
                self.told = number + 2
                raise StoreUnavailable("503")


@on_mock_clock
async def test_a_long_listing_has_the_patience_of_a_request_for_each_failure() -> None:
    assert [head.key async for head in RetryingStore(Pages()).list("k")] == [f"k{number}" for number in range(10)]


@on_mock_clock
async def test_a_listing_that_gets_no_further_is_given_up() -> None:
    class Stuck(SimulatedStore):
        async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
            yield ObjectHead(f"{prefix}0", 0, None, 0)
            raise StoreUnavailable("503")

    with pytest.raises(StoreUnavailable, match="503"):
        async for _ in RetryingStore(Stuck()).list("k"):
            pass
    assert 15 <= trio.current_time() <= 20


@on_mock_clock
async def test_no_more_requests_at_once_than_the_limit() -> None:
    raw = SimulatedStore(Network(latency_s=1.0))
    raw.place("k", ramp(100))
    statistics = StoreStatistics()
    store = LimitedStore(TracedStore(raw, statistics), 3)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(store.get, "k")
    assert raw.peak_outstanding == 3
    assert statistics.requests["get"] == 10
    assert statistics.busy_s["get"] == pytest.approx(10)
    assert trio.current_time() == pytest.approx(4)


@on_mock_clock
async def test_faults_come_by_seed() -> None:
    async def outcomes(seed: int) -> list[str]:
        rates = {Fault.UNAVAILABLE: 0.2, Fault.CORRUPT: 0.2}
        store = SimulatedStore(Network(0.01, 90e6), fault_rates=rates, seed=seed)
        store.place("k", ramp(1000))
        seen = []
        for _ in range(50):
            try:
                seen.append("same" if await store.get("k") == ramp(1000) else "other")
            except StoreUnavailable:
                seen.append("failed")
        return seen

    first = await outcomes(1)
    assert first == await outcomes(1)
    assert first != await outcomes(2)
    assert set(first) == {"same", "other", "failed"}
