"""Requests side by side: their order, their number, their first failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from gridfs.catalog_parallel import in_parallel
from gridfs.errors import NotFound
from tests.support.on_trio import on_mock_clock


@on_mock_clock
async def test_results_come_in_the_order_of_the_items() -> None:
    running, peak = 0, 0

    async def work(seconds: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await trio.sleep(seconds)
        running -= 1
        return seconds * 10

    items = [5, 1, 4, 2, 3, 9, 1]
    assert await in_parallel(work, items, 3) == [item * 10 for item in items]
    assert peak == 3
    assert await in_parallel(work, []) == []


@pytest.mark.parametrize("failure", [NotFound("nowhere"), OSError("disk"), ZeroDivisionError("a defect")])
@on_mock_clock
async def test_the_first_failure_is_raised_as_itself_and_ends_the_others(failure: Exception) -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        await trio.sleep(item)
        if item == 2:
            raise failure
        ended.append(item)

    started_s = trio.current_time()
    with pytest.raises(type(failure)) as raised:
        await in_parallel(work, [1, 2, 1000, 3])
    assert raised.value is failure
    assert ended == [1]
    assert trio.current_time() - started_s == 2


@on_mock_clock
async def test_items_are_drawn_as_work_gets_done() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        while drawn < 1000:
            drawn += 1
            yield drawn

    async def work(item: int) -> None:
        await trio.sleep(1)
        assert drawn - item < 2 * 4
        if item == 100:
            raise NotFound("enough")

    with pytest.raises(NotFound):
        await in_parallel(work, items(), 4)
    assert drawn < 108


@on_mock_clock
async def test_items_that_fail_are_a_failure() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise NotFound("the second")

    async def work(item: int) -> int:
        await trio.sleep(item)
        return item

    with pytest.raises(NotFound, match="the second"):
        await in_parallel(work, items(), 4)
