"""(m): the reads of (a), (c) and (e) over the bucket's own objects, which a no-copy version leaves where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.bench import NO_COPY
from benchmarks.model import Key
from benchmarks.subjects.base import mounted
from benchmarks.workloads.epochs import READERS, add_rate

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.subjects.gridfs import Gridfs

NAME = "gridfs, no-copy"


def run(bench: Bench) -> None:
    for _ in range(bench.scale.slow_rounds):
        _latency(bench)
        for setting in ("rgw", "limited"):
            _shuffled(bench, setting)
            _sequential(bench, setting)


def _subject(bench: Bench, setting: str) -> Gridfs:
    """Its manifest names the bucket by the endpoint that it was made through, so each setting has its own."""
    return bench.gridfs().of(f"-{setting}{NO_COPY}", NAME)


def _latency(bench: Bench) -> None:
    server = bench.servers["rgw"]
    with bench.attempt("m", "rgw", NAME):
        dataset = bench.no_copy("latency", server)
        files = dataset.shuffled(bench.scale.latency_reads)
        with mounted(_subject(bench, "rgw"), dataset, server) as mount:
            found = bench.files_job(dataset, mount.root, files)
        bench.record.add_latencies(Key("m", "rgw", NAME, "(a) cold"), found["latencies_us"])


def _shuffled(bench: Bench, setting: str) -> None:
    server = bench.servers[setting]
    with bench.attempt("m", setting, NAME) as add:
        dataset = bench.no_copy("epoch", server)
        with mounted(_subject(bench, setting), dataset, server) as mount:
            found = bench.files_job(dataset, mount.root, dataset.shuffled(), readers=READERS)
        add_rate(add, "(c) first epoch", found)
        bench.memory("m", NAME, mount)


def _sequential(bench: Bench, setting: str) -> None:
    server = bench.servers[setting]
    with bench.attempt("m", setting, NAME) as add:
        dataset = bench.no_copy("big", server)
        with mounted(_subject(bench, setting), dataset, server) as mount:
            found = bench.big_job("sequential", mount.root, read_bytes=1 << 20)
        add("(e) sequential, reads of 1 MiB", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)
        bench.memory("m", NAME, mount)
