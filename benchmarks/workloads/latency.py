"""(a): one file after the other, serially; cold, where each read is the first of its file, and warm.

Cold is measured with the default settings and with `--prefetch none`: by default gridfs fetches what is likely to be
read next, so that later reads of one pass are no longer cold, which is the point of it but not the latency of a miss.
Warm passes alternate between all subjects while all are mounted, over files of 220 MB: what fits the processor's
caches of 32 MiB would be a measurement of those.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.bench import BARE, BOTO3, LOCAL
from benchmarks.model import Key
from benchmarks.subjects.base import Subject, mounted

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.bench import Bench

WARM_ACCESSES = ("readv", "builtin", "open+close")
PREFETCH_OFF = "gridfs, prefetch none"


def run(bench: Bench) -> None:
    _cold(bench, "rgw")
    _cold(bench, "nginx")
    _warm(bench)


def _mounts(bench: Bench, setting: str) -> list[Subject]:
    ours: list[Subject] = [bench.gridfs().with_options(PREFETCH_OFF, "--prefetch", "none"), bench.gridfs()]
    return [*ours, *bench.rclones(), bench.s3fs(), bench.local()] if setting == "rgw" else ours


def _cold(bench: Bench, setting: str) -> None:
    dataset, server = bench.in_bucket("latency"), bench.servers[setting]
    if setting == "nginx":
        bench.serve_by_nginx("latency")
    mounts = {subject.name: subject for subject in _mounts(bench, setting)}
    clients = {BARE: "obstore", BOTO3: "boto3"}
    for name in bench.turns([*mounts, *clients], bench.scale.rounds):
        order = dataset.shuffled(2 * bench.scale.latency_reads)
        by_readv, by_builtin = order[::2], order[1::2]
        with bench.attempt("a", setting, name) as add:
            if name in clients:
                keys = [[f"{dataset.prefix}/{file.path}", file.size_bytes, file.number] for file in by_readv]
                found = bench.client_job(clients[name], "files", server, files=keys, readers=1)
                bench.record.add_latencies(Key("a", setting, name, "cold"), found["latencies_us"])
                continue
            if name.startswith("gridfs"):
                bench.datastore("latency")
            with mounted(mounts[name], dataset, server) as mount:
                found = bench.files_job(dataset, mount.root, by_readv)
                bench.record.add_latencies(Key("a", setting, name, "cold"), found["latencies_us"])
                found = bench.files_job(dataset, mount.root, by_builtin, access="builtin")
                bench.record.add_latencies(Key("a", setting, name, "cold, Python open()"), found["latencies_us"])
            bench.memory("a", name, mount)
            add("cold files", "files/s", found["files"] / found["elapsed_s"])


def _warm(bench: Bench) -> None:
    dataset = bench.in_bucket("latency")
    files = dataset.shuffled()
    roots: dict[str, Path] = {}
    with ExitStack() as stack:
        subjects: list[Subject] = [bench.gridfs(), *bench.rclones(), bench.s3fs(), bench.local()]
        for subject in subjects:
            with bench.attempt("a", "warm", subject.name):
                if subject.name != LOCAL:
                    subject.forget()
                if subject.name == "gridfs":
                    bench.datastore("latency")
                stack.callback(subject.stop)
                roots[subject.name], _ = subject.start(
                    dataset.prefix, dataset.name, bench.servers["rgw"], cache_limit_bytes=None
                )
        for name in bench.turns(list(roots), bench.scale.warm_rounds):
            with bench.attempt("a", "warm", name):
                for access in WARM_ACCESSES:
                    found = bench.files_job(
                        dataset, roots[name], files, access=access, whole=False, warm_up=True, limit_s=1.5
                    )
                    bench.record.add_latencies(Key("a", "warm", name, access), found["latencies_us"])
