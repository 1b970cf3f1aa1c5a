"""What is mounted in this mount namespace: /proc/self/mountinfo, parsed (proc_pid_mountinfo(5)).

Nothing here touches a mounted file system, so it is safe in the daemon that serves one: a stat of the own mountpoint
from the thread that would have to answer it never returns.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the table."""

    device: str
    """`major:minor` of the superblock: the same for all bind mounts of one file system."""
    mountpoint: Path
    fstype: str
    source: str
    super_options: str

    @property
    def is_fuse(self) -> bool:
        return self.fstype == "fuse" or self.fstype.startswith("fuse.")


def parse(table: bytes) -> list[Mounted]:
    """The lines of a mountinfo, in its order: of two with one mountpoint, the later lies on top."""
    mounts = []
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        fields, last = before.split(b" "), after.split(b" ")
        if len(fields) >= 6 and len(last) >= 3:
            mounts.append(
                Mounted(fields[2].decode(), Path(_text(fields[4])), _text(last[0]), _text(last[1]), _text(last[2]))
            )
    return mounts


def _text(raw: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), raw))


def current(process: int | str = "self") -> list[Mounted]:
    """The mounts that *process* sees. Raises OSError when it has ended or may not be looked at."""
    return parse(Path(f"/proc/{process}/mountinfo").read_bytes())


def in_each_namespace(*, but_own: bool = False, of_anyone: bool = False) -> Iterator[tuple[int, list[Mounted]]]:
    """A process of each mount namespace that may be looked into, and the mounts that it sees.

    With *of_anyone* also of those that may not: other users', and the same user's in another user namespace. Raises
    OSError when there are no descriptors left to look with.
    """
    seen: set[str | bytes] = {os.readlink("/proc/self/ns/mnt")} if but_own else set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = _namespace_of(pid, of_anyone)
            if namespace in seen:
                continue
            seen.add(namespace)
            mounts = current(pid)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            continue  # ended meanwhile, or another user's
        yield int(pid), mounts


def _namespace_of(pid: str, of_anyone: bool) -> str | bytes:
    """What tells the mount namespace of a process from others. Raises OSError."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except PermissionError:
        if not of_anyone:
            raise
        return Path(f"/proc/{pid}/mountinfo").read_bytes()  # readable by all, unlike the namespace's number


def top_at(mountpoint: Path, mounts: Iterable[Mounted]) -> Mounted | None:
    """What lies on top at exactly *mountpoint* (absolute, without links); None when nothing is mounted there."""
    found = None
    for mounted in mounts:
        if mounted.mountpoint == mountpoint:
            found = mounted
    return found


def is_block_device(device: str) -> bool:
    """Whether the file system `major:minor` lies on one; others have numbers of major 0."""
    return not device.startswith("0:")


def uses_of(own: frozenset[Path], devices: frozenset[str], source: str, mounts: Iterable[Mounted]) -> list[Mounted]:
    """The mounts that show the file systems of *devices*, or an overlay of what is at *own*; not those at *own*.

    All that a daemon mounts is called *source*, and so is each bind mount of it. The kernel gives the number of a file
    system that is gone to the next one, whoever's that is.
    """
    lower = tuple(f"lowerdir={path}:" for path in own)
    return [
        mounted
        for mounted in mounts
        if mounted.mountpoint not in own
        and (
            (mounted.device in devices and mounted.source == source)
            or (mounted.fstype == "overlay" and any(layer in mounted.super_options for layer in lower))
        )
    ]
