"""Windows and fills: wants on the tape, turned into flights by a few workers for each priority.

A want is planned when a worker takes its next part and not when it is asked for: by then readers may have fetched some
of it. Workers of windows and of fills have queues of their own, and neither stands before a reader who waits. A worker
takes memory from the background's share of the budget before it starts, so that what is queued costs nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

import trio

from gridfs.cache.buffers import area_bytes
from gridfs.errors import GridfsError
from gridfs.model import ObjectRecord
from gridfs.read.block_map import BlockMap
from gridfs.read.budget import Budget
from gridfs.read.fetch import Fetcher
from gridfs.read.layout import Layout
from gridfs.read.plan import Run, objects_of, parts_of, to_whole_part
from gridfs.read.prefetch import FIRST_WINDOW_BYTES, Priority, Want

logger = logging.getLogger(__name__)

WORKERS = {Priority.WINDOW: 32, Priority.FILL: 16, Priority.WARM: 16}
"""Windows: 32 small objects of a bucket at 15 ms each are 2,100 a second. Fills and warming: each small object of a
bucket is a request, and 16 at 15 ms are 1,000 a second; with 24, readers waited behind them. A shuffled epoch of packs,
15 ms and 90 MB/s a connection: 1,800 to 2,400 files/s with 8 fills at once, 2,200 to 2,700 with 16."""

QUEUED_WANTS = 1024
"""For each priority; the oldest window is dropped first, since its reader may be gone, and the newest fill."""


class Background:
    """Fetches what is wanted and lacking, until cancelled."""

    def __init__(self, layout: Layout, fetcher: Fetcher, block_map: BlockMap, budget: Budget) -> None:
        self._layout = layout
        self._block_size_bytes = layout.info.block_size_bytes
        self._fetcher = fetcher
        self._block_map = block_map
        self._budget = budget
        self._queues: dict[Priority, deque[_Job]] = {priority: deque() for priority in WORKERS}
        self._parked = {priority: trio.lowlevel.ParkingLot() for priority in WORKERS}

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted and nothing on its way."""
        return not any(self._queues.values()) and all(len(self._parked[kind]) == WORKERS[kind] for kind in WORKERS)

    def submit(self, want: Want) -> None:
        """Queues *want*; never waits."""
        queue = self._queues[want.priority]
        if len(queue) >= QUEUED_WANTS:
            dropped = queue.popleft() if want.priority is Priority.WINDOW else queue.pop()
            dropped.ended.set()
        queue.append(_Job(want, self._plan(want)))
        self._parked[want.priority].unpark()

    async def finish(self, want: Want) -> None:
        """Queues *want*, and returns when all of it that was lacking has come or failed."""
        job = _Job(want, self._plan(want))
        self._queues[want.priority].append(job)
        self._parked[want.priority].unpark()
        await job.ended.wait()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for priority, count in WORKERS.items():
                for number in range(count):
                    nursery.start_soon(self._work, priority, name=f"{priority.name.lower()} worker {number}")

    async def _work(self, priority: Priority) -> None:
        queue, parked = self._queues[priority], self._parked[priority]
        while True:
            if not queue:
                await parked.park()
                continue
            job = queue[0]
            part = job.take()
            if part is None:
                queue.popleft()
                continue
            parked.unpark()  # one more worker for the next part, and not all of them for each want
            try:
                await self._fetch(*part, job.want)
            finally:
                job.done()

    async def _fetch(self, obj: ObjectRecord, run: Run, want: Want) -> None:
        span = self._block_map.span(obj, run)
        size_bytes = area_bytes(span.size_bytes)
        if want.priority is Priority.FILL and self._block_map.is_on_disk(span):
            if not self._budget.has_room(size_bytes):
                return
        elif want.priority is not Priority.WINDOW:
            await self._fetcher.wait_for_disk(size_bytes)
        await self._budget.reserve(size_bytes, background=True)
        still = self._block_map.takeable(obj, run)  # while this waited for memory, readers may have fetched some of it
        if still is None:
            self._budget.release(size_bytes)
            return
        self._budget.release(size_bytes - area_bytes(self._block_map.span(obj, still).size_bytes))
        await self._fetcher.launch(obj, still, want).wait_for(run.stop + 1)

    def _plan(self, want: Want) -> Iterator[tuple[ObjectRecord, Run]]:
        """The lacking parts of *want*, each decided when it is taken.

        A window lacks what is on disk only, too: someone will read it within a second, and the disk gives whole parts
        twice as fast as a read of each file. One with large parts goes on to the end of its last: cut wherever a window
        ended, 2 GiB were 450 requests instead of 260, in as many sizes of buffers as there are.

        A fill of what is all on disk loads it, as far as memory has room. Where some is absent, the rest is left there:
        as a rule it has been read just now.
        """
        if want.priority is Priority.WINDOW:
            yield from self._lacking(want, self._block_map.not_in_memory)
            return
        is_on_disk = True
        for found in self._lacking(want, self._block_map.absent):
            is_on_disk = False
            yield found
        if is_on_disk and want.priority is Priority.FILL:
            yield from self._lacking(want, self._block_map.only_on_disk)

    def _lacking(
        self, want: Want, lacks: Callable[[ObjectRecord, Run], Iterator[Run]]
    ) -> Iterator[tuple[ObjectRecord, Run]]:
        size = self._block_size_bytes
        ends_whole = want.priority is Priority.WINDOW and want.part_size_bytes > FIRST_WINDOW_BYTES
        for obj, blocks in objects_of(want.run, self._layout.object_at_block, size):
            if ends_whole:
                blocks = to_whole_part(blocks, obj.block_count(size), size, want.part_size_bytes)
            for part in parts_of(blocks, size, want.part_size_bytes):
                yield from ((obj, run) for run in lacks(obj, part))


class _Job:
    """A want, and how far it has come."""

    __slots__ = ("_all_taken", "_parts", "_under_way", "ended", "want")

    def __init__(self, want: Want, parts: Iterator[tuple[ObjectRecord, Run]]) -> None:
        self.want = want
        self.ended = trio.Event()
        self._parts = parts
        self._all_taken = False
        self._under_way = 0

    def take(self) -> tuple[ObjectRecord, Run] | None:
        """The next part, of which `done` has to be said; None when there is none any more."""
        try:
            part = next(self._parts, None)
        except GridfsError as error:  # of the manifest: readers will find it, and whoever reads elsewhere goes on
            logger.warning("nothing is fetched ahead here: %s", error)
            part = None
        if part is None:
            self._all_taken = True
            self._end_if_over()
        else:
            self._under_way += 1
        return part

    def done(self) -> None:
        """A part has come or failed."""
        self._under_way -= 1
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._all_taken and not self._under_way:
            self.ended.set()
