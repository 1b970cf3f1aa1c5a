"""Who still uses a daemon's mount, and when the daemon may go. The decision is pure; the looking is in `uses`.

A warm read sends the daemon nothing, so idleness can't be seen; what can be seen is where its file system is mounted.
The kernel itself counts whoever holds it: once it is detached from the tree, the daemon's device says ENODEV when the
last namespace, open file or working directory has let go, and only then the daemon ends. So a wrong decision here costs
a later run the start of another daemon, and never a reader its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridfs.mount.holders import Holder, command_of
from gridfs.mount.mounts import current, in_each_namespace
from gridfs.mount.spec import MountRecord


@dataclass(frozen=True, slots=True)
class Use:
    """What the daemon knows of its users at one moment."""

    linger_s: float | None
    """As in MountSpec."""
    had_target: bool
    """It was visible somewhere once."""
    visible_here: bool
    """It is visible in the daemon's own namespace now, besides its hidden mountpoint."""
    visible_elsewhere: bool
    """A run's namespace has it."""
    idle_s: float
    """Since it was last seen in use, or a run asked for it."""


def may_release(use: Use) -> bool:
    """Whether the daemon should take its hidden mount out of the tree.

    A daemon of `grid mount` goes when someone took its last path away (umount, fusermount3 -u, systemd); a run's daemon
    when no run has it and the linger has passed.
    """
    if use.visible_here:
        return False
    if use.linger_s is None:
        return use.had_target
    return not use.visible_elsewhere and use.idle_s >= use.linger_s


def uses(record: MountRecord) -> tuple[bool, bool]:
    """Whether the file system is visible in this mount namespace, and in any other that may be looked into."""
    return bool(record.uses_in(current())), any(others_with(record))


def others_with(record: MountRecord) -> Iterator[Holder]:
    """The first process of each other mount namespace in which the file system is visible: of a run, its command."""
    for pid, mounts in in_each_namespace(but_own=True):
        for mounted in record.uses_in(mounts)[:1]:
            yield Holder(pid, command_of(Path("/proc", str(pid))), str(mounted.mountpoint))
