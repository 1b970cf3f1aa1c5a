"""(l): a PyTorch DataLoader, by plain open() on a mount, by litData from the bucket, and from a local folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.bench import LOCAL
from benchmarks.processes import page_cache, run_job
from benchmarks.servers import BUCKET, Server
from benchmarks.subjects.base import Subject, mounted, remove
from benchmarks.workloads.epochs import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.data import Dataset

LITDATA = {"litData, cache on": True, "litData, cache off": False}
WORKERS = (0, 2)
EPOCHS = 2


def run(bench: Bench) -> None:
    server = bench.servers["rgw"]
    mounts: list[Subject] = [bench.gridfs(), bench.local()]
    subjects = {subject.name: subject for subject in mounts}
    for name in bench.turns([*subjects, *LITDATA], bench.scale.slow_rounds):
        for workers in WORKERS:
            with bench.attempt("l", "rgw", name) as add:
                if name in LITDATA:
                    rates = _litdata(bench, server, bench.in_bucket("images"), workers, cache=LITDATA[name])
                else:
                    dataset = bench.dataset("images") if name == LOCAL else prepared(bench, subjects[name], "images")
                    with mounted(subjects[name], dataset, server) as mount:
                        rates = _loader(bench, dataset, workers, {"root": str(mount.root)})
                    bench.memory("l", name, mount)
                for title, rate in zip(("first epoch", "second epoch"), rates, strict=True):
                    add(f"{title}, {workers} workers", "images/s", rate)


def _loader(bench: Bench, dataset: Dataset, workers: int, options: dict[str, Any]) -> list[float]:
    job = {
        "source": str(dataset.source),
        "names": [file.path for file in dataset.files],
        "workers": workers,
        "epochs": EPOCHS,
        "limit_s": 15.0,
    }
    rates: list[float] = run_job("loader", job | options, bench.rivals.python_with("torch"))["images_per_s"]
    return rates


def _litdata(bench: Bench, server: Server, dataset: Dataset, workers: int, *, cache: bool) -> list[float]:
    """A cold cache directory of its own; litData keeps its index of the bucket there, too."""
    directory: Path = bench.work / "litdata"
    remove(directory)
    page_cache.drop()
    options = {
        "bucket_url": f"s3://{BUCKET}/{dataset.prefix}",
        "cache_dir": str(directory),
        "cache": cache,
        "endpoint": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    try:
        return _loader(bench, dataset, workers, options)
    finally:
        remove(directory)
