"""(j): a dataset gets into the store: 10,000 small files, and one of 2 GiB; and, without a server, beside `cp -r`.

Each creator has a server of its own: RGW frees what is deleted only later, and keeps everything in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from benchmarks import data, servers
from benchmarks.bench import BARE
from benchmarks.processes import Failed, page_cache, run
from benchmarks.servers import BUCKET
from benchmarks.subjects.base import mounted, remove
from benchmarks.subjects.gridfs import grid

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.data import Dataset
    from benchmarks.servers import Server

PREFIX = "created"

Creator: TypeAlias = "Callable[[Bench, Server, Dataset], str]"


def measure(bench: Bench) -> None:
    datasets = [bench.dataset(name) for name in ("created", "big")]
    creators: dict[str, Creator] = {"gridfs": _grid, "rclone copy": _rclone, "aws s3 sync": _aws, BARE: _bare}
    for name, create in creators.items():
        with (
            nullcontext(bench.servers["rgw"])
            if bench.scale.shares_server
            else servers.ceph(bench.scale.server_gib) as server
        ):
            for dataset in datasets:
                _into_bucket(bench, server, dataset, name, create)
    _into_directory(bench, datasets[0])


def _into_bucket(bench: Bench, server: Server, dataset: Dataset, name: str, create: Creator) -> None:
    count, mib = len(dataset.files), dataset.size_bytes >> 20
    what = f"{count:,} files" if count > 1 else f"1 file of {mib} MiB"
    with bench.attempt("j", "rgw", name) as add:
        page_cache.drop()
        start = time.perf_counter()
        create(bench, server, dataset)
        elapsed = time.perf_counter() - start
        add(f"creation of {what}", "s", elapsed)
        add(f"creation of {what}, bytes", "GB/s", dataset.size_bytes / elapsed / 1e9)
        _check(bench, server, dataset, name)


def _grid(bench: Bench, server: Server, dataset: Dataset) -> str:
    return grid(bench.directories, server, "datastore", "create", dataset.source, "--name", f"{dataset.name}-{PREFIX}")


def _rclone(bench: Bench, server: Server, dataset: Dataset) -> str:
    """16 transfers at once, and no listing and no HEAD of what can't be there yet, as its documentation advises."""
    command: Sequence[str | Path] = [
        bench.rivals.require("rclone"),
        "copy",
        dataset.source,
        f"bench:{BUCKET}/{PREFIX}-rclone copy",
        "--transfers=16",
        "--no-traverse",
        "--s3-no-head",
        "--s3-upload-concurrency=8",
        "--s3-chunk-size=16M",
    ]
    return run(command, os.environ | bench.rclones()[0].environment(server), timeout_s=300)


def _aws(bench: Bench, server: Server, dataset: Dataset) -> str:
    target = f"s3://{BUCKET}/{PREFIX}-aws s3 sync"
    program = bench.rivals.require("aws")
    command: Sequence[str | Path] = [program, "s3", "sync", dataset.source, target, "--only-show-errors"]
    environment = (
        os.environ | server.environment() | {"AWS_ENDPOINT_URL": server.endpoint, "AWS_CONFIG_FILE": "/dev/null"}
    )
    return run(command, environment, timeout_s=300)


def _bare(bench: Bench, server: Server, dataset: Dataset) -> str:
    """16 files at once, a large one in parts of 16 MiB, 4 of them at once."""
    data.upload(dataset, server, f"{PREFIX}-{BARE}")
    return ""


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
        stored = obstore.get(store, f"{PREFIX}-{creator}/{file.path}")
        with (dataset.source / file.path).open("rb") as source:
            same = all(chunk == source.read(len(chunk)) for chunk in stored)  # in pieces: two servers fill the memory
            if not same or source.read(1):
                raise Failed(f"{file.path}: other bytes than were stored")


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
