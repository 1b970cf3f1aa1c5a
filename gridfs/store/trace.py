"""Counts what a store does: requests, bytes, seconds and failures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from gridfs.errors import GridfsError
from gridfs.store.base import ObjectStore
from gridfs.store.wrap import Operation, WrappedStore

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreStatistics:
    """Totals since the store was opened, by operation."""

    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    asked_bytes: Counter[str] = field(default_factory=Counter)
    """Of ranges and bodies."""
    busy_s: Counter[str] = field(default_factory=Counter)


class TracedStore(WrappedStore):
    """An ObjectStore that records each attempt in *statistics*, and each failure in the log at level DEBUG."""

    def __init__(self, inner: ObjectStore, statistics: StoreStatistics) -> None:
        super().__init__(inner)
        self.statistics = statistics

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[_T]]) -> _T:
        started_s = trio.current_time()
        totals = self.statistics
        totals.requests[operation.name] += 1
        totals.asked_bytes[operation.name] += operation.size_bytes
        try:
            return await call()
        except GridfsError as error:
            totals.failures[operation.name] += 1
            _log.debug("%s of %s failed: %s", operation.name, operation.key, error)
            raise
        finally:
            totals.busy_s[operation.name] += trio.current_time() - started_s  # type: ignore[assignment]
