"""Failures are remembered for some seconds, block by block: the kernel asks a failed buffered read twice."""

from __future__ import annotations

import trio

from gridfs.errors import GridfsError
from gridfs.read.flight import Flight
from gridfs.read.plan import Run

FAILURE_MEMORY_S = 3.0
"""The kernel's second try of a failed read, and a program's own, come within this; then the store is asked again."""

FAILURE_LIMIT = 10_000
"""Blocks whose failure is remembered."""


class Failures:
    """What failed lately, by (identity, block)."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, int], tuple[float, GridfsError]] = {}

    def remember(self, flight: Flight) -> None:
        """The blocks of *flight* that were asked for and did not come."""
        if flight.error is None:
            return
        if len(self._failures) > FAILURE_LIMIT:
            self._failures.clear()
        until_s = trio.current_time() + FAILURE_MEMORY_S
        for block in range(flight.ready_block, flight.asked.stop):
            self._failures[flight.obj.identity, block] = (until_s, flight.error)

    def raise_if_any(self, identity: str, run: Run) -> None:
        """Raises the failure of the first block of *run* that has one."""
        if not self._failures:
            return
        for block in range(run.first, run.stop):
            failure = self._failures.get((identity, block))
            if failure is None:
                continue
            if trio.current_time() < failure[0]:
                raise again(failure[1])
            del self._failures[identity, block]


def again(error: GridfsError) -> GridfsError:
    """A copy of *error* for one more reader: raised twice, one instance would gather the tracebacks of all."""
    copy = type(error)(error.message, remedy=error.remedy)
    copy.__cause__ = error
    return copy
