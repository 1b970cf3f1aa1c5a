"""The view of a run: which mounts make each datastore appear at its path, and nothing else look different.

A run has a mount namespace of its own, so what is mounted there is invisible to everyone else and is gone with the
run's last process. A path that exists is simply mounted over. For one that does not exist there are two ways:

- Its parent may be written: the directories are made on the host, as `mkdir -p` would, and removed again after the
  last run that uses them (mount/leftovers). Covering the parent instead would take away the place where the job
  wants to write its own output.
- Its parent may not be written (`/` for an ordinary user): the nearest existing ancestor is rebuilt in the run's
  namespace as a small read-only directory on tmpfs, with a bind mount for each thing that was in it, and the missing
  directories beside them. Nothing could be created there before, so read-only changes nothing for the job.

`plan_view` decides (pure, tested without a mount); `enter` in mount/namespace acts.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat

from gridfs.errors import InvalidInput
from gridfs.light import LightRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Host(Protocol):
        """What the plan must know of the file system."""

        def is_directory(self, path: str) -> bool | None:
            """True for a directory (also through a link, and a mount that is dead or closed to us), False for anything
            else, None where nothing is."""
            ...

        def is_writable(self, directory: str) -> bool:
            """Whether this process may create entries in *directory*."""
            ...


DATASTORES = "/datastores"
"""Where a datastore is seen when nothing else is said."""

UNANSWERED = (errno.EACCES, errno.ENOTCONN, errno.ESTALE)
"""What stat(2) says of somebody's mount that lets nobody else in, or whose daemon or server is gone. It is there."""


class Placement(LightRecord):
    """One datastore of a run: what the user called it, where it is to appear, and the mount that shows it."""

    __slots__ = ("is_image", "label", "path", "source")

    def __init__(self, label: str, path: str, source: str, is_image: bool = False) -> None:
        self.label = label
        """As in messages: `imagenet@2`."""
        self.path = path
        self.source = source
        """The daemon's own mountpoint on this node."""
        self.is_image = is_image
        """What is mounted there needs no veil."""


class Rebuilt(LightRecord):
    """A directory to be rebuilt on tmpfs with what it held, plus directories that it lacks."""

    __slots__ = ("directory", "missing")

    def __init__(self, directory: str, missing: tuple[str, ...]) -> None:
        self.directory = directory
        self.missing = missing
        """Absolute, parents before children."""


class ViewPlan(LightRecord):
    """What to do, in this order: make *made* on the host, then in the namespace rebuild, then attach."""

    __slots__ = ("made", "placements", "rebuilt")

    def __init__(
        self,
        made: tuple[str, ...] = (),
        rebuilt: tuple[Rebuilt, ...] = (),
        placements: tuple[Placement, ...] = (),
    ) -> None:
        self.made = made
        self.rebuilt = rebuilt
        self.placements = placements


class LocalHost:
    """The machine that we run on."""

    def is_directory(self, path: str) -> bool | None:
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            if error.errno in UNANSWERED:
                return True  # it can be mounted over, or attaching says why not
            # nothing, or a link to nothing; looked at once, since another run may make it meanwhile
            return False if os.path.islink(path) else None

    def is_writable(self, directory: str) -> bool:
        return os.access(directory, os.W_OK | os.X_OK)


def checked_path(label: str, text: str) -> str:
    """The absolute, normalised path that a user gave for datastore *label*. Raises InvalidInput."""
    if not text.startswith("/"):
        raise InvalidInput(
            f"the mount directory '{text}' of {label} is a relative path",
            remedy=f"give an absolute one, such as {os.path.abspath(text)}",
        )
    path = os.path.normpath(text.replace("//", "/"))
    if path == "/":
        raise InvalidInput(f"{label} can't be mounted over /", remedy="give a directory below it")
    return path


class _Builder:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.made: list[str] = []
        self.rebuilt: dict[str, list[str]] = {}
        self.promised: set[str] = set()

    def require(self, placement: Placement) -> None:
        missing: list[str] = []
        ancestor = placement.path
        while ancestor not in self.promised:
            is_directory = self.host.is_directory(ancestor)
            if is_directory is False:
                what = "is not a directory" if not missing else f"can't be made: {ancestor} is not a directory"
                raise InvalidInput(
                    f"the mount directory {placement.path} of {placement.label} {what}",
                    remedy="choose another by --datastore_mount_dir",
                )
            if is_directory:
                break
            missing.append(ancestor)
            ancestor = os.path.dirname(ancestor)
        if not missing:
            return
        missing.reverse()
        self.promised.update(missing)
        rebuilt_above = next((top for top, below in self.rebuilt.items() if ancestor in below), None)
        if rebuilt_above is not None:
            self.rebuilt[rebuilt_above] += missing
        elif ancestor in self.made or self.host.is_writable(ancestor):
            self.made += missing
        else:
            self.rebuilt.setdefault(ancestor, []).extend(missing)


def plan_view(placements: Sequence[Placement], host: Host) -> ViewPlan:
    """How to make all *placements* appear. Raises InvalidInput for two at one path, one inside another, or a file."""
    ordered = sorted(placements, key=lambda p: p.path.split("/"))
    for first, second in itertools.pairwise(ordered):
        if first.path == second.path:
            raise InvalidInput(
                f"{first.label} and {second.label} can't both be mounted at {first.path}",
                remedy="give each a --datastore_mount_dir of its own",
            )
    for inner in ordered:
        for outer in ordered:
            if inner.path.startswith(f"{outer.path}/"):
                raise InvalidInput(
                    f"the mount directory {inner.path} of {inner.label} lies inside {outer.path} of {outer.label}",
                    remedy="datastores are read-only; choose a path outside of it",
                )
    builder = _Builder(host)
    for placement in ordered:
        builder.require(placement)
    tops = sorted(builder.rebuilt, key=lambda top: len(top.rstrip("/").split("/")))
    return ViewPlan(
        made=tuple(builder.made),
        rebuilt=tuple(Rebuilt(top, tuple(builder.rebuilt[top])) for top in tops),
        placements=tuple(placements),
    )
