"""Eviction from the disk tier: what lies there, what has to go (pure), and removing it, one evictor at a time.

Recency is the modification time of a segment file, which the tier itself sets when a segment is used: access times are
often turned off (relatime, noatime) and are anybody's. All daemons of the user share the directory, and whoever holds
the lock file evicts for all; a segment that another daemon has open stays readable for it until it closes the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gridfs.config import FREE_SPACE_FRACTION
from gridfs.locks import trying

LOCK_NAME = "evictor.lock"

LOW_WATER = 0.9
"""Of the limit: eviction goes down to it, so that the directory is walked once for each tenth of the cache written."""


class Found(NamedTuple):
    """A file of the cache, of any format version."""

    used_ns: int
    size_bytes: int
    """Allocated, holes not counted."""
    path: str


class Usage(NamedTuple):
    """What the cache takes, and what it may take."""

    used_bytes: int
    limit_bytes: int
    file_count: int

    @property
    def room_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


def walk(directory: Path) -> Iterator[Found]:
    """All segment files below *directory*; what vanishes meanwhile is left out."""
    pending = [os.fspath(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.name != LOCK_NAME:
                        status = entry.stat(follow_symlinks=False)
                        yield Found(status.st_mtime_ns, status.st_blocks * 512, entry.path)
        except FileNotFoundError:
            continue


def allowed_bytes(*, max_size_bytes: int | None, used_bytes: int, free_bytes: int, disk_bytes: int) -> int:
    """What the cache may take: the user's limit, and never more than leaves FREE_SPACE_FRACTION of the disk free."""
    by_space = used_bytes + free_bytes - int(disk_bytes * FREE_SPACE_FRACTION)
    return max(0, by_space if max_size_bytes is None else min(max_size_bytes, by_space))


def choose(found: Iterable[Found], *, excess_bytes: int) -> list[Found]:
    """The least recently used files that together take at least *excess_bytes*."""
    chosen = []
    for file in sorted(found):
        if excess_bytes <= 0:
            break
        chosen.append(file)
        excess_bytes -= file.size_bytes
    return chosen


def measure(directory: Path, max_size_bytes: int | None) -> tuple[Usage, list[Found]]:
    """Looks at the whole cache and at its disk. Raises OSError."""
    found = list(walk(directory))
    used = sum(file.size_bytes for file in found)
    disk = os.statvfs(directory)
    limit = allowed_bytes(
        max_size_bytes=max_size_bytes,
        used_bytes=used,
        free_bytes=disk.f_bavail * disk.f_frsize,
        disk_bytes=disk.f_blocks * disk.f_frsize,
    )
    return Usage(used, limit, len(found)), found


def evict(
    directory: Path, max_size_bytes: int | None, wanted_bytes: int, *, is_full: bool = False
) -> tuple[Usage, list[str]]:
    """Makes room for *wanted_bytes* and the low-water mark if needed; usage afterwards, and the paths removed.

    *is_full*: the disk or a quota has no space for what the cache has, whatever is said of free space. Does nothing but
    look while another process evicts. Raises OSError.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)  # whoever wants the space back may have removed all of it
    with trying(directory / LOCK_NAME) as held:
        usage, found = measure(directory, max_size_bytes)
        if is_full:
            usage = usage._replace(limit_bytes=min(usage.limit_bytes, usage.used_bytes))
        if not held or (usage.used_bytes + wanted_bytes <= usage.limit_bytes and not is_full):
            return usage, []
        excess = usage.used_bytes + wanted_bytes - int(usage.limit_bytes * LOW_WATER)
        removed = choose(found, excess_bytes=excess)
        for file in removed:
            try:
                os.unlink(file.path)
            except FileNotFoundError:
                continue
        freed = sum(file.size_bytes for file in removed)
        return usage._replace(used_bytes=usage.used_bytes - freed), [file.path for file in removed]
