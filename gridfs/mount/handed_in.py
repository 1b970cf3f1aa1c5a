"""A mount that someone else has made, whose /dev/fuse descriptor this process inherited: `grid mount NAME /dev/fd/N`.

For places that may not mount: a privileged parent opens /dev/fuse, mounts with `fd=N,rootmode=40000,user_id=UID,
group_id=GID` where the container looks, and starts gridfs with the descriptor. libfuse takes `/dev/fd/N` for a
mountpoint and only serves it (mount.fuse3(8), drop_privileges). Where the mount is seen is not known here, so the
kernel's limits, the veil and the unmounting are the parent's as well; the daemon ends when the mount is gone.
"""

from __future__ import annotations

import os
from pathlib import Path

from gridfs.errors import InvalidInput

NOT_OURS = "not known: whoever handed the descriptor in has mounted it"

_DESCRIPTORS = Path("/dev/fd")


def descriptor_of(path: Path | None) -> int | None:
    """N of `/dev/fd/N`; None for any other path."""
    if path is None or path.parent != _DESCRIPTORS or not path.name.isdecimal():
        return None
    return int(path.name)


def check(descriptor: int, *, foreground: bool) -> None:
    """Raises InvalidInput unless *descriptor* is open on /dev/fuse, and will still be in the daemon."""
    try:
        opened = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        opened = None
    if opened is None or os.path.basename(opened) != "fuse":
        raise InvalidInput(
            f"descriptor {descriptor} is {'not open' if opened is None else f'{opened} and not /dev/fuse'}",
            remedy="the parent opens /dev/fuse, mounts with it, and lets grid inherit it",
        )
    if not foreground:
        raise InvalidInput(
            f"/dev/fd/{descriptor} needs --foreground", remedy="only this very process has inherited the descriptor"
        )
