"""A limit for each step of a test that also holds where a signal alone would not: in a read of a mount that is stuck.

When the time is up, a thread writes all stacks, kills what the run has started (the kernel then answers the readers of
its mounts with ENOTCONN), and interrupts the main thread, in which the test fails like any other.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from tests.support.leftovers import everything_started


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Fails what runs in it after *limit_s*. For the main thread; it may be nested."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"not done after {limit_s:g} s (its stacks are in the captured stderr)", pytrace=True)

    def end() -> None:
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
        everything_started().remove()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    previous = signal.signal(signal.SIGALRM, interrupt)
    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        try:
            timer.cancel()
            timer.join()  # where it has begun to end things, what it killed may have let us go before its signal
        finally:
            signal.signal(signal.SIGALRM, previous)
