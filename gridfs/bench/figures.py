"""Figures of a measurement: quantiles of latencies and rates, pure records that JSON and tables are made of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

QUANTILES = (0.5, 0.9, 0.99, 0.999)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value of *ordered* (ascending, not empty) that at least *share* of the values don't exceed.

    Nearest rank and no interpolation: a figure that was really measured, and p99.9 of 500 values is their largest.
    """
    rank = -(-share * len(ordered) // 1)  # ceiling
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def median(values: Sequence[float]) -> float:
    """Of a few rounds: the middle one, or the mean of the middle two."""
    return statistics.median(values)


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of one kind of access, in microseconds."""

    access: str
    """What was timed: `open to first byte`, `open, read, close`, ..."""
    state: str
    """`cold` or `warm`."""
    count: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    ordered_us: tuple[float, ...] = ()
    """All values, ascending, for a plot."""

    @classmethod
    def of(cls, access: str, state: str, seconds: Sequence[float]) -> Latency:
        ordered = tuple(sorted(value * 1e6 for value in seconds))
        p50, p90, p99, p999 = (quantile(ordered, share) for share in QUANTILES)
        return cls(access, state, len(ordered), p50, p90, p99, p999, ordered)


@dataclass(frozen=True, slots=True)
class Rate:
    """Throughput of one pass."""

    access: str
    """`files in tree order`, `files shuffled`, `sequential`."""
    state: str
    readers: int
    files: int
    size_bytes: int
    elapsed_s: float

    @property
    def files_per_s(self) -> float:
        return self.files / self.elapsed_s

    @property
    def gb_per_s(self) -> float:
        return self.size_bytes / self.elapsed_s / 1e9
