"""A /dev/fuse descriptor handed in: the parent mounts, `grid mount NAME /dev/fd/N --foreground` only serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridfs.config import Paths
from gridfs.mount import syscalls
from gridfs.mount.syscalls import MountFlag, UmountFlag
from tests.support.data import ramp


def grid(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gridfs", *map(str, arguments)]


@pytest.fixture
def datastore(private_dirs: Paths, tmp_path: Path) -> str:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(ramp(300_000))
    subprocess.run(grid("datastore", "create", tmp_path / "source", "--name", "data"), check=True)
    return "data"


def test_a_parent_mounts_and_gridfs_serves(datastore: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    syscalls.mount("gridfs", place, "fuse", MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV, data)
    try:
        daemon = subprocess.Popen(
            grid("mount", datastore, f"/dev/fd/{device}", "--foreground"),
            pass_fds=(device,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(device)
        assert daemon.stderr is not None
        with daemon.stderr:
            assert (place / "file").read_bytes() == ramp(300_000)  # the kernel holds requests until it is served
            syscalls.umount(place, UmountFlag.DETACH)
            assert daemon.wait() == 0
            assert b"Traceback" not in daemon.stderr.read()
    finally:
        if place.is_mount():
            syscalls.umount(place, UmountFlag.DETACH)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/dev/fd/0"], "descriptor 0 is"),
        (["/dev/fd/77", "--foreground"], "descriptor 77 is not open"),
        (["/dev/fd/{fuse}"], "needs --foreground"),
    ],
)
def test_what_was_not_handed_in_is_told(datastore: str, arguments: list[str], says: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        command = grid("mount", datastore, *(argument.format(fuse=device) for argument in arguments))
        done = subprocess.run(
            command, pass_fds=(device,), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    finally:
        os.close(device)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
