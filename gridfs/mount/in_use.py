"""Whether a version is mounted on this node, before it is deleted: by this user, and for root by anyone.

What is asked is registries and mount tables; no daemon needs to answer. An ordinary user can look into no other's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridfs.config import Paths
from gridfs.mount.mounts import current
from gridfs.mount.registry import Registry
from gridfs.mount.spec import MountRecord
from gridfs.mount.users import others_with

RUNTIME_DIRECTORIES = ("run/gridfs", "run/user/*/gridfs", "tmp/gridfs-*")
"""Where the registries of all users are, unless XDG_RUNTIME_DIR says otherwise (light.runtime_directory)."""


@dataclass(frozen=True, slots=True)
class InUse:
    """A daemon that serves the version to someone."""

    record: MountRecord
    paths: tuple[Path, ...]
    """Where it is mounted, as seen from here."""
    runs: tuple[str, ...]
    """Commands that have it in a mount namespace of their own."""


def in_use(store_url: str, label: str, paths: Paths, root: Path = Path("/")) -> Iterator[InUse]:
    """Each daemon that serves version *label* of the store and is mounted somewhere."""
    for runtime in runtimes(paths, root):
        for record in Registry(runtime).living():
            if (record.store_url, record.label) != (store_url, label):
                continue
            mounted = tuple(use.mountpoint for use in record.uses_in(current()))
            if record.fuse_path == record.target:  # an ordinary user's, which nothing else shows
                mounted += (record.fuse_path,)
            runs = tuple(str(holder) for holder in others_with(record))
            if mounted or runs:
                yield InUse(record, mounted, runs)


def runtimes(paths: Paths, root: Path = Path("/")) -> list[Path]:
    """The runtime directories that may be looked into: this user's, and for root everyone's."""
    found = [paths.runtime]
    if os.geteuid() == 0:
        found += [place for pattern in RUNTIME_DIRECTORIES for place in sorted(root.glob(pattern))]
    return list(dict.fromkeys(place for place in found if not place.is_symlink()))
