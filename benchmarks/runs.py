"""A node full of jobs, and many nodes at once: runs that start together, beside mounts of rclone.

    python -m benchmarks.runs [--runs 100] [--nodes 32]     (as root; about four minutes; `make bench` has the rivals)

runs     so many `grid run` of one datastore start together, each reads one file and ends; and the CPU that one
         takes which attaches to a daemon that is there
rclone   as many `rclone mount` of the same objects start together, each reads one file; those that have after a minute
nodes    so many daemons with runtime and cache directories of their own stand for as many nodes: a common start, and
         the first byte in all; the store's requests are counted by a proxy before it

All read from one Ceph RGW on loopback. Memory is the sum of the proportional set sizes (PSS) of what stays resident
while the mounts are there: for runs that is the daemon, since a run's own process becomes the command. Bytes are
compared with what was stored. Prints each figure beside its goal; the exit code is 1 when one is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Failed, last_words, run
from benchmarks.rivals import install
from benchmarks.servers import BUCKET, Server, ceph, proxy
from benchmarks.subjects.rivals import RcloneFull

CLASSES, FILES_EACH, FILE_BYTES = 8, 1300, 16 * 1024
"""ImageNet's shape, 1,300 files in a directory, with smaller files: what is measured is mounting and not reading."""
RCLONE_LIMIT_S = 60.0
NODE_GOAL_S, RUNS_GOAL_S, CPU_GOAL_MS = 30.0, 15.0, 100.0
ATTACHING_RUNS = 15


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result."""

    what: str
    value: str
    goal: str
    met: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description="A node full of jobs.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=32)
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
        print(f"{os.cpu_count()} cores, {chosen.runs} runs, {chosen.nodes} nodes, Ceph RGW on loopback", flush=True)

        elapsed_s, memory_mib, cpu_ms = together(work, server, source, chosen.runs)
        each_s = elapsed_s / chosen.runs
        figures.append(
            Figure(
                f"{chosen.runs} runs started together, each reads one file",
                f"{elapsed_s:.1f} s, one daemon of {memory_mib:.0f} MiB",
                f"at most {RUNS_GOAL_S:.0f} s",
                elapsed_s <= RUNS_GOAL_S,
            )
        )
        figures.append(
            Figure(
                "CPU of a run that attaches",
                f"{cpu_ms:.0f} ms",
                f"at most {CPU_GOAL_MS:.0f} ms",
                cpu_ms <= CPU_GOAL_MS,
            )
        )
        mounted, rclone_s, rclone_mib = rclone_mounts(work, server, source, rivals, chosen.runs)
        if mounted:
            faster = (rclone_s / mounted) / each_s
            figures.append(
                Figure(
                    f"rclone: {mounted} mounts in {rclone_s:.1f} s, {rclone_mib:.0f} MiB in all; gridfs is faster by",
                    f"{faster:.1f} times for each mount",
                    "at least 5 times",
                    faster >= 5,
                )
            )
            share = (memory_mib / chosen.runs) / (rclone_mib / mounted)
            figures.append(Figure("memory for each mount, of rclone's", f"{share:.3f}", "at most 0.1", share <= 0.1))
        nodes_s, requests = nodes(work, server, source, chosen.nodes)
        figures.append(
            Figure(
                f"{chosen.nodes} nodes, common start to the first byte in all",
                f"{nodes_s:.1f} s, {requests['requests']} requests to the store, {requests['bytes'] / 1e6:.1f} MB",
                f"at most {NODE_GOAL_S:.0f} s",
                nodes_s <= NODE_GOAL_S,
            )
        )
    for figure in figures:
        print(f"{'met   ' if figure.met else 'MISSED'}  {figure.what}: {figure.value} (goal: {figure.goal})")
    return 0 if all(figure.met for figure in figures) else 1


def make_files(directory: Path) -> Path:
    directory.mkdir()
    for number in range(CLASSES * FILES_EACH):
        path = directory / name_of(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content(number))
    return directory


def name_of(number: int) -> str:
    """Consecutive numbers lie in different directories, as what jobs read at one moment does."""
    return f"class-{number % CLASSES:02d}/{number:05d}.bin"


def content(number: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(FILE_BYTES)


def environment(work: Path, server: Server, node: str = "node") -> dict[str, str]:
    """Of one node: directories of its own, and the store."""
    place = work / node
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "AWS_", "GRIDFS_"))}
    return (
        kept
        | server.environment()
        | {
            "GRIDFS_STORE": f"s3://{BUCKET}/store",
            "AWS_ENDPOINT_URL": server.endpoint,
            "XDG_RUNTIME_DIR": str(place / "run"),
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_STATE_HOME": str(place / "state"),
            "XDG_CONFIG_HOME": str(place / "config"),
        }
    )


GRID = [sys.executable, "-m", "gridfs"]


def create(work: Path, server: Server, source: Path) -> None:
    run([*GRID, "datastore", "create", source, "--name", "data"], environment(work, server))


def put_raw(server: Server, source: Path) -> None:
    """The same files as objects of their own, for rclone."""
    import obstore

    store = server.store()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda n: obstore.put(store, f"raw/{name_of(n)}", content(n)), range(CLASSES * FILES_EACH)):
            pass


def start_run(work: Path, env: dict[str, str], number: int) -> subprocess.Popen[bytes]:
    name, place = name_of(number), work / "place"
    return subprocess.Popen(
        [*GRID, "run", "--datastore_name", f"data:{place}", "--", "sha256sum", f"{place}/{name}"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def verify(process: subprocess.Popen[bytes], number: int) -> None:
    out, err = process.communicate()
    expected = hashlib.sha256(content(number)).hexdigest().encode()
    if process.returncode or not out.startswith(expected):
        raise Failed(f"run {number}: {last_words(err.decode()) or 'wrong bytes'}")


def together(work: Path, server: Server, source: Path, count: int) -> tuple[float, float, float]:
    """Seconds until all of *count* runs are done, MiB of the one daemon that stayed, CPU milliseconds of one more."""
    (work / "place").mkdir()
    env = environment(work, server)
    with unmounted_at_the_end(env):
        begin = time.monotonic()
        processes = [start_run(work, env, number) for number in range(count)]
        for number, process in enumerate(processes):
            verify(process, number)
        elapsed_s = time.monotonic() - begin
        daemons = json.loads(run([*GRID, "status", "-o", "json"], env))
        if len(daemons) != 1:
            raise Failed(f"{len(daemons)} daemons where one was to serve all runs")
        memory_mib = pss_mib([daemons[0]["pid"]])
        return elapsed_s, memory_mib, statistics.median(attaching_cpu_ms(work, env) for _ in range(ATTACHING_RUNS))


def attaching_cpu_ms(work: Path, env: dict[str, str]) -> float:
    """User and system time of one run whose command does nothing, from the program's start to the command's end."""
    before = os.times()
    run([*GRID, "run", "--datastore_name", f"data:{work / 'place'}", "--", "true"], env)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) * 1000


def rclone_mounts(work: Path, server: Server, source: Path, rivals: object, count: int) -> tuple[int, float, float]:
    """How many of *count* mounts had their first file within a minute, the seconds, and MiB of the processes."""
    subjects = [RcloneFull(rivals, work / f"rclone-{number}") for number in range(count)]  # type: ignore[arg-type]
    begin, done = time.monotonic(), 0
    started: list[tuple[RcloneFull, subprocess.Popen[bytes]]] = []
    try:
        for subject in subjects:
            subject.root.mkdir(parents=True)
            subject.cache.mkdir(parents=True)
            command = subject.command("raw", server, None)
            env = os.environ | subject.environment(server)
            with subject.log.open("wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
            subject.process = process
            started.append((subject, process))
        waiting = dict(enumerate(started))
        while waiting and time.monotonic() - begin < RCLONE_LIMIT_S:
            for number, (subject, _) in list(waiting.items()):
                path = subject.root / name_of(number)
                if os.path.ismount(subject.root) and path.read_bytes() == content(number):
                    del waiting[number]
                    done += 1
            time.sleep(0.02)
        elapsed_s = time.monotonic() - begin
        return done, elapsed_s, pss_mib([process.pid for _, process in started])
    finally:
        for subject, _ in started:
            subject.stop()
            subject.forget()


def nodes(work: Path, server: Server, source: Path, count: int) -> tuple[float, dict[str, int]]:
    """Seconds from a common start to the first byte in all nodes, and what the store was asked for."""
    with proxy(server, "counted") as counted, ExitStack() as stack:
        environments = [environment(work, counted.server, f"node-{number}") for number in range(count)]
        for env in environments:
            Path(env["XDG_RUNTIME_DIR"]).mkdir(parents=True)
            stack.enter_context(unmounted_at_the_end(env))
        counted.counted()
        begin = time.monotonic()
        processes = [start_run(work, env, number) for number, env in enumerate(environments)]
        for number, process in enumerate(processes):
            verify(process, number)
        return time.monotonic() - begin, counted.counted()


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
