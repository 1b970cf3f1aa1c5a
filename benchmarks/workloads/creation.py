"""(j): a dataset gets into the store: 10,000 small files, and one of 2 GiB; and, without a server, beside `cp -r`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import Failed, drop_page_cache, run
from benchmarks.servers import BUCKET
from benchmarks.subjects.base import mounted, remove
from benchmarks.subjects.gridfs import grid

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.data import Dataset
    from benchmarks.servers import Server

PREFIX = "created"


def measure(bench: Bench) -> None:
    for name in ("created", "big"):
        dataset = bench.dataset(name)
        what = (
            f"{len(dataset.files):,} files" if len(dataset.files) > 1 else f"1 file of {dataset.size_bytes >> 20} MiB"
        )
        _into_bucket(bench, dataset, what)
    _into_directory(bench, bench.dataset("created"))


def _into_bucket(bench: Bench, dataset: Dataset, what: str) -> None:
    server = bench.servers["rgw"]
    creators: dict[str, Callable[[], object]] = {
        "gridfs": lambda: _grid(bench, server, dataset),
        "rclone copy": lambda: _rclone(bench, server, dataset),
        "aws s3 sync": lambda: _aws(bench, server, dataset),
    }
    for name in bench.turns(list(creators), 1):
        with bench.attempt("j", "rgw", name) as add:
            drop_page_cache()
            start = time.perf_counter()
            creators[name]()
            elapsed = time.perf_counter() - start
            add(f"creation of {what}", "s", elapsed)
            add(f"creation of {what}, bytes", "GB/s", dataset.size_bytes / elapsed / 1e9)
            _check(bench, server, dataset, name)
            _clean(server, [f"{PREFIX}/", f"store/datastores/{dataset.name}-{PREFIX}/"])


def _grid(bench: Bench, server: Server, dataset: Dataset) -> str:
    return grid(bench.directories, server, "datastore", "create", dataset.source, "--name", f"{dataset.name}-{PREFIX}")


def _rclone(bench: Bench, server: Server, dataset: Dataset) -> str:
    """16 transfers at once, and no listing and no HEAD of what can't be there yet, as its documentation advises."""
    command: Sequence[str | Path] = [
        bench.rivals.require("rclone"),
        "copy",
        dataset.source,
        f"bench:{BUCKET}/{PREFIX}",
        "--transfers=16",
        "--no-traverse",
        "--s3-no-head",
        "--s3-upload-concurrency=8",
        "--s3-chunk-size=16M",
    ]
    return run(command, os.environ | bench.rclones()[0].environment(server), timeout_s=300)


def _aws(bench: Bench, server: Server, dataset: Dataset) -> str:
    target = f"s3://{BUCKET}/{PREFIX}"
    program = bench.rivals.require("aws")
    command: Sequence[str | Path] = [program, "s3", "sync", dataset.source, target, "--only-show-errors"]
    environment = (
        os.environ | server.environment() | {"AWS_ENDPOINT_URL": server.endpoint, "AWS_CONFIG_FILE": "/dev/null"}
    )
    return run(command, environment, timeout_s=300)


def _check(bench: Bench, server: Server, dataset: Dataset, creator: str) -> None:
    """Some of the files as they are in the bucket; gridfs's through a mount."""
    import obstore

    picked = dataset.shuffled(50)
    if creator == "gridfs":
        with mounted(bench.gridfs().of(f"-{PREFIX}", creator), dataset, server) as mount:
            if dataset.name == "big":
                bench.big_job("sequential", mount.root, read_bytes=1 << 20)
            else:
                bench.files_job(dataset, mount.root, picked)
        return
    store = server.store(timeout="600s")
    for file in picked:
        if bytes(obstore.get(store, f"{PREFIX}/{file.path}").bytes()) != (dataset.source / file.path).read_bytes():
            raise Failed(f"{file.path}: other bytes than were stored")


def _clean(server: Server, prefixes: Sequence[str]) -> None:
    """The server keeps everything in memory."""
    import obstore

    store = server.store(timeout="600s")
    for prefix in prefixes:
        for batch in obstore.list(store, prefix, chunk_size=1000):
            obstore.delete(store, [one["path"] for one in batch])


def _into_directory(bench: Bench, dataset: Dataset) -> None:
    """A directory store beside `cp -r`, both with the data on disk at the end."""
    target = bench.work / "copied"

    def copy() -> None:
        run(["cp", "-r", dataset.source, target])
        run(["sync"])

    def create() -> None:
        store = ("--store", f"file://{target}")
        grid(bench.directories, None, *store, "datastore", "create", dataset.source, "--name", PREFIX)
        run(["sync"])

    creators: dict[str, Callable[[], None]] = {"gridfs": create, "cp -r": copy}
    for name in bench.turns(list(creators), bench.scale.rounds):
        remove(target)
        run(["sync"])
        with bench.attempt("j", "local", name) as add:
            start = time.perf_counter()
            creators[name]()
            add(f"creation of {len(dataset.files):,} files and sync", "s", time.perf_counter() - start)
    remove(target)
