"""What a machine must have before anything can be mounted, and what to do when it lacks it.

Creating and listing work without any of this, so it is looked at only by what mounts.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from gridfs.errors import AccessDenied, Unsupported
from gridfs.mount.syscalls import may_mount

FUSE_DEVICE = Path("/dev/fuse")


def check_machine(device: Path = FUSE_DEVICE) -> None:
    """Raises Unsupported or AccessDenied, with what to install or to ask for, when nothing can be mounted here."""
    if sys.platform != "linux":
        raise Unsupported(f"mounting needs Linux, and this is {sys.platform}", remedy="mount on a Linux machine")
    if importlib.util.find_spec("pyfuse3") is None:
        raise Unsupported(
            "pyfuse3 is not installed",
            remedy="apt install gcc pkg-config libfuse3-dev python3-dev fuse3, then pip install 'gridfs[mount]'",
        )
    if not device.exists():
        raise Unsupported(
            f"{device} does not exist",
            remedy="load the kernel module (modprobe fuse), or start the container with --device /dev/fuse",
        )
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise AccessDenied(
            f"{device} may not be opened ({error.strerror})",
            remedy=f"ask the administrator for mode 0666 as udev gives it (chmod 0666 {device}), "
            "or in a container for --device /dev/fuse",
        ) from error
    if not may_mount() and shutil.which("fusermount3") is None:
        raise Unsupported("fusermount3 is not installed, and you are not root", remedy="apt install fuse3")


def check_allow_other(config: Path = Path("/etc/fuse.conf")) -> None:
    """Raises AccessDenied when this user may not let others in (fusermount3 would refuse it with less to go by)."""
    if may_mount():
        return
    try:
        lines = config.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise AccessDenied(
            "--allow-other is not permitted to ordinary users here",
            remedy=f"ask the administrator for a line 'user_allow_other' in {config}",
        )


def mount_refused(path: Path, reason: str) -> Unsupported:
    """What libfuse or fusermount3 has said when *path* could not be mounted, with what to do."""
    remedy = "see fuse.conf(5) and mount.fuse3(8)"
    if "fusermount3: mount failed: Operation not permitted" in reason:
        remedy = (
            "it lacks its setuid bit, or has no use of it in a container or sandbox: mount outside of that,"
            " or do without a mount by `grid datastore download`"
        )
    return Unsupported(f"{path} can't be mounted: {reason}", remedy=remedy)
