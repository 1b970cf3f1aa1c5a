"""Limits of the kernel for one FUSE mount: read-ahead and the number of requests in the background.

With the kernel's read-ahead of 128 KiB a large read waits for a store that is 15 ms away ten times over, and with its
12 background requests the store's parallelism is not used. Both are files below /sys that only root may write; what was
not permitted is said by `grid status`, and a udev rule (systemd/) sets read-ahead for mounts of ordinary users.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gridfs.mount import syscalls
from gridfs.mount.syscalls import MountFlag, UmountFlag

READ_AHEAD_KIB = 2048
"""Of a mount whose bytes may come from afar: the kernel asks for so much of a large read at once. But a fault at a
random place of a mapping fetches all of it too (docs/decisions/read-ahead.md)."""
READ_AHEAD_IN_PLACE_KIB = 512
"""Of a mount whose store is read in place, on a local disk: no request is far away."""
MAX_BACKGROUND = 512
"""Requests in flight that nobody waits for in the kernel: of read-ahead (mountpoint-s3 has 64, the kernel's default is
12), and all of an image's for bytes. Half of what the daemon takes at once, so that names never wait for bytes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit after an attempt to set it."""

    wanted: int
    actual: int | None
    """None: it could not even be read."""
    reason: str | None
    """Why it is not what was wanted."""

    def __str__(self) -> str:
        if self.actual is None:
            return f"unknown ({self.reason})"
        return str(self.actual) if self.reason is None else f"{self.actual}, not {self.wanted} ({self.reason})"


def set_limit(file: Path, wanted: int, *, exactly: bool = False) -> Limit:
    """Writes *wanted* to a file below /sys where it holds less (or, *exactly*, more), and reads what it then is."""
    reason = None

    def is_wanted(value: int) -> bool:
        return value == wanted or (value > wanted and not exactly)

    try:
        if not is_wanted(int(file.read_text())):
            file.write_text(str(wanted))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    try:
        actual = int(file.read_text())
    except OSError as error:
        return Limit(wanted, None, reason or error.strerror)
    if is_wanted(actual):
        reason = None
    return Limit(wanted, actual, reason)


def set_read_ahead(device: str, wanted_kib: int, sysfs: Path = Path("/sys")) -> Limit:
    """read_ahead_kb of the mount whose `major:minor`, or name below /sys/class/bdi, is *device*.

    Also where it is more: the loop device of an image keeps what the mount before had.
    """
    return set_limit(sysfs / "class/bdi" / device / "read_ahead_kb", wanted_kib, exactly=True)


def bdis(sysfs: Path = Path("/sys")) -> frozenset[str]:
    """The names of all file systems and devices that have a read-ahead."""
    try:
        return frozenset(entry.name for entry in (sysfs / "class/bdi").iterdir())
    except OSError:
        return frozenset()


def set_image_read_ahead(before: frozenset[str], wanted_kib: int, sysfs: Path = Path("/sys")) -> Limit:
    """As set_read_ahead, for an image: EROFS numbers its mounts (`erofs-7`), so ours is one that *before* has not."""
    names = [name for name in sorted(bdis(sysfs) - before) if name.startswith("erofs-")]
    limits = [set_read_ahead(name, wanted_kib, sysfs) for name in names]
    return min(limits, key=lambda limit: limit.actual or 0, default=Limit(wanted_kib, None, "no bdi appeared"))


def read_ahead(device: str, offset: int, size_bytes: int, sysfs: Path = Path("/sys")) -> None:
    """Has the kernel read bytes of the block device `major:minor` into its cache. Raises OSError.

    Returns before they are there, so whoever serves the device may call it from a worker thread.
    """
    name = (sysfs / "dev/block" / device).readlink().name
    descriptor = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, offset, size_bytes, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def abort(device: str, sysfs: Path = Path("/sys")) -> bool:
    """Ends the FUSE connection of a daemon that is dead, and with it whoever waits for an answer; whether it could.

    The kernel does so by itself when the daemon's last descriptor goes. But a process that is killed while it hands
    pages to the kernel (notify_store) may keep one, waiting for a page that a reader waits for with it.
    """
    major, minor = (int(part) for part in device.split(":"))
    try:
        (sysfs / "fs/fuse/connections" / str(major << 20 | minor) / "abort").write_text("1")
    except OSError:  # not ours, no fusectl here, or gone already
        return False
    return True


def set_max_background(device: str, scratch: Path, sysfs: Path = Path("/sys")) -> Limit:
    """max_background of the FUSE connection, which is named by its device number.

    Where nobody has mounted fusectl (a container), it is mounted at the empty directory *scratch* meanwhile.
    """
    major, minor = (int(part) for part in device.split(":"))
    name = str(major << 20 | minor)
    usual = sysfs / "fs/fuse/connections" / name
    if usual.is_dir():
        return set_limit(usual / "max_background", MAX_BACKGROUND)
    try:
        syscalls.mount("fusectl", scratch, "fusectl", MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC)
    except OSError as error:
        return Limit(MAX_BACKGROUND, None, f"no fusectl: {error.strerror}")
    try:
        return set_limit(scratch / name / "max_background", MAX_BACKGROUND)
    finally:
        syscalls.umount(scratch, UmountFlag.DETACH)
