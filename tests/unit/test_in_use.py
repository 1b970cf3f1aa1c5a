"""Who is seen to use a version before it is deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from gridfs.mount import in_use, registry
from gridfs.mount.mounts import Mounted
from gridfs.mount.registry import Registry
from tests.unit.test_registry import new_mount, record_of

DEVICE = "0:999999"


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The mount of data@3 by a user whose registry is below run/user/1000, at /seen; the root of that machine."""
    found = Registry(tmp_path / "run/user/1000/gridfs")
    directory = new_mount(found)
    alive = registry.hold_alive(directory)
    registry.write_record(directory, record_of(directory))
    seen = Mounted(DEVICE, Path("/seen"), "fuse.gridfs", "gridfs:data@3", "")
    monkeypatch.setattr(in_use, "current", lambda: [seen])
    monkeypatch.setattr(in_use, "others_with", lambda record: iter(()))
    yield tmp_path
    os.close(alive)


def test_root_sees_another_users_mount(another: Path, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (use,) = in_use.in_use("file:///store", "data@3", private_dirs, another)
    assert use.paths == (Path("/seen"),)
    assert list(in_use.in_use("file:///store", "data@2", private_dirs, another)) == []
    assert list(in_use.in_use("file:///other", "data@3", private_dirs, another)) == []


def test_a_user_sees_their_own(another: Path, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert in_use.runtimes(private_dirs, another) == [private_dirs.runtime]


def test_a_link_is_not_followed(tmp_path: Path, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/gridfs-7").symlink_to("/etc")
    (tmp_path / "tmp/gridfs-8").mkdir()
    assert in_use.runtimes(private_dirs, tmp_path) == [private_dirs.runtime, tmp_path / "tmp/gridfs-8"]
