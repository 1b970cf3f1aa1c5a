"""Where the blocks of a version are now: in memory, on their way, on disk, or nowhere but in the store.

    survey                                a run cut by who has its blocks: for a reader, who takes what is there
    absent, only_on_disk, not_in_memory   what of a run may have to be fetched: for windows, fills and warming
    takeable                              what of that is still to be fetched once there is memory for it

It says so from tables, at once, and fetches nothing: fetch.py does. An answer holds until the next await. Of memory and
of flights it is exact; of the disk tier it is what `BlockCache.present` promises, which is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from gridfs.cache.base import Span
from gridfs.cache.memory import Part
from gridfs.cache.tiered import TieredCache
from gridfs.model import ObjectRecord
from gridfs.read.flight import Flight
from gridfs.read.plan import Run, lacking, parts_of

GAP_BLOCKS = 4
"""Blocks that are there already and are fetched again to keep a background part whole: a request costs a server as much
as 1 MiB of transfer (1.4 ms), and blocks that readers fetched one by one would cut a fill into small pieces."""


class BlockMap:
    """The blocks of all objects, by (identity of the object, number of the block in it). Used from one thread."""

    def __init__(self, block_size_bytes: int, cache: TieredCache) -> None:
        self._block_size_bytes = block_size_bytes
        self._cache = cache
        self._parts = cache.memory.blocks
        self.flights: dict[tuple[str, int], Flight] = {}
        """What is on its way; of each block one flight (invariant 5)."""

    def add_flight(self, flight: Flight) -> None:
        """All blocks of *flight* are on their way."""
        for block in range(flight.run.first, flight.run.stop):
            self.flights[flight.obj.identity, block] = flight

    def remove_flight(self, flight: Flight) -> None:
        """The flight is over: its blocks are in memory, or may be asked for again."""
        for block in range(flight.run.first, flight.run.stop):
            self.flights.pop((flight.obj.identity, block), None)

    def span(self, obj: ObjectRecord, run: Run) -> Span:
        """*run* of *obj*, as the caches name it."""
        return Span(obj.identity, obj.size_bytes, self._block_size_bytes, run.first, run.stop)

    def known(self, obj: ObjectRecord, block: int) -> bool:
        """Whether a block is in memory or on its way."""
        key = (obj.identity, block)
        return key in self._parts or key in self.flights

    def is_on_disk(self, span: Span) -> bool:
        """Whether the disk tier has all of *span*, which lies in one part, as far as is known."""
        return self._cache.present(span) == span.stop - span.first

    def survey(self, obj: ObjectRecord, run: Run) -> Iterator[tuple[Run, Part | Flight | None]]:
        """Cuts *run* by where its blocks are: a part in memory, a flight, or nowhere."""
        identity = obj.identity
        first = run.first
        current: Part | Flight | None = None
        for block in range(run.first, run.stop):
            key = (identity, block)
            source: Part | Flight | None = self._parts.get(key) or self.flights.get(key)
            if block > first and source is not current:
                yield Run(first, block), current
                first = block
            current = source
        if run.stop > first:
            yield Run(first, run.stop), current

    def lacking(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """The maximal runs within *run* that are neither in memory nor on their way, in order."""
        return lacking(run, lambda block: self.known(obj, block))

    def absent(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """What of *run* is neither in memory nor on its way nor, as far as is known, on disk; small gaps are closed."""
        held: Run | None = None
        for cut, is_on_disk in self._lacking_cuts(obj, run):
            if is_on_disk:
                continue
            if held is not None and cut.first - held.stop > GAP_BLOCKS:
                yield held
                held = None
            held = cut if held is None else Run(held.first, cut.stop)
        if held is not None:
            yield held

    def only_on_disk(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """What of *run* is on disk, and neither in memory nor on its way."""
        return (cut for cut, is_on_disk in self._lacking_cuts(obj, run) if is_on_disk)

    def not_in_memory(self, obj: ObjectRecord, run: Run) -> Iterator[Run]:
        """What of *run* is neither in memory nor on its way; what is on disk apart from what is not."""
        return (cut for cut, _ in self._lacking_cuts(obj, run))

    def takeable(self, obj: ObjectRecord, run: Run) -> Run | None:
        """What of *run* a background flight may fetch now: from its first lacking block to one on its way."""
        identity, first, stop = obj.identity, None, run.first
        for block in range(run.first, run.stop):
            if (identity, block) in self.flights:
                if first is not None:
                    break
            elif (identity, block) not in self._parts:
                first = block if first is None else first
                stop = block + 1
        return None if first is None else Run(first, stop)

    def cuts(self, obj: ObjectRecord, run: Run) -> Iterator[tuple[Run, bool]]:
        """The parts of *run*, none of which is in memory or on its way: what the disk tier has apart from what it has
        not; and whether it has it.
        """
        for part in parts_of(run, self._block_size_bytes):
            first = part.first
            while first < part.stop:
                there = self._cache.present(self.span(obj, Run(first, part.stop)))
                stop = first + (there or 1)
                while not there and stop < part.stop and not self._cache.present(self.span(obj, Run(stop, stop + 1))):
                    stop += 1
                yield Run(first, stop), bool(there)
                first = stop

    def _lacking_cuts(self, obj: ObjectRecord, run: Run) -> Iterator[tuple[Run, bool]]:
        """As `cuts`, of what of *run* is neither in memory nor on its way."""
        for gap in self.lacking(obj, run):
            yield from self.cuts(obj, gap)
