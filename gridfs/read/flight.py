"""One ranged GET under way, seen by those who wait for its blocks.

There is at most one flight for each block (invariant 5). Whoever asked first and wants all of it flies it; any other is
a task in the nursery of the reader. Waiters wake when their block is verified, or when the flight is over; if it ended
because its pilot was cancelled, they ask for themselves.
"""

from __future__ import annotations

import math

import trio

from gridfs.cache.base import Checksums, Span
from gridfs.cache.memory import Part
from gridfs.errors import GridfsError
from gridfs.model import ObjectRecord
from gridfs.read.plan import Run
from gridfs.read.prefetch import Priority


class Flight:
    """Blocks of one object on their way."""

    __slots__ = (
        *("_waiters", "asked", "done", "error", "expected", "guard", "has_pilot", "is_begun", "is_guess"),
        *("is_reserved", "limit_s", "obj", "part", "priority", "run", "scope", "seen", "span"),
    )

    def __init__(self, obj: ObjectRecord, run: Run, span: Span, priority: Priority, asked: Run) -> None:
        self.obj = obj
        self.run = run
        self.asked = asked
        """What somebody waits for; the rest of the run was added to it."""
        self.span = span
        self.priority = priority
        self.has_pilot = False
        """A task sees to it, or is about to."""
        self.is_reserved = False
        """The budget holds its bytes."""
        self.is_begun = False
        """The store was told to begin before the flight's task was there."""
        self.is_guess = False
        """As its want."""
        self.expected: Checksums = None
        """The manifest's checksums of the run."""
        self.seen: list[int] = []
        """Checksums of the blocks that are verified, from the first on."""
        self.part: Part | None = None
        """Where the bytes are; None until the first have arrived."""
        self.guard: memoryview | None = None
        """A view of the part's buffer: while anyone has the flight, the buffer is not used again."""
        self.scope = trio.CancelScope()
        """Around its task's work: cancelled, the flight fails, and whoever waits for it asks again."""
        self.limit_s = math.inf
        """How long it may take; of a background flight, until the next blocks arrive."""
        self.error: GridfsError | None = None
        self.done = False
        self._waiters: list[tuple[int, trio.Event]] = []

    @property
    def ready_block(self) -> int:
        """Behind the last block that may be read."""
        return self.run.first + len(self.seen)

    def extend(self) -> None:
        """It has all of its time from now on."""
        self.scope.deadline = trio.current_time() + self.limit_s

    async def wait_for(self, stop: int) -> None:
        """Returns once the blocks before *stop* are verified, or the flight is over."""
        if self.done or self.ready_block >= stop:
            return
        event = trio.Event()
        waiter = (stop, event)
        self._waiters.append(waiter)
        try:
            await event.wait()
        except trio.Cancelled:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def wake(self) -> None:
        """Wakes those whose blocks are there; all of them when the flight is over."""
        if not self._waiters:
            return
        ready = self.ready_block
        still = []
        for stop, event in self._waiters:
            if self.done or stop <= ready:
                event.set()
            else:
                still.append((stop, event))
        self._waiters = still
