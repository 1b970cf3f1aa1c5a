"""A clock that goes on while the machine sleeps.

trio's own stands still then, so a deadline that others rely on, as they do on that of an announced removal, would not
have passed when a laptop is opened again. With this one it has, and whatever was under way is cancelled first.
"""

from __future__ import annotations

import time

import trio

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On macOS it is CLOCK_MONOTONIC that counts the time asleep."""


class BootClock(trio.abc.Clock):
    """For `trio.run`."""

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return time.clock_gettime(_CLOCK)

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
