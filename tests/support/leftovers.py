"""What a test must not leave behind: mounts and processes.

Processes are told by a variable in their environment, which they inherit however they detach themselves (a daemon is
nobody's child); mounts by their number in this mount namespace. `snapshot()` before, `Snapshot.leftovers()` after;
`Leftovers.remove()` cleans up so that one leaking test does not fail all that follow.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gridfs.mount import leftovers as runs

MARK_VARIABLE = "GRIDFS_TEST_RUN"
"""Set by conftest.py to a value of this run only."""

ENDING_S = 15.0
"""A process on its way out (a daemon after its unmount) is no leftover; on a busy machine that takes seconds."""


DEFAULT_PATH = "/datastores/data"
"""Where `grid run` shows the tests' datastore by default; tests look whether it is there before, in and after a run."""


@dataclass(frozen=True, slots=True, order=True)
class Mount:
    number: int
    mountpoint: str
    kind: str


@dataclass(frozen=True, slots=True, order=True)
class Process:
    pid: int
    started: int
    """In ticks since boot; with the pid it names one process for ever."""
    command: str


@dataclass(frozen=True, slots=True)
class Leftovers:
    mounts: tuple[Mount, ...]
    processes: tuple[Process, ...]

    def __bool__(self) -> bool:
        return bool(self.mounts or self.processes)

    def __str__(self) -> str:
        lines = [f"mount {mount.mountpoint} ({mount.kind})" for mount in self.mounts]
        lines += [f"process {process.pid}: {process.command}" for process in self.processes]
        return "\n".join(lines)

    def remove(self) -> None:
        """Processes first: with its daemon gone a mount answers ENOTCONN and nobody hangs in it."""
        for process in self.processes:
            if _identity(process.pid) == process:
                os.kill(process.pid, signal.SIGKILL)
        for mount in sorted(self.mounts, reverse=True):
            subprocess.run(["umount", "--lazy", mount.mountpoint], check=False, capture_output=True)
            if os.geteuid() != 0:
                subprocess.run(["fusermount3", "-uz", mount.mountpoint], check=False, capture_output=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    mounts: frozenset[Mount]
    processes: frozenset[Process]

    def leftovers(self, patience_s: float = 0.0) -> Leftovers:
        """What is there now and was not then, once *patience_s* has passed or nothing is left."""
        deadline = time.monotonic() + patience_s
        while True:
            now = snapshot()
            found = Leftovers(tuple(sorted(now.mounts - self.mounts)), tuple(sorted(now.processes - self.processes)))
            remaining_s = deadline - time.monotonic()
            if not found or remaining_s <= 0:
                return found
            _wait_for_end(found.processes, min(remaining_s, 0.25))


def unmarked_environment() -> dict[str, str]:
    """The environment for a server that outlives the test that happens to start it."""
    return {name: value for name, value in os.environ.items() if name != MARK_VARIABLE}


def remove_directory_of_killed_run() -> None:
    """A suite that was ended together with its janitors may have left `DEFAULT_PATH`; its records went with it.

    Done as a run does it: an empty directory only, and only if nobody has it mounted, in whatever namespace.
    """
    with TemporaryDirectory() as records:
        made = runs.Leftovers(records)
        made.note(DEFAULT_PATH)
        made.sweep()


def snapshot() -> Snapshot:
    return Snapshot(frozenset(_mounts()), frozenset(_processes()))


def everything_started() -> Leftovers:
    """Every process that this run has started and that has its mark."""
    return Leftovers((), tuple(sorted(_processes())))


def _mounts() -> Iterable[Mount]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            number, _parent, _device, _root, mountpoint, *_ = fields.split()
            yield Mount(int(number), mountpoint.encode().decode("unicode_escape"), rest.split()[0])


def _processes() -> Iterable[Process]:
    """Processes with this run's mark, but this one; threads of ours and what has ended (zombies) do not count."""
    mark = f"{MARK_VARIABLE}={os.environ.get(MARK_VARIABLE, '')}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as file:  # of each process, twice in each test
                environment = file.readall()
        except OSError:  # ended meanwhile, or another user's: those of ours that changed user are looked after by root
            continue
        if mark in environment and mark in environment.split(b"\0"):
            process = _identity(int(name))
            if process is not None:
                yield process


def _identity(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else Process(pid, int(fields[19]), command[:300])


def _wait_for_end(processes: Iterable[Process], timeout_s: float) -> None:
    """Returns when one of *processes* has ended, or after *timeout_s*."""
    poll = select.poll()
    descriptors = []
    try:
        for process in processes:
            try:
                descriptor = os.pidfd_open(process.pid)
            except OSError:
                return
            descriptors.append(descriptor)
            poll.register(descriptor, select.POLLIN)
        poll.poll(timeout_s * 1000)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
