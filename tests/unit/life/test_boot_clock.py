"""Deadlines that have passed while the machine slept."""

from __future__ import annotations

import time

import pytest
import trio

from gridfs.life.boot_clock import BootClock


def test_what_was_under_way_is_cancelled_when_the_machine_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_s = 0.0
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + asleep_s)
    done = []

    async def work() -> bool:
        nonlocal asleep_s
        with trio.move_on_after(100) as scope:
            await trio.sleep(0.01)
            done.append("before")
            asleep_s = 1000
            await trio.sleep(0.01)
            done.append("after")
        return scope.cancelled_caught

    assert trio.run(work, clock=BootClock())
    assert done == ["before"]
