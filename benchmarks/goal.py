"""What a goal is: a ratio of medians of one run and its bound, judged without anyone's help.

A goal compares what gridfs reached with the best (or the only) of those it is measured by. `at most` and `at least`
bound the ratio of the two; where a goal is absolute, its reference is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.model import Record

Value = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of a table of goals."""

    workload: str
    text: str
    bound: str
    """`at most` or `at least`."""
    limit: float
    ours: Value
    theirs: Value
    """What ours is divided by."""
    unit: str = "x"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal as it turned out; *met* is None when something was not measured."""

    goal: Goal
    ours: float | None
    theirs: float | None
    ratio: float | None
    met: bool | None


def figure(workload: str, setting: str, subjects: str | Sequence[str], metric: str, *, highest: bool = True) -> Value:
    """The best of *subjects* in *metric*; None when none of them was measured."""
    names = [subjects] if isinstance(subjects, str) else subjects

    def value(record: Record) -> float | None:
        found = [record.median(workload, setting, name, metric) for name in names]
        known = [one for one in found if one is not None]
        return (max(known) if highest else min(known)) if known else None

    return value


def constant(number: float) -> Value:
    return lambda record: number


def plus(value: Value, number: float) -> Value:
    def total(record: Record) -> float | None:
        found = value(record)
        return None if found is None else found + number

    return total


def total(first: Value, second: Value) -> Value:
    def added(record: Record) -> float | None:
        a, b = first(record), second(record)
        return None if a is None or b is None else a + b

    return added


def judge(goal: Goal, record: Record) -> Verdict:
    """Whether *goal* is met by the medians of *record*."""
    ours, theirs = goal.ours(record), goal.theirs(record)
    if ours is None or not theirs:
        return Verdict(goal, ours, theirs, None, None)
    ratio = ours / theirs
    met = ratio <= goal.limit if goal.bound == "at most" else ratio >= goal.limit
    return Verdict(goal, ours, theirs, ratio, met)
