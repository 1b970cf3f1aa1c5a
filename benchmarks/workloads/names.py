"""(h) and (i): trees of many entries, walked with `find` and `ls`; time from a mount command to a first byte."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bench import LOCAL
from benchmarks.processes import Failed, memory_bytes, page_cache, run
from benchmarks.subjects.base import Subject, mounted
from benchmarks.workloads.epochs import prepared

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.data import Dataset

FIND_LIMIT_S = 60.0
"""A rival that needs longer is shown as not having ended: s3fs asks a HEAD for each of 100,000."""


def walk(bench: Bench) -> None:
    _find(bench, "listed", bench.scale.listed_entries, [bench.gridfs(), *bench.rclones(), bench.s3fs(), bench.local()])
    _find(bench, "many", bench.scale.many_entries, [bench.gridfs(), bench.local()])
    _ls(bench)


def _find(bench: Bench, name: str, entries: int, subjects: list[Subject]) -> None:
    dataset, server = bench.dataset(name), bench.servers["rgw"]
    for subject in subjects:
        with bench.attempt("h", "rgw", subject.name) as add:
            if subject.name.startswith("gridfs") or name == "many":
                if subject.name != LOCAL:
                    bench.datastore(name)
            else:
                bench.in_bucket(name)
            with mounted(subject, dataset, server) as mount:
                before = kernel_memory_mib()
                for state in ("cold", "warm"):
                    seconds = _timed_find(mount.root, dataset, entries)
                    add(f"find with stat of {entries:,} entries, {state}", "s", seconds)
                add(f"kernel memory after find of {entries:,}", "MiB", kernel_memory_mib() - before)
            if mount.pid is not None:
                add(f"daemon's anonymous memory after find of {entries:,}", "MiB", mount.memory.peak_mib)


def _timed_find(root: Path, dataset: Dataset, entries: int) -> float:
    """`find` that asks size and time of every entry; what it says is compared with the number of entries."""
    start = time.perf_counter()
    output = run(["find", root, "-mindepth", "1", "-printf", "%y%s\n"], timeout_s=FIND_LIMIT_S)
    elapsed = time.perf_counter() - start
    lines = output.splitlines()
    found, expected = len(lines), entries
    if abs(found - expected) > 0.02 * expected or f"f{dataset.files[0].size_bytes}" not in lines:
        raise Failed(f"find: {found} entries instead of about {expected}")
    return elapsed


def kernel_memory_mib() -> float:
    """Slab of the kernel: dentries and inodes above all."""
    return memory_bytes("Slab") / 2**20


def _ls(bench: Bench) -> None:
    """`ls -l` of a directory of 2,000 files, warm, alternately; both are mounted all the while."""
    server = bench.servers["rgw"]
    with ExitStack() as stack:
        roots: dict[str, Path] = {}
        subjects: list[Subject] = [bench.gridfs(), bench.local()]
        for subject in subjects:
            with bench.attempt("h", "rgw", subject.name):
                dataset = bench.datastore("listed") if subject.name != LOCAL else bench.dataset("listed")
                roots[subject.name] = stack.enter_context(mounted(subject, dataset, server)).root
        for name in bench.turns(list(roots), bench.scale.warm_rounds + 2):
            with bench.attempt("h", "rgw", name) as add:
                command = ["ls", "-l", str(roots[name] / "00/00000")]
                run(command)
                start = time.perf_counter()
                for _ in range(5):
                    run(command)
                add("ls -l of 2,000 files, warm", "ms", (time.perf_counter() - start) / 5 * 1e3)


def mount(bench: Bench) -> None:
    small: list[Subject] = [bench.gridfs(), *bench.rclones(), bench.s3fs()]
    for subject in bench.turns(small, bench.scale.rounds):
        with bench.attempt("i", "rgw", subject.name) as add:
            dataset = prepared(bench, subject, "latency")
            add("mount to first byte", "s", _mount_to_byte(bench, subject, dataset, keep_cache=False))
    for _ in range(bench.scale.rounds):
        with bench.attempt("i", "rgw", "gridfs") as add:
            many, ours, entries = bench.datastore("many"), bench.gridfs(), f"{bench.scale.many_entries:,} entries"
            seconds = _mount_to_byte(bench, ours, many, keep_cache=False)
            add(f"mount to first byte, {entries}, manifest not on the node", "s", seconds)
            seconds = _mount_to_byte(bench, ours, many, keep_cache=True)
            add(f"mount to first byte, {entries}, manifest on the node", "s", seconds)
            add("transfer of its manifest alone", "s", _transfer_s(bench))


def _mount_to_byte(bench: Bench, subject: Subject, dataset: Dataset, *, keep_cache: bool) -> float:
    """From the start of the mount command until the first byte of a file was read.

    Without *keep_cache* the node has never seen any of it, Python's modules included.
    """
    if not keep_cache:
        subject.forget()
        page_cache.drop()
    try:
        start = time.perf_counter()
        root, _ = subject.start(dataset.prefix, dataset.name, bench.servers["rgw"], cache_limit_bytes=None)
        with (root / dataset.files[0].path).open("rb") as file:
            file.read(1)
        return time.perf_counter() - start
    finally:
        subject.stop()


def _transfer_s(bench: Bench) -> float:
    """A bare GET of the largest manifest in the store."""
    import obstore

    store = bench.servers["rgw"].store(timeout="600s")
    listed = [one for batch in obstore.list(store, "store/datastores/many/manifests/") for one in batch]
    largest = max(listed, key=lambda one: one["size"])
    start = time.perf_counter()
    obstore.get(store, largest["path"]).bytes()
    return time.perf_counter() - start
