"""One run: what it needs is made, the workloads are done in turn, and everything is taken away, also on Ctrl-C."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.model import Record
from benchmarks.processes import Failed, busy_share, page_cache, said
from benchmarks.rivals import Rivals, install, versions
from benchmarks.scale import Scale
from benchmarks.subjects.base import remove
from benchmarks.subjects.gridfs import Directories
from benchmarks.workloads import WORKLOADS, Workload

MEMORY = Path("/dev/shm")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    scale: Scale, letters: list[str], place: Path, *, with_rivals: bool, save: Callable[[str, Record], None]
) -> tuple[int, int]:
    """Does the workloads of *letters* (all when empty) and saves the results of each: how many figures and failures.

    Raises Failed when this machine can't run any of them. A workload that fails is a failure among its results, and
    the run goes on.
    """
    if os.geteuid() != 0:
        raise Failed("the page cache can only be dropped by root: run it as root")
    page_cache.is_left_alone = not scale.drops_caches
    for number in ENDING:
        signal.signal(number, _interrupt)
    place.mkdir(parents=True, exist_ok=True)
    rivals = install(place / "rivals") if with_rivals else Rivals(place / "rivals/bin")
    start = time.time()
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="run-", dir=place))
        stack.callback(remove, work)
        memory_root = Path(tempfile.mkdtemp(prefix="gridfs-bench-", dir=MEMORY))
        memory_root.chmod(0o755)  # nginx's worker is another user
        stack.callback(remove, memory_root)
        runtime = Path(tempfile.mkdtemp(prefix="gridfs-bench-"))
        stack.callback(remove, runtime)
        print("starting the servers ...", flush=True)
        rgw = stack.enter_context(servers.ceph(scale.server_gib))
        if (small := servers.small_get_ms(rgw)) > servers.SMALL_GET_LIMIT_MS:
            raise Failed(
                f"a GET of 4 KiB takes {small:.1f} ms, which would measure the server (limit: "
                f"{servers.SMALL_GET_LIMIT_MS} ms): is tcp_nodelay=1 set, and the machine idle?"
            )
        limits = {"first_byte_ms": servers.FIRST_BYTE_MS, "rate_mb": servers.RATE_MB}
        limited = stack.enter_context(servers.proxy(rgw, "limited", **limits))
        counting = stack.enter_context(servers.proxy(rgw, "counted"))
        nginx = stack.enter_context(servers.nginx(rgw, work / "nginx", memory_root))
        described = about(scale, rivals, start) | {
            "small GET, ms": round(small, 2),
            "ceilings, GB/s": {
                f"{server.name}, {connections} connections": round(
                    servers.ceiling_gb_per_s(server, scale.ceiling_bytes, connections), 3
                )
                for server in (rgw, limited.server, counting.server)
                for connections in (1, 8, 16)
            },
        }
        reachable = {server.name: server for server in (rgw, limited.server, counting.server, nginx)}
        directories = Directories(work, runtime)
        bench = Bench(scale, work, Record(), rivals, reachable, counting, directories, memory_root)
        figures = failures = 0
        for workload in WORKLOADS:
            if not letters or workload.letter in letters:
                print(f"\n({workload.letter}) {workload.title}", flush=True)
                record = _measured(bench, workload, described)
                figures, failures = figures + len(record.figures), failures + len(record.failures)
                save(workload.letter, record)
    return figures, failures


def _measured(bench: Bench, workload: Workload, described: dict[str, Any]) -> Record:
    """The results of one workload."""
    record = bench.record = Record()
    others, begin = busy_share(0.3), time.time()
    try:
        workload.run(bench)
    except Exception as error:
        if not isinstance(error, Failed):
            traceback.print_exc()
        record.fail(workload.letter, "all", "the workload", said(error))
        print(f"FAILED: {error}", flush=True)
    took = {
        "when": _date(begin),
        "others' share of the processors": round(others, 2),
        "took, s": round(time.time() - begin),
    }
    record.about = described | {"measured": {workload.letter: took}}
    return record


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Ends the run; what comes after it is taking everything away, which a second Ctrl-C shall not cut short."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def about(scale: Scale, rivals: Rivals, start: float) -> dict[str, Any]:
    """On what, with what, when."""
    processor = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "when": _date(start),
        "machine": f"{os.cpu_count()} cores ({processor}), {memory / 2**30:.0f} GiB of memory, {_disk()}",
        "system": platform.platform(),
        "versions": versions(rivals),
        "scale": asdict(scale),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _disk() -> str:
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[1] == "/":
                return f"{fields[2]} with {shutil.disk_usage('/').free / 2**30:.0f} GiB free"
    return "unknown disk"
