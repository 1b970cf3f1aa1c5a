"""Daemons that a test's commands started, found through the registry as gridfs itself finds them."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from gridfs.errors import StoreUnavailable
from gridfs.mount import control
from gridfs.mount.registry import Registry
from gridfs.mount.spec import MountRecord


def living(runtime: Path) -> list[MountRecord]:
    """The ready daemons of the runtime directory."""
    return Registry(runtime).living()


def wait_for_end(pid: int) -> None:
    """Returns when the process has ended. The test's time limit is the bound."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def release_all(runtime: Path) -> None:
    """Lets every living daemon go, and returns when they have."""
    registry = Registry(runtime)
    for record in living(runtime):
        with contextlib.suppress(StoreUnavailable):  # it may be gone before it has answered
            control.ask(registry.directory_of(record.mount_id), "release")
        wait_for_end(record.pid)
