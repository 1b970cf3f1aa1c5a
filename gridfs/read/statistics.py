"""What a reader counts, for `grid status` and for benchmarks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gridfs.cache.base import DiskStatistics
from gridfs.read.prefetch import Priority


@dataclass(slots=True)
class FlightCounts:
    """What flights did since the start, by their priority."""

    gets: Counter[Priority] = field(default_factory=Counter)
    """Those that the store answered whole."""
    fetched_bytes: Counter[Priority] = field(default_factory=Counter)
    """Of these GETs."""
    failed: Counter[Priority] = field(default_factory=Counter)
    """From wherever their bytes should have come."""
    mismatches: int = 0
    """Blocks from the store that differed from their checksum, and were fetched again."""


@dataclass(frozen=True, slots=True)
class ReaderStatistics:
    """What a reader did since its start."""

    reads_from_memory: int
    reads_from_disk: int
    reads_waited: int
    """For bytes that were on their way, or had to be asked for."""
    gets: dict[str, int]
    """GETs by priority."""
    fetched_bytes: dict[str, int]
    """By priority."""
    failed: dict[str, int]
    """Flights that failed, by priority."""
    mismatches: int
    """Blocks from the store that differed from their checksum."""
    memory_limit_bytes: int
    memory_used_bytes: int
    memory_in_flight_bytes: int
    memory_peak_bytes: int
    disk: DiskStatistics
