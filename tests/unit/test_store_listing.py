"""Cutting key ranges and listing them side by side, against a bucket that is a sorted list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gridfs.errors import AccessDenied, StoreUnavailable
from gridfs.store.base import ObjectHead
from gridfs.store.keyspace import Alphabet, keys_left, split_points
from gridfs.store.listing import Page, list_in_parallel
from tests.support.on_trio import on_mock_clock


def alphabet_of(*keys: str) -> Alphabet:
    alphabet = Alphabet()
    for key in keys:
        alphabet.note(key)
    return alphabet


NUMBERS = alphabet_of("img_000.jpg", "img_129.jpg")
ROUND_TRIP_S = 0.03


@given(
    first=st.text(alphabet="ab.é😀z", max_size=12),
    low=st.text(alphabet="ab.é😀z", max_size=12),
    high=st.none() | st.text(alphabet="ab.é😀z", max_size=12),
    count=st.integers(1, 40),
    keys=st.lists(st.text(alphabet="ab.é😀zq", max_size=12), max_size=5),
)
def test_cuts_ascend_strictly_inside_the_range(
    first: str, low: str, high: str | None, count: int, keys: list[str]
) -> None:
    points = split_points(first, low, high, count, alphabet_of(*keys))
    assert len(points) <= count
    bounds = [low, *points, *([high] if high is not None else [])]
    assert all(a < b for a, b in pairwise(bounds)) or points == []


def test_cuts_fall_between_the_names_there_are() -> None:
    assert split_points("x", "img_1", "img_9", 7, NUMBERS) == [f"img_{n}" for n in range(2, 9)]
    inside = split_points("img_1", "img_8", "img_9", 4, NUMBERS)
    assert [cut[:6] for cut in inside] == [f"img_8{n}" for n in (1, 3, 5, 7)]
    assert split_points("a", "a", "b", 3, Alphabet()) == []


def test_an_alphabet_is_of_a_position() -> None:
    alphabet = alphabet_of("a1-x", "b7-y")
    assert [alphabet.at(position) for position in range(4)] == [
        ["a", "b", "x", "y"], sorted("0123456789"), ["-"], ["a", "b", "x", "y"],
    ]  # fmt: skip
    assert alphabet.at(9) == sorted({*"0123456789", *"ab-xy"})


def test_what_is_left_is_told_from_what_was_covered() -> None:
    assert keys_left("img_0", "img_2", "img_8", 100, NUMBERS) == pytest.approx(300, rel=0.01)
    assert keys_left("img_0", "img_2", None, 100, NUMBERS) == inf
    assert keys_left("a0", "a0", "a8", 100, Alphabet()) == inf


def test_cuts_find_in_one_round_how_far_numbers_go() -> None:
    points = split_points("img_0000", "img_0999", None, 32, NUMBERS)
    assert {"img_1", "img_2", "img_9"} <= set(points)


class Bucket:
    """A server with *keys*, in their order or in another."""

    def __init__(self, keys: Sequence[str], *, page_size: int = 1000, ordered: bool = True) -> None:
        self.keys = sorted(keys) if ordered else list(keys)
        self.page_size = page_size
        self.ordered = ordered
        self.requests = 0
        self.failures: list[Exception] = []
        self.got: list[str] = []

    async def fetch(self, after: str, token: str | None, most: int, end: str | None) -> Page:
        self.requests += 1
        await trio.sleep(ROUND_TRIP_S)
        if self.failures:
            raise self.failures.pop()
        start = int(token) if token is not None else bisect_right(self.keys, after) if self.ordered else 0
        heads = [ObjectHead(key, 1, '"x"', 0) for key in self.keys[start : start + min(most, self.page_size)]]
        end = start + len(heads)
        return Page(heads, end >= len(self.keys), str(end))

    async def deliver(self, heads: Sequence[ObjectHead]) -> None:
        self.got += [head.key for head in heads]

    async def list(self, prefix: str = "", listers: int = 16) -> None:
        await list_in_parallel(self.fetch, prefix, self.deliver, listers=listers)


TREES = {
    "flat": [f"img_{number:08}.jpg" for number in range(30_000)],
    "deep": [f"a/very/deep/common/prefix/{number % 97}/{number}" for number in range(30_000)],
    "hashes": [f"{number * 2654435761 % 2**32:08x}" for number in range(30_000)],
    "lopsided": ["a", *(f"z/{number}" for number in range(20_000)), *(f"m{number:020}" for number in range(10_000))],
    "unicode": [f"{chr(0x4E00 + number % 300)}/{chr(0x1F600 + number % 50)}{number}" for number in range(20_000)],
}


@pytest.mark.parametrize("name", TREES)
@on_mock_clock
async def test_every_key_once_and_many_times_as_fast(name: str) -> None:
    bucket = Bucket(TREES[name])
    await bucket.list()
    assert sorted(bucket.got) == sorted(TREES[name])
    pages = len(TREES[name]) / 1000
    assert bucket.requests < 4 * pages
    if name != "unicode":  # of its 350 characters the first pages show few
        assert trio.current_time() <= pages * ROUND_TRIP_S / 2


@given(keys=st.sets(st.text(alphabet="ab/.é", min_size=1, max_size=8), max_size=200), page_size=st.integers(1, 20))
def test_whatever_the_keys_are(keys: set[str], page_size: int) -> None:
    @on_mock_clock
    async def check() -> None:
        bucket = Bucket(sorted(keys), page_size=page_size)
        await bucket.list(listers=5)
        assert sorted(bucket.got) == sorted(keys)

    check()


@on_mock_clock
async def test_a_failed_page_is_asked_for_again_and_nothing_is_lost() -> None:
    bucket = Bucket(TREES["flat"])
    bucket.failures = [StoreUnavailable("503 SlowDown") for _ in range(8)]
    await bucket.list()
    assert sorted(bucket.got) == TREES["flat"]


@on_mock_clock
async def test_what_will_fail_again_ends_the_listing_at_once() -> None:
    bucket = Bucket(TREES["flat"])
    bucket.failures = [AccessDenied("no")]
    with pytest.raises(AccessDenied):
        await bucket.list()
    assert bucket.requests == 1


@on_mock_clock
async def test_a_server_that_stays_away_ends_the_listing_after_a_minute() -> None:
    bucket = Bucket(TREES["flat"])
    bucket.failures = [StoreUnavailable("503 SlowDown") for _ in range(10_000)]
    with pytest.raises(StoreUnavailable):
        await bucket.list()
    assert 40 < trio.current_time() < 62


@on_mock_clock
async def test_a_server_without_order_is_listed_by_its_tokens() -> None:
    keys = [f"{number * 7919 % 10007}" for number in range(5000)]
    bucket = Bucket(keys, ordered=False)
    await bucket.list()
    assert set(bucket.got) == set(keys)


@on_mock_clock
async def test_one_page_costs_one_request() -> None:
    for keys in ([], ["a"], [f"{number:03}" for number in range(1000)]):
        bucket = Bucket(keys)
        await bucket.list()
        assert bucket.requests == 1
        assert bucket.got == keys
