"""How pyfuse3's workers take turns at the device: trio as pyfuse3 sees it, with a shorter way to the next request.

Each worker of pyfuse3 takes a lock, waits until the device can be read, reads one request and answers it; then the
same again. That is two turns of trio's scheduler and two calls of epoll for a request, also when ten are waiting. Here
a worker that comes back looks whether the device can be read now (poll(2), 1 us), and then goes on without lock or
scheduler. Whoever waits at the device meanwhile sleeps on: trio asks epoll only when the queue is empty again.

pyfuse3 takes the module from its attribute `trio`, which its own support of asyncio replaces in the same way.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import trio

BURST = 16
"""Requests answered before everyone else has a turn; about a millisecond, when none of them has to wait."""


class Device:
    """The FUSE device, of which one worker reads at a time."""

    def __init__(self, begin: Callable[[int], int]) -> None:
        self._begin = begin
        self._poll = select.poll()
        self._known: int | None = None
        """What is polled."""
        self._ready = False
        """It was seen to be readable by the worker that is about to read it, in this very step."""
        self._waiting = False
        self._queue: deque[trio.lowlevel.Task] = deque()
        self._burst = 0

    async def __aenter__(self) -> None:
        if self._burst >= BURST:
            self._burst = 0
            await trio.lowlevel.checkpoint()
        if self._known is not None and self._poll.poll(0):
            self._burst += 1
            self._ready = True
            return
        self._burst = 0
        if not self._waiting:
            self._waiting = True
            return
        task = trio.lowlevel.current_task()
        self._queue.append(task)

        def give_up(_: Any) -> trio.lowlevel.Abort:
            self._queue.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)  # and whoever wakes it hands `_waiting` over

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ready:
            self._ready = False
        elif self._queue:
            trio.lowlevel.reschedule(self._queue.popleft())
        else:
            self._waiting = False

    async def wait_readable(self, descriptor: int) -> None:
        """As trio.lowlevel.wait_readable; at once when it was just seen to be readable."""
        if self._ready:
            return
        if self._known is None:
            self._known = self._begin(descriptor)
            self._poll.register(self._known, select.POLLIN)
        await trio.lowlevel.wait_readable(self._known)

    def notify_closing(self, descriptor: int) -> None:
        """As trio.lowlevel.notify_closing, for who waits for *descriptor*: at what is polled in its place."""
        trio.lowlevel.notify_closing(descriptor if self._known is None else self._known)


class Lowlevel:
    """trio.lowlevel, but for the device."""

    def __init__(self, device: Device) -> None:
        self.wait_readable = device.wait_readable
        self.notify_closing = device.notify_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)


class Turns:
    """What pyfuse3 takes for the module trio. For one session.

    *begin* is given the device when it is first waited for, and says what is to be polled in its place.
    """

    def __init__(self, begin: Callable[[int], int] = lambda device: device) -> None:
        device = Device(begin)
        self.lowlevel = Lowlevel(device)
        self.Lock = lambda: device

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
