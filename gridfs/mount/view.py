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

import itertools
import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from gridfs.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Placement:
    """One datastore of a run: what the user called it, where it is to appear, and the mount that shows it."""

    label: str
    """As in messages: `imagenet@2`."""
    path: PurePosixPath
    source: PurePosixPath
    """The daemon's own mountpoint on this node."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A directory to be rebuilt on tmpfs with what it held, plus directories that it lacks."""

    directory: PurePosixPath
    missing: tuple[PurePosixPath, ...]
    """Absolute, parents before children."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What to do, in this order: make *made* on the host, then in the namespace rebuild, then attach."""

    made: tuple[PurePosixPath, ...] = ()
    rebuilt: tuple[Rebuilt, ...] = ()
    placements: tuple[Placement, ...] = ()


class Host(Protocol):
    """What the plan must know of the file system."""

    def is_directory(self, path: PurePosixPath) -> bool | None:
        """True for a directory (also through a link), False for anything else, None where nothing is."""
        ...

    def is_writable(self, directory: PurePosixPath) -> bool:
        """Whether this process may create entries in *directory*."""
        ...


class LocalHost:
    """The machine that we run on."""

    def is_directory(self, path: PurePosixPath) -> bool | None:
        if os.path.isdir(path):
            return True
        return False if os.path.lexists(path) else None

    def is_writable(self, directory: PurePosixPath) -> bool:
        return os.access(directory, os.W_OK | os.X_OK)


def checked_path(label: str, text: str) -> PurePosixPath:
    """The absolute, normalised path that a user gave for datastore *label*. Raises InvalidInput."""
    if not text.startswith("/"):
        raise InvalidInput(
            f"the mount directory '{text}' of {label} is a relative path",
            remedy=f"give an absolute one, such as {os.path.abspath(text)}",
        )
    path = PurePosixPath(os.path.normpath(text.replace("//", "/")))
    if path == PurePosixPath("/"):
        raise InvalidInput(f"{label} can't be mounted over /", remedy="give a directory below it")
    return path


@dataclass(slots=True)
class _Builder:
    host: Host
    made: list[PurePosixPath] = field(default_factory=list)
    rebuilt: dict[PurePosixPath, list[PurePosixPath]] = field(default_factory=dict)
    promised: set[PurePosixPath] = field(default_factory=set)

    def require(self, placement: Placement) -> None:
        missing: list[PurePosixPath] = []
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
            ancestor = ancestor.parent
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


def plan_view(placements: list[Placement], host: Host) -> ViewPlan:
    """How to make all *placements* appear. Raises InvalidInput for two at one path, one inside another, or a file."""
    ordered = sorted(placements, key=lambda p: p.path.parts)
    for first, second in itertools.pairwise(ordered):
        if first.path == second.path:
            raise InvalidInput(
                f"{first.label} and {second.label} can't both be mounted at {first.path}",
                remedy="give each a --datastore_mount_dir of its own",
            )
    for inner in ordered:
        for outer in ordered:
            if outer.path in inner.path.parents:
                raise InvalidInput(
                    f"the mount directory {inner.path} of {inner.label} lies inside {outer.path} of {outer.label}",
                    remedy="datastores are read-only; choose a path outside of it",
                )
    builder = _Builder(host)
    for placement in ordered:
        builder.require(placement)
    tops = sorted(builder.rebuilt, key=lambda top: len(top.parts))
    return ViewPlan(
        made=tuple(builder.made),
        rebuilt=tuple(Rebuilt(top, tuple(builder.rebuilt[top])) for top in tops),
        placements=tuple(placements),
    )
