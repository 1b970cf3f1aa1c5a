"""Which processes keep a mount busy: those with a directory, a root, an open file or a mapped one in it.

What can't be looked at (other users' processes, for an ordinary user) is counted, not guessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHOWN = 5
"""Holders named in a message; more are counted."""


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    what: str
    """The path by which it holds the mount."""

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid}: {self.what})"


def holders(mountpoint: Path, proc: Path = Path("/proc")) -> list[Holder]:
    """The processes that hold something at or below *mountpoint*, each with one thing that it holds."""
    found = []
    for name in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        path = next(_held(proc / name, str(mountpoint)), None)
        if path is not None:
            found.append(Holder(int(name), command_of(proc / name), path))
    return found


def described(found: list[Holder]) -> str:
    """For a message: who it is."""
    if not found:
        return "a process that you may not look at"
    named = ", ".join(str(holder) for holder in found[:SHOWN])
    return named if len(found) <= SHOWN else f"{named} and {len(found) - SHOWN} more"


def _held(process: Path, mountpoint: str) -> Iterator[str]:
    below = mountpoint.rstrip("/") + "/"
    for link in (process / "cwd", process / "root", *_descriptors(process)):
        try:
            target = os.readlink(link)  # does not follow, so a dead daemon can't stop us
        except OSError:
            continue
        if target == mountpoint or target.startswith(below):
            yield target
    try:
        maps = (process / "maps").read_bytes()
    except OSError:
        return
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6:
            path = os.fsdecode(fields[5])
            if path.startswith(below):
                yield path


def _descriptors(process: Path) -> list[Path]:
    try:
        return [process / "fd" / name for name in os.listdir(process / "fd")]
    except OSError:
        return []


def command_of(process: Path) -> str:
    """The name of the program that runs as *process*, a directory of /proc."""
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
