"""A store, directories and mounts of a test's own: datastores are made and mounted as the commands do it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from gridfs.config import CacheSettings, MountOptions, Paths, StoreSettings
from gridfs.create.creation import CreateResult, create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.model import Version
from gridfs.mount import client
from gridfs.mount.client import MountRequest, MountStatus
from gridfs.mount.mounts import current, top_at
from gridfs.mount.spec import MountRecord
from gridfs.store.stack import open_store

MODES = {
    "image": MountOptions(allow_other=True),
    "veil": MountOptions(allow_other=True, image=False),
    "bare": MountOptions(allow_other=True, veil=False),
    "asked": MountOptions(allow_other=True, veil=False, zero_open=False),
}
"""As an image; zero-message open below an overlay; without that; and every open() asked of the daemon."""


def is_image(mount: Path) -> bool:
    """Whether the kernel reads what is at *mount* as an image: some answers are then EROFS's and not the daemon's."""
    shown = top_at(mount, current())
    return shown is not None and shown.fstype == "erofs"


@dataclass
class Stage:
    """Where everything of one test lies."""

    paths: Paths
    store: StoreSettings
    expects_incidents: bool = False
    mounted: list[Path] = field(default_factory=list)

    def create(self, folder: Path, name: str, *, skip_unreadable: bool = False) -> CreateResult:
        async def work() -> CreateResult:
            store = await open_store(self.store)
            try:
                request = CreateRequest(name, str(folder), skip_unreadable=skip_unreadable)
                return await create_datastore(request, store, self.paths, Silent())
            finally:
                await store.aclose()

        return trio.run(work)

    def request(self, version: Version, path: Path | None, options: MountOptions | None = None) -> MountRequest:
        return MountRequest(self.store, version, CacheSettings(self.paths.cache), options or MODES["image"], path)

    def mount(self, version: Version, path: Path, options: MountOptions | None = None) -> Path:
        path.mkdir(exist_ok=True)
        shown = client.mount(self.request(version, path, options), self.paths)
        self.mounted.append(shown)
        return shown

    def unmount(self, path: Path, *, lazy: bool = False) -> None:
        client.unmount(str(path), self.paths, lazy=lazy)
        self.mounted.remove(path)

    def statuses(self) -> list[MountStatus]:
        return client.status(self.paths)

    def record(self) -> MountRecord:
        """The only daemon's."""
        (status,) = self.statuses()
        assert status.record is not None
        return status.record

    def judge(self) -> None:
        """Judges the daemons: none met a defect, or anything that was not expected."""
        for status in self.statuses():
            if status.detail:
                assert status.detail["counters"].get("defects", 0) == 0, status.detail["incidents"]
                assert self.expects_incidents or status.detail["incidents"] == []

    def unmount_all(self) -> None:
        for path in list(self.mounted):
            if os.path.ismount(path):
                self.unmount(path, lazy=True)


@contextmanager
def stage(directory: Path, runtime: Path, store: StoreSettings | None = None) -> Iterator[Stage]:
    """*runtime* is short: a socket's address must fit."""
    for name in ("data", "cache", "state"):
        (directory / name).mkdir(0o700, exist_ok=True)
    paths = Paths(directory / "data", directory / "cache", directory / "state", directory / "config.toml", runtime)
    made = Stage(paths, store or StoreSettings(url=f"file://{directory}/data/store"))
    try:
        yield made
        made.judge()
    finally:
        made.unmount_all()
        for large in (paths.data, paths.cache):  # pytest keeps the directories of three runs
            shutil.rmtree(large, ignore_errors=True)
