"""What to fetch next, from the history of reads on the tape. Pure: no clock, no store, no task.

Streams. A read that begins where an earlier one ended continues its stream; large files, and small files read in tree
order, look the same here, because the tape is in tree order. Streams are matched by position and not by file handle:
many processes read one file, and one process reads many. The second read of a stream opens a window ahead of it (the
third while most reads are far from all streams): 1 MiB at first, doubled when the reader had to wait (at most once
for each half window it has read, since the kernel sends several requests at once), refilled when half of it is used,
and capped by a share of the memory budget that all streams divide.

Dense-random. Reads that continue no stream are counted by region of the tape (64 MiB: a pack, or as many small objects
of a bucket). Once at least four misses in a region have asked for an eighth of it (of a 64th where files are small),
the rest is wanted too, behind everything that someone waits for: a shuffled epoch gets there with its first files, and
looking up some places in a large file does not (docs/decisions/dense-random.md). Whether such a fill is allowed is a
rule of its own (`may_fill`): only while what the version still lacks fits the cache without evicting anything.
Simulated over shuffled epochs, a cache of 1.2 times the dataset then fetches every byte once; without the rule a cache
of 0.9 times would fetch 7 times the dataset, and one of half its size 76 times.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from gridfs.config import MIB, PACK_SIZE_BYTES, PART_SIZE_BYTES
from gridfs.read.plan import Run

FIRST_WINDOW_BYTES = 1 * MIB
"""What the kernel's read-ahead asks for at once; more would be wasted on a file that is only looked into."""

LARGEST_WINDOW_BYTES = 96 * MIB
"""Twelve parts of 8 MiB. Six to twelve are in flight, since a window is refilled when half of it is used: at 15 ms and
90 MB/s for each connection 0.55 GB/s (with eight parts 0.44; with sixteen no more)."""

PARTS_PER_WINDOW = 4
"""Of a window too short for parts of 8 MiB, which is that of a reader who seldom waits. With eight, 5,000 files in tree
order were 225 requests, and 2 to 12 % slower from RGW; with two, a store behind 15 ms gave 7 % less."""

STREAM_LIMIT = 32
"""Streams remembered. Each random read opens one, so the limit is also how long a slow stream survives among them."""

STEPS_BEFORE_SLACK = 4
"""A stream this old may skip files and ask out of order; a younger one must go on within two reads of its end, for
among random reads some follow another by chance, and with slack such a stream would live on by chance too (that was a
quarter of all bytes fetched in a shuffled epoch)."""

STRAYS_LIMIT = 32
STRAYS_AT_RANDOM = 16
STEPS_AT_RANDOM = 2
"""Of a stream before its first window, while most reads are far from all streams; elsewhere one. Among reads at random
some follow another by chance: one of 140 reads of 256 KiB in 2 GiB, and its window cost as much as five of them; a
shuffled epoch with a cache of a quarter of the data fetched 2 % for windows that nobody used."""

MISSES_BEFORE_FILL = 4
DENSE_SHARE = 1 / 8
"""Of a region, what misses must have asked for: 8 MiB. Random reads of 256 KiB in a large file took 6 times as long
when the fourth miss filled its region of 64 MiB."""

SMALL_FILE_BYTES = 1 * MIB
DENSE_SHARE_OF_SMALL_FILES = 1 / 64
"""In a version whose files are small in the mean, a miss is a whole file, and nobody reads some places of it: nine
files of ImageNet's size out of 600 are enough. With an eighth, an eighth of all files cost a request each."""

REGION_LIMIT = 4096
"""Regions counted: 256 GiB of tape."""


class Outcome(Enum):
    """How a read found its blocks."""

    HIT = "hit"
    """All there."""
    WAIT = "wait"
    """On their way already."""
    MISS = "miss"
    """Something had to be asked for."""


class Priority(IntEnum):
    """Who waits for a fetch; the lower, the more urgent."""

    FOREGROUND = 0
    WINDOW = 1
    FILL = 2
    WARM = 3
    """The whole version is wanted on disk; of no use in memory once it is there."""


class Want(NamedTuple):
    """Blocks of the tape that should be fetched in the background, as far as they are lacking."""

    run: Run
    priority: Priority
    part_size_bytes: int
    is_guess: bool = False
    """A window of a stream so young that random reads may have made it by chance: nobody else is told of its bytes."""


@dataclass(slots=True)
class Stream:
    """A reader's position on the tape, and how far ahead of it was asked for. In blocks."""

    position: int
    """Behind the furthest block read."""
    issued: int
    window: int = 0
    """0: not yet confirmed by a second read."""
    steps: int = 0
    """Reads that went on where the one before had ended."""
    grow_from: int = 0
    """Position from which a stall doubles the window again."""


class Prefetcher:
    """Told every read, answers what to fetch. Modes: `auto`; `none`: nothing; `all`: as auto (the rest comes from a
    warmer).
    """

    def __init__(
        self, *, block_size_bytes: int, block_count: int, budget_bytes: int, mean_file_bytes: int, mode: str = "auto"
    ) -> None:
        self._block_size_bytes = block_size_bytes
        self._block_count = block_count
        self._first_window = max(1, FIRST_WINDOW_BYTES // block_size_bytes)
        self._all_windows = max(self._first_window, budget_bytes // 2 // block_size_bytes)
        self._largest_window = min(self._all_windows, max(1, LARGEST_WINDOW_BYTES // block_size_bytes))
        self._slack = self._first_window
        self._region = max(1, PACK_SIZE_BYTES // block_size_bytes)
        share = DENSE_SHARE_OF_SMALL_FILES if mean_file_bytes < SMALL_FILE_BYTES else DENSE_SHARE
        self._dense_blocks = self._region * share
        self._active = mode != "none"
        self._streams: list[Stream] = []
        self._misses: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """Misses and blocks missed, by region."""
        self._dense: set[int] = set()
        """Regions whose fill was asked for; for ever, since what is read at random once is read so again."""
        self._strays = 0
        """Reads far from all streams, less those that went on in a window; 0 to STRAYS_LIMIT."""

    @property
    def streams(self) -> Sequence[Stream]:
        """The most recently used first."""
        return tuple(self._streams)

    def observe(self, first: int, stop: int, outcome: Outcome) -> Sequence[Want]:
        """Blocks *first* to *stop* of the tape are read by someone; what should be fetched next, the nearest first."""
        if not self._active:
            return ()
        streams = self._streams
        near = 2 * (stop - first)
        for index, stream in enumerate(streams):
            if stream.steps >= STEPS_BEFORE_SLACK:
                matches = stream.position - self._slack <= first <= max(stream.position, stream.issued) + self._slack
            elif stream.steps:
                matches = stream.position - near <= first <= stream.position + near
            else:
                matches = stream.position - 1 <= first <= stream.position
            if matches:
                if index:
                    del streams[index]
                    streams.insert(0, stream)
                if stream.window:
                    self._strays = max(0, self._strays - 1)
                return self._continue(stream, stop, outcome) if stop > stream.position else ()
        if not any(abs(first - stream.position) <= self._slack for stream in streams):
            self._strays = min(STRAYS_LIMIT, self._strays + 1)
        streams.insert(0, Stream(position=stop, issued=stop))
        if len(streams) > STREAM_LIMIT:
            streams.pop()
        return self._count_miss(first, stop) if outcome is Outcome.MISS else ()

    def is_dense(self, block: int) -> bool:
        """Whether the region of this block of the tape was found dense, and its fill allowed."""
        return block // self._region in self._dense

    def deny(self, run: Run) -> None:
        """The fill of *run* is not allowed: its region is counted from zero again."""
        self._dense.discard(run.first // self._region)

    def _continue(self, stream: Stream, stop: int, outcome: Outcome) -> Sequence[Want]:
        stream.position = stop
        stream.steps += 1
        if not stream.window:
            if stream.steps < STEPS_AT_RANDOM and self._strays >= STRAYS_AT_RANDOM:
                return ()
            stream.window = self._first_window
            stream.grow_from = stop
            self._merge_into(stream)
        if outcome is not Outcome.HIT and stop >= stream.grow_from:
            stream.grow_from = stop + stream.window // 2
            stream.window *= 2
        stream.window = max(self._first_window, min(stream.window, self._cap()))
        ahead = stream.issued - stop
        if ahead > stream.window // 2:
            return ()
        start = max(stream.issued, stop)
        end = min(stop + stream.window, self._block_count)
        if end <= start:
            return ()
        stream.issued = end
        window_bytes = stream.window * self._block_size_bytes
        part_bytes = max(FIRST_WINDOW_BYTES, min(PART_SIZE_BYTES, window_bytes // PARTS_PER_WINDOW))
        part_bytes = 1 << part_bytes.bit_length() - 1  # so that 8 MiB are cut into equal parts
        return (Want(Run(start, end), Priority.WINDOW, part_bytes, is_guess=stream.steps < STEPS_BEFORE_SLACK),)

    def _cap(self) -> int:
        """Blocks that one window may be long: its share of what all may hold."""
        confirmed = sum(1 for stream in self._streams if stream.window)
        return min(self._largest_window, self._all_windows // max(1, confirmed))

    def _merge_into(self, stream: Stream) -> None:
        """Requests of one reader that came out of order have opened streams side by side: one goes on."""
        low, high = stream.position - self._slack, stream.position + self._slack
        self._streams = [
            other for other in self._streams if other is stream or other.window or not low <= other.position <= high
        ]

    def _count_miss(self, first: int, stop: int) -> Sequence[Want]:
        region = first // self._region
        if region in self._dense:
            return ()
        misses, blocks = self._misses.pop(region, (0, 0))
        misses, blocks = misses + 1, blocks + stop - first
        if misses < MISSES_BEFORE_FILL or blocks < self._dense_blocks:
            self._misses[region] = (misses, blocks)
            if len(self._misses) > REGION_LIMIT:
                self._misses.popitem(last=False)
            return ()
        self._dense.add(region)
        run = Run(region * self._region, min((region + 1) * self._region, self._block_count))
        return (Want(run, Priority.FILL, PART_SIZE_BYTES),)


def may_fill(*, lacking_bytes: int, room_bytes: int) -> bool:
    """Whether a fill pays: all that the version lacks fits the cache without evicting anything."""
    return lacking_bytes <= room_bytes
