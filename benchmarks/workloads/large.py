"""(e), (f), (g): one file of 2 GiB, from start to end, at random, and by 8 processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.bench import BARE
from benchmarks.model import Key
from benchmarks.subjects.base import Subject, mounted
from benchmarks.workloads.epochs import READERS, prepared

if TYPE_CHECKING:
    from benchmarks.bench import Bench

READ_SIZES = {"128 KiB": 128 << 10, "1 MiB": 1 << 20}
RANDOM_SIZES = {"4 KiB": 4 << 10, "256 KiB": 256 << 10}
ONE_CONNECTION = "obstore, one connection"


def sequential(bench: Bench) -> None:
    dataset = bench.in_bucket("big")
    key = f"{dataset.prefix}/big.bin"
    for setting in ("rgw", "limited"):
        server = bench.servers[setting]
        mounts = {subject.name: subject for subject in _mounts(bench, local=setting == "rgw")}
        for name in bench.turns([*mounts, BARE, ONE_CONNECTION], bench.scale.slow_rounds):
            with bench.attempt("e", setting, name) as add:
                if name not in mounts:
                    kind = "stream" if name == ONE_CONNECTION else "sequential"
                    size = bench.scale.big_bytes
                    found = bench.client_job("obstore", kind, server, key=key, size=size, readers=READERS)
                    add("sequential", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)
                    continue
                sizes = READ_SIZES if setting == "rgw" else {"1 MiB": READ_SIZES["1 MiB"]}
                for title, read_bytes in sizes.items():
                    with mounted(mounts[name], prepared(bench, mounts[name], "big"), server) as mount:
                        found = bench.big_job("sequential", mount.root, read_bytes=read_bytes)
                    add(f"sequential, reads of {title}", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)
                    bench.memory("e", name, mount)


def random(bench: Bench) -> None:
    dataset, server = bench.in_bucket("big"), bench.servers["rgw"]
    key = f"{dataset.prefix}/big.bin"
    mounts = {subject.name: subject for subject in _mounts(bench, local=True)}
    for name in bench.turns([*mounts, BARE], bench.scale.rounds):
        with bench.attempt("f", "rgw", name) as add:
            for title, read_bytes in RANDOM_SIZES.items():
                options = {
                    "read_bytes": read_bytes,
                    "count": bench.scale.random_reads,
                    "limit_s": bench.scale.pass_s / 2,
                }
                if name == BARE:
                    size = bench.scale.big_bytes
                    found = bench.client_job("obstore", "random", server, key=key, size=size, **options)
                else:
                    with mounted(mounts[name], prepared(bench, mounts[name], "big"), server) as mount:
                        found = bench.big_job("random", mount.root, **options)
                    bench.memory("f", name, mount)
                bench.record.add_latencies(Key("f", "rgw", name, f"pread of {title}"), found["latencies_us"])
                add(f"preads of {title}", "reads/s", found["files"] / found["elapsed_s"])


def interleaved(bench: Bench) -> None:
    dataset, server = bench.in_bucket("big"), bench.servers["rgw"]
    key = f"{dataset.prefix}/big.bin"
    mounts = {subject.name: subject for subject in _mounts(bench, local=True)}
    for name in bench.turns([*mounts, BARE], bench.scale.slow_rounds):
        with bench.attempt("g", "rgw", name) as add:
            if name == BARE:
                size = bench.scale.big_bytes
                found = bench.client_job("obstore", "interleaved", server, key=key, size=size, readers=READERS)
            else:
                with mounted(mounts[name], prepared(bench, mounts[name], "big"), server) as mount:
                    found = bench.big_job("interleaved", mount.root, readers=READERS)
                bench.memory("g", name, mount)
            add("8 processes together", "GB/s", found["bytes"] / found["elapsed_s"] / 1e9)


def _mounts(bench: Bench, *, local: bool) -> list[Subject]:
    found: list[Subject] = [bench.gridfs(), *bench.rclones(), bench.s3fs()]
    return [*found, bench.local()] if local else found
