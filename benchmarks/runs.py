"""A node full of jobs, and many nodes at once: runs that start together, beside mounts of rclone.

    python -m benchmarks.runs [--runs 100] [--mounts 200] [--nodes 32] [--rounds 1]     (as root; about three minutes)

runs       so many `grid run` of one datastore start together on a node that has nothing yet, each reads one file and
           ends
together   the same beside as many `rclone mount` of the same objects, each for one file: those that have it after a
           minute (300 took half of one on 2 cores, and 5.5 GB). In rounds of both; the ratio is a round's
in turn    the same one after another on a node that serves the datastore already, from the start of the command to
           the last byte of its file
attaching  the CPU of one run which attaches to a daemon that is there
nodes      so many daemons with runtime and cache directories of their own stand for as many nodes: a common start, and
           the first byte in all; the store's requests are counted by a proxy before it

All read from one Ceph RGW on loopback. Memory is the sum of the proportional set sizes (PSS) of what stays resident
while the mounts are there: for runs that is the daemon, since a run's own process becomes the command. Bytes are
compared with what was stored. Prints each figure beside its goal; the exit code is 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Failed, last_words, run
from benchmarks.rivals import Rivals, install
from benchmarks.runs_files import GRID, content, create, environment, make_files, name_of, put_raw
from benchmarks.runs_rclone import mounted
from benchmarks.servers import Server, ceph, proxy
from benchmarks.subjects.rivals import RcloneFull, RcloneOff

NODE_GOAL_S, RUNS_GOAL_S, CPU_GOAL_MS, FASTER_GOAL, MEMORY_GOAL = 30.0, 15.0, 100.0, 5.0, 0.1
ATTACHING_RUNS = 20
IN_TURN = 20
IN_TURN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result."""

    what: str
    value: str
    goal: str
    met: bool


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: seconds for each mount, and MiB for each."""

    each_s: float
    each_mib: float


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides, one soon after the other."""

    ours: Side
    theirs: Side

    @property
    def faster(self) -> float:
        return self.theirs.each_s / self.ours.each_s

    @property
    def memory(self) -> float:
        return self.ours.each_mib / self.theirs.each_mib


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description="A node full of jobs.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--mounts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp/gridfs-bench"), help="where the rivals are")
    chosen = parser.parse_args()
    rivals = install(chosen.dir / "rivals")
    figures: list[Figure] = []
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridfs-runs-")))
        server = stack.enter_context(ceph(gib=2))
        source = make_files(work / "source")
        create(work, server, source)
        put_raw(server, source)
        (work / "place").mkdir()
        print(f"{os.cpu_count()} cores, {chosen.runs} runs, {chosen.nodes} nodes, Ceph RGW on loopback", flush=True)
        figures.append(together(work, server, chosen.runs))
        for in_turn, count, rounds in (False, chosen.mounts, chosen.rounds), (True, IN_TURN, IN_TURN_ROUNDS):
            figures += compared(
                [a_round(work, server, rivals, count, in_turn=in_turn) for _ in range(rounds)], count, in_turn
            )
        figures.append(attaching(work, server))
        figures.append(nodes(work, server, chosen.nodes))
    for figure in figures:
        print(f"{'met   ' if figure.met else 'MISSED'}  {figure.what}: {figure.value} (goal: {figure.goal})")
    return 0 if all(figure.met for figure in figures) else 1


def compared(rounds: Sequence[Round], count: int, in_turn: bool) -> list[Figure]:
    """The figures of *rounds*: the median, and what the rounds were apart."""
    how = "one after another" if in_turn else "started together"
    ours_s = statistics.median(each.ours.each_s for each in rounds)
    theirs_s = statistics.median(each.theirs.each_s for each in rounds)
    ratios = sorted(each.faster for each in rounds)
    memory = statistics.median(each.memory for each in rounds)
    faster = statistics.median(ratios)
    figures = [
        Figure(
            f"{count} mounts {how}, rclone's {theirs_s * 1000:.0f} ms, gridfs's {ours_s * 1000:.1f} ms each; faster by",
            f"{faster:.1f} times ({ratios[0]:.1f} to {ratios[-1]:.1f})",
            f"at least {FASTER_GOAL:.0f} times",
            faster >= FASTER_GOAL,
        )
    ]
    if not in_turn:
        figures.append(
            Figure(
                "memory for each mount, of rclone's", f"{memory:.3f}", f"at most {MEMORY_GOAL}", memory <= MEMORY_GOAL
            )
        )
    return figures


def together(work: Path, server: Server, count: int) -> Figure:
    """*count* runs on a node that has nothing yet."""
    side = our_side(work, server, count, in_turn=False)
    elapsed_s = side.each_s * count
    return Figure(
        f"{count} runs started together, each reads one file",
        f"{elapsed_s:.1f} s, one daemon of {side.each_mib * count:.0f} MiB",
        f"at most {RUNS_GOAL_S:.0f} s",
        elapsed_s <= RUNS_GOAL_S,
    )


def a_round(work: Path, server: Server, rivals: Rivals, count: int, *, in_turn: bool) -> Round:
    """Ours, and rclone's in the quicker of its two modes."""
    ours = our_side(work, server, count, in_turn=in_turn)
    sides = []
    for kind in RcloneFull, RcloneOff:
        place = Path(tempfile.mkdtemp(dir=work))
        with mounted(kind, rivals, place, server, count, in_turn=in_turn) as mounts:
            sides.append(Side(mounts.each_s, pss_mib(mounts.pids) / max(mounts.done, 1)))
            print(f"  {kind.name}: {mounts.done} in {mounts.elapsed_s:.1f} s", flush=True)
    theirs = Side(min(side.each_s for side in sides), min(side.each_mib for side in sides))
    print(f"  gridfs: {count} in {ours.each_s * count:.2f} s", flush=True)
    return Round(ours, theirs)


def our_side(work: Path, server: Server, count: int, *, in_turn: bool) -> Side:
    """Runs on a node of their own, which has nothing yet when they start together, and else serves already."""
    env = environment(work, server, Path(tempfile.mkdtemp(dir=work)).name)
    with unmounted_at_the_end(env):
        if in_turn:
            begin = time.monotonic()
            start_all([(env, count)], work)
            print(f"  gridfs: the first run, which starts the daemon, in {time.monotonic() - begin:.2f} s", flush=True)
        begin = time.monotonic()
        if in_turn:
            for number in range(count):
                start_all([(env, number)], work)
        else:
            start_all([(env, number) for number in range(count)], work)
        elapsed_s = time.monotonic() - begin
        daemons = json.loads(run([GRID, "status", "-o", "json"], env))
        if len(daemons) != 1:
            raise Failed(f"{len(daemons)} daemons where one was to serve all runs")
        return Side(elapsed_s / count, pss_mib([daemons[0]["pid"]]) / count)


def start_all(runs: Sequence[tuple[dict[str, str], int]], work: Path) -> None:
    """Starts a run for each environment and file, and verifies what they read."""
    processes = []
    for env, number in runs:
        place = work / "place"
        command = [GRID, "run", "--datastore_name", f"data:{place}", "--", "cat", f"{place}/{name_of(number)}"]
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for process, (_, number) in zip(processes, runs, strict=True):
        out, err = process.communicate()
        if process.returncode or out != content(number):
            raise Failed(f"run {number}: {last_words(err.decode()) or 'wrong bytes'}")


def attaching(work: Path, server: Server) -> Figure:
    """User and system time of a run whose command does nothing, from the program's start to the command's end."""
    env = environment(work, server)
    with unmounted_at_the_end(env):
        start_all([(env, 0)], work)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(ATTACHING_RUNS):
            run([GRID, "run", "--datastore_name", f"data:{work / 'place'}", "--", "true"], env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu_ms = cpu_s * 1000 / ATTACHING_RUNS
    return Figure(
        "CPU of a run that attaches", f"{cpu_ms:.0f} ms", f"at most {CPU_GOAL_MS:.0f} ms", cpu_ms <= CPU_GOAL_MS
    )


def nodes(work: Path, server: Server, count: int) -> Figure:
    """Seconds from a common start to the first byte in all nodes, and what the store was asked for."""
    with proxy(server, "counted") as counted, ExitStack() as stack:
        environments = [environment(work, counted.server, f"node-{number}") for number in range(count)]
        for env in environments:
            stack.enter_context(unmounted_at_the_end(env))
        counted.counted()
        begin = time.monotonic()
        start_all([(env, number) for number, env in enumerate(environments)], work)
        elapsed_s, requests = time.monotonic() - begin, counted.counted()
    return Figure(
        f"{count} nodes, common start to the first byte in all",
        f"{elapsed_s:.1f} s, {requests['requests']} requests to the store, {requests['bytes'] / 1e6:.1f} MB",
        f"at most {NODE_GOAL_S:.0f} s",
        elapsed_s <= NODE_GOAL_S,
    )


@contextmanager
def unmounted_at_the_end(env: dict[str, str]) -> Iterator[None]:
    """Ends the daemons of a node."""
    Path(env["XDG_RUNTIME_DIR"]).mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        from gridfs.errors import StoreUnavailable
        from gridfs.mount import control
        from gridfs.mount.registry import Registry

        registry = Registry(Path(env["XDG_RUNTIME_DIR"]) / "gridfs")
        for record in registry.living():
            with suppress(StoreUnavailable):  # it may be gone before it has answered
                control.ask(registry.directory_of(record.mount_id), "release")
            for _ in range(1000):
                if not os.path.exists(f"/proc/{record.pid}"):
                    break
                time.sleep(0.01)
        shutil.rmtree(env["XDG_CACHE_HOME"], ignore_errors=True)


def pss_mib(pids: list[int]) -> float:
    """Proportional set size of processes together: shared pages count once."""
    total_kib = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total_kib += int(line.split()[1])
    return total_kib / 1024


if __name__ == "__main__":
    sys.exit(main())
