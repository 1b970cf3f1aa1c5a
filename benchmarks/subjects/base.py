"""The interface of what shows a dataset as a directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.data import Dataset
from benchmarks.processes import Memory, page_cache, watched
from benchmarks.servers import Server


@dataclass(frozen=True, slots=True)
class Mounted:
    """A directory that can be read now."""

    root: Path
    pid: int | None
    """Of the daemon; None for a local folder."""
    memory: Memory
    """Of the daemon, watched until it ends."""


class Subject(Protocol):
    """Something that shows datasets."""

    name: str

    def start(
        self, prefix: str, dataset: str, server: Server, *, cache_limit_bytes: int | None
    ) -> tuple[Path, int | None]:
        """Shows the files below *prefix* of the bucket, or the datastore *dataset*: its directory, its daemon's pid.

        Returns when the directory can be read. Raises Failed. Whatever was started, stop() takes away.
        """
        ...

    def stop(self) -> None:
        """Takes the directory away and waits for the daemon's end. Its caches on disk stay. Idempotent."""
        ...

    def forget(self) -> None:
        """Removes its caches on disk."""
        ...


@contextmanager
def mounted(
    subject: Subject,
    dataset: Dataset,
    server: Server,
    *,
    keep_cache: bool = False,
    cache_limit_bytes: int | None = None,
) -> Iterator[Mounted]:
    """*dataset* shown by a new daemon, cold: without its caches (unless *keep_cache*) and without the page cache."""
    if not keep_cache:
        subject.forget()
    try:
        root, pid = subject.start(dataset.prefix, dataset.name, server, cache_limit_bytes=cache_limit_bytes)
        page_cache.drop()
        with watched(pid) as memory:
            yield Mounted(root, pid, memory)
    finally:
        subject.stop()


class LocalFolder:
    """The source itself, on the machine's own file system: the limit of what is warm."""

    def __init__(self, source: Path, name: str) -> None:
        self.name = name
        self.source = source

    def start(self, prefix: str, dataset: str, server: Server, *, cache_limit_bytes: int | None) -> tuple[Path, None]:
        return self.source / dataset, None

    def stop(self) -> None:
        pass

    def forget(self) -> None:
        pass


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
