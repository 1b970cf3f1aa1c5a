"""Many small requests side by side, with the first failure raised as itself.

A trio nursery raises groups of exceptions; what calls a store wants the one error, as if it had asked in turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

REQUESTS = 16
"""Requests at once: at 50 ms a request, 300 a second, which no store throttles."""


async def in_parallel(function: Callable[[T], Awaitable[R]], items: Iterable[T], limit: int = REQUESTS) -> list[R]:
    """The results of *function* for all *items*, in their order, at most *limit* at once.

    *items* is drawn from as work gets done. After the first error the others are cancelled, and it is raised.
    """
    pending = enumerate(items)
    results: dict[int, R] = {}
    failures: list[Exception] = []

    async def work() -> None:
        try:
            for index, item in pending:
                results[index] = await function(item)
        except Exception as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number in range(limit):
            nursery.start_soon(work, name=f"request worker {number}")
    if failures:
        raise failures[0]
    return [results[index] for index in sorted(results)]
