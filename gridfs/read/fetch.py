"""Fetching: one flight for each block, priorities, verify then publish.

    collect(object, run)        pieces that cover the run, and one flight for each part that is lacking
      block_map.py              says what is in memory, on its way, on disk, or lacking
      a flight                  the store begins with what a reader waits for before anything else is done
        carry.py                brings its bytes, verifies and publishes them

A reader flies itself what it wants all of: another task would cost a tenth of a cold read. What goes beyond a read, and
several parts of one, are tasks in the reader's nursery. Nobody's cancellation ends another's read: who waits for a
pilot that was cancelled asks again.

A flight that someone waits for has a limiter of its own and never stands behind windows and fills (invariant 9). When
a background flight fails, those who joined it ask for themselves; when a foreground flight fails, its error is theirs,
and the blocks remember it for some seconds, because the kernel asks a failed buffered read twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from gridfs.cache.buffers import area_bytes
from gridfs.cache.memory import Part
from gridfs.cache.tiered import TieredCache
from gridfs.config import PART_SIZE_BYTES
from gridfs.errors import GridfsError, ReadTimeout
from gridfs.model import ObjectRecord
from gridfs.read.block_map import BlockMap
from gridfs.read.budget import Budget
from gridfs.read.carry import Carrier
from gridfs.read.failures import Failures, again
from gridfs.read.flight import Flight
from gridfs.read.layout import Layout
from gridfs.read.pieces import Joined, Piece, without_pilot
from gridfs.read.plan import Run
from gridfs.read.prefetch import Priority, Want
from gridfs.store.base import ObjectStore
from gridfs.store.limit import Limit

logger = logging.getLogger(__name__)

FOREGROUND_FLIGHTS = 64
"""Twice the readers that one node's data loaders usually have."""

FOREGROUND_TIME_SHARE = 0.997
"""Of the time that a read may take, how long a flight for it may: over before the deadline of the reader that flies it,
it has failed, and is remembered so."""

BACKGROUND_TIME_SHARE = 0.5
"""Of the same time, how long a background flight may bring no block: with a limit for all of it, sixteen parts of 8 MiB
over 100 Mbit/s all failed at the last MiB, and were fetched in vain. Who joins one that hangs has the other half of the
time for an attempt of their own."""


class Fetcher(Carrier):
    """Brings blocks into memory. Its flights run in *nursery*; used from one thread."""

    def __init__(
        self,
        *,
        layout: Layout,
        store: ObjectStore,
        key_of: Callable[[ObjectRecord], str],
        cache: TieredCache,
        block_map: BlockMap,
        budget: Budget,
        timeout_s: float,
        on_defect: Callable[[BaseException, str], object],
        is_dense: Callable[[ObjectRecord, int], bool],
        on_landed: Callable[[Flight], None],
    ) -> None:
        super().__init__(layout=layout, store=store, key_of=key_of, cache=cache, block_map=block_map, budget=budget)
        self._timeout_s = timeout_s
        self._on_defect = on_defect
        self._is_dense = is_dense
        self._on_landed = on_landed
        self._foreground = Limit(FOREGROUND_FLIGHTS)
        self._failures = Failures()
        self.last_error: GridfsError | None = None
        """Of the flight that failed last, whoever wanted it."""
        self.nursery: trio.Nursery | None = None

    @property
    def fetched_bytes(self) -> int:
        """By all priorities, since the start."""
        return self.counts.fetched_bytes.total()

    async def prepare(self) -> None:
        """Has the store connect before the first read, which will find whatever is wrong."""
        try:
            await self._store.prepare()
        except Exception as error:  # of whoever provides credentials: it must fail reads and not the mount
            logger.info("%s can't be prepared for the first read: %s", self._store.url, error)

    def forget_error(self) -> None:
        """From here on *last_error* is about what comes."""
        self.last_error = None

    async def collect(self, obj: ObjectRecord, run: Run) -> list[Piece]:
        """Pieces that cover *run* in order, for a reader who waits. Raises GridfsError as the store or the checksums
        have it.
        """
        return await self._collect(obj, run, trio.current_time() + self._timeout_s)

    async def _collect(self, obj: ObjectRecord, run: Run, until_s: float) -> list[Piece]:
        """As `collect`, for a reader whose time is over at *until_s*."""
        pieces: list[Piece] = []
        for item in self._join(obj, run):
            if isinstance(item, Piece):
                pieces.append(item)
                continue
            part_run, flight = item
            if not flight.has_pilot:
                await self._fly(flight)
            elif flight.priority is Priority.FOREGROUND:
                await flight.wait_for(part_run.stop)
            else:
                await self._wait_in_background(flight, part_run.stop, until_s)
            ready = min(part_run.stop, flight.ready_block)
            if flight.part is not None and ready > part_run.first:
                pieces.append(Piece.of(flight.part, Run(part_run.first, ready)))
            if ready >= part_run.stop:
                continue
            was_asked_for = flight.priority is Priority.FOREGROUND and part_run.first < flight.asked.stop
            if flight.error is not None and was_asked_for:
                raise again(flight.error)
            # The pilot was cancelled, or would have brought this unasked: now somebody asks.
            pieces.extend(await self._collect(obj, Run(max(ready, part_run.first), part_run.stop), until_s))
        return pieces

    async def _wait_in_background(self, flight: Flight, stop: int, until_s: float) -> None:
        """As `Flight.wait_for`, for a reader who has joined a background flight; ends one that comes too late for it.

        Half of the reader's time belongs to the flight. Then it goes on only if that half brought no less than what
        still lacks, so that the other half should do; and so again with each half of what is left. One that trickles,
        or stops after a good beginning, is ended while the reader has the time for a request of its own: that asks for
        less, and goes before all background flights. It has to end, for a block has one flight only (invariant 5).
        """
        while not flight.done and flight.ready_block < stop:
            before, now_s = flight.ready_block, trio.current_time()
            with trio.move_on_at(now_s + (until_s - now_s) * BACKGROUND_TIME_SHARE):
                await flight.wait_for(stop)
                return
            if flight.ready_block - before < stop - flight.ready_block:
                flight.scope.cancel()
                await flight.wait_for(stop)

    def _join(self, obj: ObjectRecord, run: Run) -> list[Joined]:
        """Where the blocks of *run* come from, in order. What is lacking has flights now.

        If all of it comes by one new flight, that has no pilot yet: the caller flies it, at once.
        Raises the GridfsError of who asked for the same a moment ago.
        """
        joined: list[Joined] = []
        found = [
            (part_run, Piece.of(source, part_run) if isinstance(source, Part) else source)
            for part_run, source in self._block_map.survey(obj, run)
        ]  # before a flight is started, which may evict what was found
        try:
            for part_run, source in found:
                if isinstance(source, Piece):
                    joined.append(source)
                elif source is not None:
                    joined.append((part_run, source))
                else:
                    self._failures.raise_if_any(obj.identity, part_run)
                    cuts = self._block_map.cuts(obj, part_run)
                    joined.extend((cut, self._start_wide(obj, cut, there)) for cut, there in cuts)
        except BaseException:
            for flight in without_pilot(joined):
                self._land(flight)
            raise
        new = without_pilot(joined)
        if new and (len(joined) > 1 or new[0].run != run):
            for flight in new:
                self._launch(flight)
        return joined

    async def wait_for_disk(self, size_bytes: int) -> None:
        """Returns when the disk tier's queue has room for a part: what fills it must not outrun the disk."""
        await self._cache.wait_for_queue(size_bytes)

    def launch(self, obj: ObjectRecord, run: Run, want: Want) -> Flight:
        """Starts a background flight for blocks of *want* that are lacking; the caller holds the budget's reservation
        for it.
        """
        flight = self._start(obj, run, want.priority, reserved=True)
        flight.is_guess = want.is_guess
        self._launch(flight)
        return flight

    def _start_wide(self, obj: ObjectRecord, run: Run, is_on_disk: bool) -> Flight:
        """A flight for a reader who waits. In a dense region it goes on to the end of the part, if there is memory.

        The reader is answered when the first blocks have arrived, and those who come for the next ones join in: a
        pack comes in a dozen requests instead of hundreds.
        """
        if not self._is_dense(obj, run.first):
            return self._start(obj, run, is_on_disk=is_on_disk)
        per_part = max(1, PART_SIZE_BYTES // self._block_size_bytes)
        end = min((run.first // per_part + 1) * per_part, obj.block_count(self._block_size_bytes))
        whole = next(self._block_map.lacking(obj, Run(run.first, end)), run)
        wide, is_on_disk = next(self._block_map.cuts(obj, whole), (run, is_on_disk))
        size_bytes = area_bytes(self._block_map.span(obj, wide).size_bytes)
        if (
            wide.stop > run.stop
            and (not is_on_disk or self._budget.has_room(size_bytes))
            and self._budget.reserve_nowait(size_bytes, background=True)
        ):
            return self._start(obj, wide, asked=run, reserved=True, is_on_disk=is_on_disk)
        return self._start(obj, run, is_on_disk=is_on_disk)

    def _start(
        self,
        obj: ObjectRecord,
        run: Run,
        priority: Priority = Priority.FOREGROUND,
        *,
        asked: Run | None = None,
        reserved: bool = False,
        is_on_disk: bool = False,
    ) -> Flight:
        flight = Flight(obj, run, self._block_map.span(obj, run), priority, asked or run)
        flight.is_reserved = reserved
        self._block_map.add_flight(flight)
        if priority is Priority.FOREGROUND and not is_on_disk and self._foreground.is_free:
            flight.is_reserved = reserved or self._budget.reserve_nowait(area_bytes(flight.span.size_bytes))
            if flight.is_reserved:
                self._begin(flight)
        return flight

    def _launch(self, flight: Flight) -> None:
        """Gives *flight* a task of its own."""
        if self.nursery is None:
            raise RuntimeError("the reader is not running")
        flight.has_pilot = True
        self.nursery.start_soon(self._fly, flight, name=f"{flight.priority.name.lower()} flight")

    async def _fly(self, flight: Flight) -> None:
        """The life of a flight; settles every error, since one that escaped would end the mount."""
        flight.has_pilot = True
        is_foreground = flight.priority is Priority.FOREGROUND
        flight.limit_s = self._timeout_s * (FOREGROUND_TIME_SHARE if is_foreground else BACKGROUND_TIME_SHARE)
        flight.extend()
        try:
            with flight.scope:
                if is_foreground:
                    async with self._foreground:
                        if not flight.is_reserved:
                            await self._budget.reserve(area_bytes(flight.span.size_bytes))
                            flight.is_reserved = True
                        await self._bring(flight)
                else:
                    await self._bring(flight)
            if flight.scope.cancelled_caught:
                what = "did not answer" if is_foreground else "brought too little"
                flight.error = ReadTimeout(
                    f"{flight.obj.key} of {self._store.url} {what} within {flight.limit_s:g} s",
                    remedy="see whether the store can be reached from this machine",
                )
        except GridfsError as error:
            flight.error = error
        except Exception as error:  # a defect must fail one read and not the mount
            self._on_defect(error, flight.obj.key)
            flight.error = GridfsError(f"gridfs failed to read {flight.obj.key}: {error!r}")
        finally:
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        """The flight is over: its blocks are findable, or may be asked for again."""
        self._block_map.remove_flight(flight)
        if flight.part is not None:
            self._memory.unpin(flight.part)
            if flight.priority is Priority.WARM and not (flight.part.is_queued or flight.part.on_disk):
                self._memory.drop(flight.part)  # else the next pass would find it here, and it would never be written
        elif flight.is_reserved:
            self._budget.release(area_bytes(flight.span.size_bytes))
        if flight.error is not None:
            self.counts.failed[flight.priority] += 1
            self.last_error = flight.error
            if flight.priority is Priority.FOREGROUND:
                self._failures.remember(flight)
        flight.done = True
        flight.wake()
        if flight.ready_block == flight.run.stop:
            try:
                self._on_landed(flight)
            except Exception as error:  # a defect of who is told must fail no read, and not the mount
                self._on_defect(error, flight.obj.key)
