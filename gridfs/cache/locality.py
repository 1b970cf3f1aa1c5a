"""Is a directory on a disk of this node? The kernel's table of mounts says which file system it is on.

A cache on a network file system would be slower than the store it caches, and its locks and O_NOFOLLOW promise less.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"),
    }
)

LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.bcachefs", "fuse.zfs", "fuse.mergerfs"})
"""File systems in user space that keep their data on this node; all other `fuse.*` are taken for remote."""


def file_system_of(directory: Path, mountinfo: str | None = None) -> str:
    """Type of the file system that *directory* is on, such as `ext4`; empty when the kernel does not say."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    place = os.path.realpath(directory)
    best, kind = "", ""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5:
            continue
        mountpoint = _unescape(fields[4])
        inside = place == mountpoint or place.startswith(mountpoint.rstrip("/") + "/")
        if inside and len(mountpoint) >= len(best):  # of two at one place the later one is on top
            best, kind = mountpoint, after.split(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    return kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def _unescape(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
