"""Mounts of rclone beside the runs of benchmarks/runs.py: how long until one file of each can be read.

In both of its cache modes, with the settings of its documentation (subjects/rivals.py); the quicker one counts. The
mount table is looked at for all mounts at once and the file is read by the benchmark itself, so waiting costs rclone
little.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import mountpoints
from benchmarks.rivals import Rivals
from benchmarks.runs_files import content, name_of
from benchmarks.servers import Server
from benchmarks.subjects.rivals import Rclone, RcloneFull, RcloneOff

LIMIT_S = 60.0
LOOK_EVERY_S = 0.02
LOOK_EVERY_ALONE_S = 0.001


@dataclass(slots=True)
class Mounts:
    """Mounts of rclone that were started, each for a file of its own, and how many have served theirs."""

    server: Server
    started: list[Rclone] = field(default_factory=list)
    done: int = 0
    elapsed_s: float = 0.0

    @property
    def each_s(self) -> float:
        return self.elapsed_s / self.done if self.done else LIMIT_S

    @property
    def pids(self) -> list[int]:
        return [mount.process.pid for mount in self.started if mount.process is not None]

    def start(self, mount: Rclone) -> int:
        """Starts one more; its number."""
        mount.root.mkdir(parents=True)
        mount.cache.mkdir(parents=True)
        with mount.log.open("wb") as log:
            mount.process = subprocess.Popen(
                mount.command("raw", self.server, None),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | mount.environment(self.server),
            )
        self.started.append(mount)
        return len(self.started) - 1

    def wait(self, numbers: list[int], until_s: float, look_every_s: float) -> None:
        """Until each of *numbers* has served its file, or the time (monotonic) is over."""
        waiting = set(numbers)
        while waiting and time.monotonic() < until_s:
            there = mountpoints()
            for number in sorted(waiting):
                root = self.started[number].root
                if str(root) in there and (root / name_of(number)).read_bytes() == content(number):
                    waiting.remove(number)
                    self.done += 1
            if waiting:
                time.sleep(look_every_s)


@contextmanager
def mounted(
    kind: type[RcloneFull | RcloneOff], rivals: Rivals, work: Path, server: Server, count: int, *, in_turn: bool
) -> Iterator[Mounts]:
    """*count* mounts, started together or one after another, as far as a minute goes; they are ended with the block."""
    mounts = Mounts(server)
    try:
        begin = time.monotonic()
        for number in range(count):
            mounts.start(kind(rivals, work / f"rclone-{number}"))
            if in_turn:
                mounts.wait([number], begin + LIMIT_S, LOOK_EVERY_ALONE_S)
        if not in_turn:
            mounts.wait(list(range(count)), begin + LIMIT_S, LOOK_EVERY_S)
        mounts.elapsed_s = time.monotonic() - begin
        yield mounts
    finally:
        for mount in mounts.started:
            mount.stop()
            mount.forget()
