"""One hard limit for all data in memory: what is in flight, what waits to be written, what is kept.

Whoever wants a buffer reserves its bytes first. Kept parts are evicted to make room; when everything else is in flight
or being written, background work waits, and it may hold at most three quarters of the budget, so that a waiting reader
always finds room behind it (invariants 6 and 9). When a flight lands, its reservation becomes the cache's holding
without a gap.
"""

from __future__ import annotations

import math
import os
from collections import deque
from pathlib import Path

import trio

from gridfs.cache.memory import MemoryCache
from gridfs.config import GIB, LEAST_MEMORY_TARGET_BYTES

BACKGROUND_SHARE = 0.75
"""Of the budget, what windows and fills may hold in flight and in the write queue."""


def cgroup_memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The tightest memory limit of this cgroup and those above it (versions 1 and 2); None: unlimited."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            limits.append(_tightest(root / "sys/fs/cgroup", path, "memory.max"))
        elif "memory" in controllers.split(","):
            limits.append(_tightest(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
    smallest = min(limits, default=math.inf)
    # Version 1 says "unlimited" as the largest multiple of a page in 63 bits.
    return int(smallest) if smallest < 1 << 60 else None


def _tightest(mountpoint: Path, path: str, name: str) -> float:
    """A container may see its own cgroup as the root while /proc names the host's path: what is missing is skipped."""
    directory = mountpoint / path.lstrip("/")
    tightest = math.inf
    for place in (directory, *directory.parents):
        try:
            text = (place / name).read_text().strip()
        except OSError:
            text = "max"
        if text.isdigit():
            tightest = min(tightest, int(text))
        if place == mountpoint:
            break
    return tightest


def usable_memory_bytes(cgroup_limit_bytes: int | None = None) -> int:
    """What this process may use: the cgroup's limit, or the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, cgroup_limit_bytes) if cgroup_limit_bytes else machine


def default_budget_bytes(cgroup_limit_bytes: int | None = None) -> int:
    """The lesser of 1 GiB and a quarter of what this process may use."""
    return max(LEAST_MEMORY_TARGET_BYTES, min(GIB, usable_memory_bytes(cgroup_limit_bytes) // 4))


class Budget:
    """Bytes in flight plus bytes of the memory cache never exceed the limit."""

    def __init__(self, limit_bytes: int, memory: MemoryCache) -> None:
        self.limit_bytes = limit_bytes
        self.in_flight_bytes = 0
        """Reserved and not yet the cache's; zero at rest."""
        self.peak_bytes = 0
        self._memory = memory
        memory.on_evictable = self.wake
        self._waiting: deque[tuple[int, bool, trio.Event]] = deque()

    @property
    def used_bytes(self) -> int:
        return self.in_flight_bytes + self._memory.size_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether background work may hold *size_bytes* more without anything being evicted."""
        return self.used_bytes + size_bytes <= self.limit_bytes * BACKGROUND_SHARE

    def reserve_nowait(self, size_bytes: int, *, background: bool = False) -> bool:
        """Takes *size_bytes*, evicting kept parts if need be; False, and nothing taken, when there is no room."""
        held = self.in_flight_bytes + self._memory.pinned_bytes
        share = self.limit_bytes * BACKGROUND_SHARE if background else self.limit_bytes
        if held and held + size_bytes > share:  # with nothing held, one part larger than the budget must still pass
            return False
        excess = self.used_bytes + size_bytes - self.limit_bytes
        if excess > 0:
            self._memory.reclaim(excess)
        self.in_flight_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return True

    async def reserve(self, size_bytes: int, *, background: bool = False) -> None:
        """As reserve_nowait, but waits for room; waiting readers come before background work."""
        if (background and self._waiting) or not self.reserve_nowait(size_bytes, background=background):
            event = trio.Event()
            ticket = (size_bytes, background, event)
            self._waiting.append(ticket)
            try:
                await event.wait()
            except trio.Cancelled:
                if event.is_set():
                    self.release(size_bytes)
                else:
                    self._waiting.remove(ticket)
                raise

    def release(self, size_bytes: int) -> None:
        """Gives back a reservation: the flight failed, or its part is the cache's now."""
        self.in_flight_bytes -= size_bytes
        self.wake()

    def wake(self) -> None:
        """Lets in who waits and fits now. The memory cache calls it when a part is no longer pinned."""
        if not self._waiting:
            return
        for ticket in sorted(self._waiting, key=lambda ticket: ticket[1]):
            size_bytes, background, event = ticket
            if not self.reserve_nowait(size_bytes, background=background):
                break
            self._waiting.remove(ticket)
            event.set()
