"""Asynchronous tests, each in a trio run of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from trio.abc import Clock


def on_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs the coroutine function *test* in trio; pytest sees its parameters."""
    return _runner(test, None)


def on_mock_clock(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """As on_trio, on a clock that jumps ahead whenever every task waits."""
    from trio.testing import MockClock

    return _runner(test, partial(MockClock, autojump_threshold=0))


def _runner(test: Callable[..., Awaitable[None]], clock: Callable[[], Clock] | None) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        trio.run(partial(test, *arguments, **fixtures), clock=clock() if clock else None)

    del run.__wrapped__  # else pytest takes it for a coroutine function
    run.__signature__ = signature(test)  # type: ignore[attr-defined]
    return run
