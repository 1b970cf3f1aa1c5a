"""Parts that wait to be written to the disk tier: as many as may wait, and in batches.

take           puts a part in, unless the queue is full: a reader never waits for a write
next_batch     large parts at once; small ones when many have gathered, or after a while, or somebody waits for the end
done           a batch is written or dropped: its buffers are no longer needed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from gridfs.cache.base import Span
from gridfs.cache.buffers import LARGE_FROM_BYTES
from gridfs.cache.memory import Part
from gridfs.config import MIB, PART_SIZE_BYTES

WRITE_AFTER_S = 0.005
"""Between taking a part and writing it: the reader's answer goes first. Two writers with parts of 8 MiB still write
3 GB/s."""

BATCH_BYTES = PART_SIZE_BYTES
BATCH_PARTS = 128
"""Written in one turn of a thread. Each small object of a bucket has a file, which is open until all of its batch is
written."""

GATHER_S = 2.0
GATHER_BYTES = 64 * MIB
GATHER_PARTS = 1024
"""Small parts wait until so many of them have come (at most half of the bytes that may wait), or so long. Who reads at
random waits for each of them, and what is written meanwhile is taken from that (docs/decisions/part-buffers.md)."""

QUEUE_LIMIT_BYTES = 64 * MIB
"""Parts waiting to be written; they are pinned in memory. A reader with a larger budget raises it."""


class Write(NamedTuple):
    """A part that is to be written."""

    span: Span
    part: Part
    checksums: Sequence[int]
    on_written: Callable[[], None]


class WriteQueue:
    """For trio's thread."""

    def __init__(self, limit_bytes: int = QUEUE_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.queued_bytes = 0
        """Waiting or being written."""
        self.is_closed = False
        """Nothing is written any more: nobody should wait for room."""
        self._waiting: deque[Write] = deque()
        self._waiting_bytes = 0
        self._due_bytes = 0
        """Of those at the front: what need not gather any longer."""
        self._drainers = 0
        self._parked = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()

    def take(self, item: Write) -> bool:
        """Whether there was room for it."""
        size_bytes = item.span.size_bytes
        if self.queued_bytes + size_bytes > self.limit_bytes:
            return False
        self._waiting.append(item)
        self.queued_bytes += size_bytes
        self._waiting_bytes += size_bytes
        if self._is_enough(size_bytes):
            self._due_bytes = self._waiting_bytes
        if len(self._waiting) == 1 or self._due_bytes:
            self._parked.unpark()
        return True

    def abandon(self, part: Part) -> int:
        """Takes *part* out, if it still waits; its `on_written` is called. How many bytes are no longer waiting."""
        item = next((item for item in self._waiting if item.part is part), None)
        if item is None:
            return 0
        self._waiting.remove(item)
        self._waiting_bytes -= item.span.size_bytes
        self._due_bytes = min(self._due_bytes, self._waiting_bytes)
        self.done([item])
        return item.span.size_bytes

    async def next_batch(self) -> list[Write]:
        """Waits for the next batch, for which `done` must be called; empty when another writer was faster."""
        while not self._waiting:
            await self._parked.park()
        await trio.sleep(WRITE_AFTER_S)
        with trio.move_on_after(GATHER_S):
            while self._waiting and not self._due_bytes and not self._drainers:
                await self._parked.park()
        if not self._due_bytes:
            self._due_bytes = self._waiting_bytes
        return self._batch()

    def rest(self) -> list[Write]:
        """As next_batch, of what has gathered when no more will come, and at once. Nothing of a backlog."""
        return self._batch() if self._waiting_bytes <= BATCH_BYTES or not self._due_bytes else []

    def done(self, batch: Sequence[Write]) -> None:
        """The items of *batch* were written or dropped."""
        for item in batch:
            self.queued_bytes -= item.span.size_bytes
            item.on_written()
        self._written.unpark_all()

    async def wait_for_room(self, size_bytes: int) -> None:
        """Returns when *size_bytes* more may wait; a part larger than the queue needs none."""
        while self._waiting and self.queued_bytes + size_bytes > self.limit_bytes and not self.is_closed:
            await self._written.park()

    async def drain(self) -> None:
        """Returns when everything that was taken has been written or dropped."""
        self._drainers += 1
        self._parked.unpark_all()
        try:
            while self.queued_bytes:
                await self._written.park()
        finally:
            self._drainers -= 1

    def _is_enough(self, size_bytes: int) -> bool:
        """Whether what waits may be written now that a part of this size has come."""
        enough_bytes = BATCH_BYTES if size_bytes >= LARGE_FROM_BYTES else min(GATHER_BYTES, self.limit_bytes // 2)
        return self._waiting_bytes >= enough_bytes or len(self._waiting) >= GATHER_PARTS

    def _batch(self) -> list[Write]:
        batch: list[Write] = []
        batch_bytes = 0
        while self._waiting and batch_bytes < BATCH_BYTES and len(batch) < BATCH_PARTS:
            batch.append(self._waiting.popleft())
            batch_bytes += batch[-1].span.size_bytes
        self._waiting_bytes -= batch_bytes
        self._due_bytes = max(0, self._due_bytes - batch_bytes)
        return batch
