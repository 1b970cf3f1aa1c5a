"""Quick figures of the read path, for whoever changes it: rates beside the bare client, and CPU, in one run.

    python -m benchmarks.readpath mount NAME DIR [OPTION]...   NAME of the store that `grid` is set to, mounted at DIR
    python -m benchmarks.readpath buffers                      what memory for parts costs
    (docs/decisions/part-buffers.md)

`mount` mounts NAME with the OPTIONs of `grid mount` and an empty cache for each workload: cold files one after the
other, an epoch in tree order, a shuffled one by 8 processes, and the largest file from start to end. The daemon's CPU
is said with each, since it is what stays the same on a busy machine. The comparison with rivals is `python -m
benchmarks`.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

READERS = 8
COLD_FILES = 200
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def grid(*arguments: str) -> str:
    return subprocess.run(["grid", *arguments], check=True, capture_output=True, text=True).stdout


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def read_whole(path: str, buffer: bytearray) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    total = 0
    while count := os.readv(descriptor, [buffer]):
        total += count
    os.close(descriptor)
    return total


def read_all(paths: list[str]) -> None:
    buffer = bytearray(1 << 20)
    for path in paths:
        read_whole(path, buffer)


def by_processes(paths: list[str], count: int) -> None:
    jobs = [multiprocessing.Process(target=read_all, args=(paths[number::count],)) for number in range(count)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()


def workload(name: str, directory: str, options: list[str], title: str, work: Callable[[list[str]], str]) -> None:
    """Mounts, does *work* on the sorted files, prints what it says with time and CPU, and unmounts."""
    with tempfile.TemporaryDirectory(prefix="gridfs-readpath-") as cache:
        grid("mount", name, directory, "--cache-dir", cache, *options)
        try:
            mounts = json.loads(grid("status", "-o", "json"))
            pid = next(mount["pid"] for mount in mounts if directory in mount["paths"])
            files = sorted(os.path.join(top, file) for top, _, found in os.walk(directory) for file in found)
            before_s, start = cpu_s(pid), time.perf_counter()
            said = work(files)
            elapsed_s = time.perf_counter() - start
            print(f"{title:28} {said}  in {elapsed_s:.2f} s, CPU of the daemon {cpu_s(pid) - before_s:.2f} s")
        finally:
            grid("unmount", directory)


def cold(files: list[str]) -> str:
    chosen = random.Random(5).sample(files, min(COLD_FILES, len(files)))
    latencies, buffer = [], bytearray(1 << 20)
    for path in chosen:
        start = time.perf_counter()
        read_whole(path, buffer)
        latencies.append(time.perf_counter() - start)
    latencies.sort()
    return f"p50 {latencies[len(latencies) // 2] * 1e3:.2f} ms, p90 {latencies[len(latencies) * 9 // 10] * 1e3:.2f} ms"


def tree_order(files: list[str]) -> str:
    read_all(files)
    return f"{len(files)} files"


def shuffled(files: list[str]) -> str:
    order = random.Random(3).sample(files, len(files))
    by_processes(order, READERS)
    return f"{len(files)} files by {READERS}"


def largest(files: list[str]) -> str:
    path = max(files, key=os.path.getsize)
    return f"{read_whole(path, bytearray(1 << 20)) / 1e6:.0f} MB"


def buffers() -> None:
    """Fills 1 GiB in parts of 8 MiB, each dropped before the next, in three kinds of memory."""
    part, chunk = 8 << 20, bytes(256 << 10)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    for title, flags, huge in (
        ("shared", mmap.MAP_SHARED, False),
        ("private", private, False),
        ("large", private, True),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range((1 << 30) // part):
            area = mmap.mmap(-1, part, flags=flags)
            if huge:
                area.madvise(mmap.MADV_HUGEPAGE)
            for offset in range(0, part, len(chunk)):
                area[offset : offset + len(chunk)] = chunk
            area.close()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{title:8} {spent_s:.2f} s of CPU for 1 GiB, {after.ru_minflt - before.ru_minflt} page faults")


def main() -> None:
    match sys.argv[1:]:
        case ["buffers"]:
            buffers()
        case ["mount", name, directory, *options]:
            for title, work in (
                ("cold, one after the other", cold),
                ("in tree order", tree_order),
                ("shuffled", shuffled),
                ("the largest file", largest),
            ):
                workload(name, directory, options, title, work)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
