"""(b), (c), (c2), (d), (d2): every file of a dataset once, by one reader in tree order or by 8 in a shuffled one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bench import BARE, BOTO3, LOCAL
from benchmarks.subjects.base import Subject, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench import Bench
    from benchmarks.data import Dataset, File
    from benchmarks.servers import Server

READERS = 8
CLIENTS = {BARE: "obstore", BOTO3: "boto3"}


def prepared(bench: Bench, subject: Subject, name: str) -> Dataset:
    """Dataset *name* where *subject* reads it."""
    return bench.datastore(name) if subject.name.startswith("gridfs") else bench.in_bucket(name)


def add_rate(add: Callable[[str, str, float], None], metric: str, found: dict[str, Any]) -> None:
    add(metric, "files/s", found["files"] / found["elapsed_s"])
    add(f"{metric}, bytes", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)


def client_epoch(
    bench: Bench, name: str, server: Server, files: Sequence[File], prefix: str, readers: int
) -> dict[str, Any]:
    keys = [[f"{prefix}/{file.path}", file.size_bytes, file.number] for file in files]
    return bench.client_job(CLIENTS[name], "files", server, files=keys, readers=readers)


def tree_order(bench: Bench) -> None:
    dataset, server = bench.in_bucket("epoch"), bench.servers["rgw"]
    mounts: dict[str, Subject] = {
        subject.name: subject for subject in [bench.gridfs(), *bench.rclones(), bench.s3fs(), bench.local()]
    }
    for name in bench.turns([*mounts, *CLIENTS], bench.scale.slow_rounds):
        with bench.attempt("b", "rgw", name) as add:
            if name in CLIENTS:
                add_rate(add, "first epoch", client_epoch(bench, name, server, dataset.files, dataset.prefix, 1))
                continue
            with mounted(mounts[name], prepared(bench, mounts[name], "epoch"), server) as mount:
                add_rate(add, "first epoch", bench.files_job(dataset, mount.root, dataset.files, walk=True))
            bench.memory("b", name, mount)
    for _ in range(bench.scale.slow_rounds):
        with bench.attempt("b", "rgw", "obstore, parts of 8 MiB") as add:
            big = bench.in_bucket("big")
            key = f"{big.prefix}/big.bin"
            size = min(bench.scale.big_bytes, 512 << 20)
            found = bench.client_job("obstore", "sequential", server, key=key, size=size, readers=READERS)
            add("first epoch, bytes", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)


def shuffled(bench: Bench) -> None:
    """(c) in both settings, and (d) in the mounts of the first."""
    dataset = bench.in_bucket("epoch")
    files = dataset.shuffled()
    for setting in ("rgw", "limited"):
        server = bench.servers[setting]
        mounts: dict[str, Subject] = {
            subject.name: subject for subject in [bench.gridfs(), *bench.rclones(), bench.s3fs()]
        }
        if setting == "rgw":
            mounts[LOCAL] = bench.local()
        for name in bench.turns([*mounts, *CLIENTS], bench.scale.slow_rounds):
            with bench.attempt("c", setting, name) as add:
                if name in CLIENTS:
                    found = client_epoch(bench, name, server, files, dataset.prefix, READERS)
                    add_rate(add, "first epoch", found)
                    continue
                with mounted(mounts[name], prepared(bench, mounts[name], "epoch"), server) as mount:
                    found = bench.files_job(dataset, mount.root, files, readers=READERS)
                    add_rate(add, "first epoch", found)
                    if setting == "rgw":
                        _second(bench, name, mount.root, dataset, files[: found["files"]])
                bench.memory("c", name, mount)


def _second(bench: Bench, name: str, root: Path, dataset: Dataset, files: Sequence[File]) -> None:
    """(d): what the first epoch has read, again, in another order."""
    for _ in range(bench.scale.again_passes):
        with bench.attempt("d", "rgw", name) as add:
            again = list(reversed(files))
            add_rate(
                add, "second epoch", bench.files_job(dataset, root, again, readers=READERS, whole=False, limit_s=3.0)
            )


def small_cache(bench: Bench) -> None:
    dataset, server = bench.in_bucket("epoch"), bench.counting.server
    files, limit = dataset.shuffled(), dataset.size_bytes // 4
    subjects: list[Subject] = [
        bench.gridfs(),
        bench.gridfs().with_options("gridfs, prefetch none", "--prefetch", "none"),
    ]
    subjects.append(bench.rclones()[0])
    for subject in bench.turns(subjects, bench.scale.slow_rounds):
        with bench.attempt("c2", "counted", subject.name) as add:
            ready = prepared(bench, subject, "epoch")
            with mounted(subject, ready, server, cache_limit_bytes=limit) as mount:
                bench.counting.counted()
                found = bench.files_job(dataset, mount.root, files, readers=READERS)
                passed = bench.counting.counted()
            add_rate(add, "first epoch", found)
            add("bytes fetched for each byte read", "x", passed["bytes"] / found["bytes"])
            add("requests for each file", "", passed["requests"] / found["files"])
            bench.memory("c2", subject.name, mount)


def restarted(bench: Bench) -> None:
    """(d2): a first epoch fills the cache; a new daemon then serves it from disk."""
    dataset, server = bench.in_bucket("epoch"), bench.counting.server
    files = dataset.shuffled()
    subjects: list[Subject] = [bench.gridfs(), bench.rclones()[0], bench.s3fs(), bench.local()]
    for subject in bench.turns(subjects, bench.scale.slow_rounds):
        with bench.attempt("d2", "counted", subject.name) as add:
            ready, known = prepared(bench, subject, "epoch"), files
            if subject.name != LOCAL:
                with mounted(subject, ready, server) as mount:
                    filled = bench.files_job(dataset, mount.root, files, readers=READERS)
                    _until_quiet(bench)
                known = files[: filled["files"]]
            with mounted(subject, ready, server, keep_cache=True) as mount:
                bench.counting.counted()
                found = bench.files_job(dataset, mount.root, known, readers=READERS)
                passed = bench.counting.counted()
            add_rate(add, "epoch after a restart", found)
            if subject.name != LOCAL:
                add("GETs", "", passed["gets"])
            bench.memory("d2", subject.name, mount)


def _until_quiet(bench: Bench, seconds: float = 0.5, at_most_s: float = 10.0) -> None:
    """Until nothing has been fetched for half a second: what fills caches behind the readers is to be done."""
    end = time.monotonic() + at_most_s
    bench.counting.counted()
    time.sleep(seconds)
    while bench.counting.counted()["bytes"] and time.monotonic() < end:
        time.sleep(seconds)
