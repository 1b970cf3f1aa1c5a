"""What every workload is given: servers, datasets, subjects, and where results go."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import data
from benchmarks.data import Dataset
from benchmarks.model import Key, Record
from benchmarks.processes import Failed, page_cache, run_job, said
from benchmarks.rivals import Rivals
from benchmarks.scale import Scale
from benchmarks.servers import BUCKET, Proxy, Server
from benchmarks.subjects.base import LocalFolder, Mounted
from benchmarks.subjects.gridfs import Directories, Gridfs, grid
from benchmarks.subjects.rivals import RcloneFull, RcloneOff, S3fs

T = TypeVar("T")

BARE = "obstore, no mount"
BOTO3 = "boto3 loop"
LOCAL = "local disk (ext4)"
MANAGED, NO_COPY = "", "-nocopy"


@dataclass(slots=True)
class Bench:
    """One run."""

    scale: Scale
    work: Path
    record: Record
    """Of the workload that is being done."""
    rivals: Rivals
    servers: dict[str, Server]
    counting: Proxy
    directories: Directories
    memory_root: Path
    """On tmpfs: what nginx serves."""
    made: dict[str, Dataset] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Preparations that were made."""
    broken: dict[str, str] = field(default_factory=dict)
    """Preparations that failed, with their message."""

    @property
    def sources(self) -> Path:
        return self.work / "data"

    def __post_init__(self) -> None:
        self.sources.mkdir(parents=True, exist_ok=True)

    # Subjects: a fresh object for each use, so that none carries state from one workload to the next.

    def gridfs(self) -> Gridfs:
        return Gridfs(self.directories)

    def rclones(self) -> list[RcloneFull | RcloneOff]:
        return [RcloneFull(self.rivals, self.work), RcloneOff(self.rivals, self.work)]

    def s3fs(self) -> S3fs:
        return S3fs(self.rivals, self.work)

    def local(self) -> LocalFolder:
        return LocalFolder(self.sources, LOCAL)

    # Datasets are made when a workload first asks for them.

    def dataset(self, name: str) -> Dataset:
        """The local folder; its content depends on the name."""
        if name not in self.made:
            self.say(f"making dataset {name}")
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name: str) -> Dataset:
        scale, directory = self.scale, self.sources
        if name == "big":
            return data.large_file(directory, name, scale.big_bytes)
        if name == "images":
            return data.images(directory, name, scale.images, scale.image_bytes, self.rivals.python_with("PIL"))
        counts = {"latency": scale.latency_files, "epoch": scale.epoch_files, "created": scale.created_files}
        if name in counts:
            return data.small_files(directory, name, counts[name], scale.file_bytes)
        return data.names(directory, name, {"listed": scale.listed_entries, "many": scale.many_entries}[name])

    def in_bucket(self, name: str) -> Dataset:
        """*name* file by file in the bucket, below raw/<name>/."""
        dataset = self.dataset(name)
        upload = data.upload_names if name == "listed" else data.upload
        self._once(f"upload {name}", lambda: upload(dataset, self.servers["rgw"]))
        return dataset

    def datastore(self, name: str) -> Dataset:
        """*name* as a datastore of gridfs in the bucket. Raises Failed when it can't be created."""
        dataset = self.dataset(name)
        create = ("datastore", "create", dataset.source, "--name", name)
        self._once(f"datastore {name}", lambda: grid(self.directories, self.servers["rgw"], *create))
        return dataset

    def no_copy(self, name: str, server: Server) -> Dataset:
        """*name* as a no-copy version over raw/<name>/, as *server* shows it."""
        dataset, key = self.in_bucket(name), f"{name}-{server.name}{NO_COPY}"
        create = ("datastore", "create", f"s3://{BUCKET}/{dataset.prefix}/", "--no-copy", "--name", key)
        self._once(f"no-copy {key}", lambda: grid(self.directories, server, *create))
        return dataset

    def serve_by_nginx(self, name: str) -> None:
        """Puts the objects of *name*, and its files one by one, where nginx has them in memory."""
        self.datastore(name)
        prefixes = [f"raw/{name}/", f"store/datastores/{name}/objects/"]
        self._once(f"nginx {name}", lambda: data.export(self.servers["rgw"], prefixes, self.memory_root, BUCKET))

    def _once(self, what: str, act: Callable[[], object]) -> None:
        if what in self.broken:
            raise Failed(self.broken[what])
        if what in self.done:
            return
        self.say(what)
        try:
            act()
        except Failed as error:
            self.broken[what] = str(error)
            raise
        self.done.add(what)

    # Jobs.

    def files_job(self, dataset: Dataset, root: Path, files: Sequence[data.File], **options: Any) -> dict[str, Any]:
        """Whole files of a directory, by jobs/files.py."""
        named = [[str(root / file.path), file.size_bytes, file.number] for file in files]
        job = {"kind": "files", "files": named, "access": "readv", "readers": 1, "whole": True}
        return run_job("files", job | {"limit_s": self.scale.pass_s} | options)

    def big_job(self, kind: str, root: Path, **options: Any) -> dict[str, Any]:
        """Parts of the large file of a directory."""
        job = {"kind": kind, "path": str(root / "big.bin"), "size": self.scale.big_bytes, "limit_s": self.scale.pass_s}
        return run_job("files", job | options)

    def client_job(self, client: str, kind: str, server: Server, **options: Any) -> dict[str, Any]:
        """The same by a bare client; `files` are given as files, and become keys here."""
        job = {
            "kind": kind,
            "client": client,
            "endpoint": server.endpoint,
            "bucket": BUCKET,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "limit_s": self.scale.pass_s,
        }
        page_cache.touch_memory()
        return run_job("client", job | options, self.rivals.python_with(client))

    # Turns and results.

    def turns(self, subjects: Sequence[T], rounds: int) -> Iterator[T]:
        """*subjects* alternately, *rounds* times, each round beginning with another of them."""
        for number in range(rounds):
            shift = number % len(subjects)
            yield from [*subjects[shift:], *subjects[:shift]]

    @contextmanager
    def attempt(self, workload: str, setting: str, subject: str) -> Iterator[Callable[[str, str, float], None]]:
        """Gives add(metric, unit, value); what the subject can't do becomes a failure of it, and the run goes on."""
        self.say(f"({workload}) {setting}: {subject}")
        start = time.monotonic()

        def add(metric: str, unit: str, value: float) -> None:
            self.record.add(Key(workload, setting, subject, metric), unit, value)
            print(f"    {metric}: {value:.4g} {unit}", flush=True)

        try:
            yield add
        except Exception as error:  # of a client, too: hours of other figures do not depend on it
            print(f"    FAILED: {error}", flush=True)
            self.record.fail(workload, setting, subject, said(error))
        if (took := time.monotonic() - start) > 30:
            print(f"    ({took:.0f} s)", flush=True)

    def memory(self, workload: str, subject: str, mount: Mounted) -> None:
        """What (k) is made of: the peak of the daemon in this workload."""
        if mount.pid is not None:
            self.record.add(Key("k", workload, subject, "peak anonymous memory"), "MiB", mount.memory.peak_mib)

    def say(self, text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True, file=sys.stdout)
