"""A mount and its source are the same: names, kinds, modes by the rule, sizes, times, targets and every byte."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from gridfs.config import StoreSettings
from tests.mount.stage import MODES, Stage, stage
from tests.mount.trees import assert_same, make_oddities, make_sparse
from tests.support.data import ramp
from tests.support.s3 import S3Server


def test_tree_of_oddities(staged: Stage, tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source"
    make_oddities(source)
    result = staged.create(source, "oddities")
    assert {problem.reason for problem in result.problems} >= {"fifo", "device", "socket", "xattr"}
    mount = staged.mount(result.version, tmp_path / "mount", MODES[mode])
    assert_same(source, mount)
    assert_same(source, mount)  # once more, now from the kernel's caches


@pytest.mark.long
def test_a_sparse_file_of_four_gigabytes(staged: Stage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_sparse(source / "sparse")
    assert_same(source, staged.mount(staged.create(source, "sparse").version, tmp_path / "mount"))


def test_standard_library(staged: Stage, tmp_path: Path, mode: str) -> None:
    source = Path(sysconfig.get_path("stdlib")) / "encodings"
    if mode in ("image", "veil"):
        source = _standard_library(tmp_path / "stdlib")
    mount = staged.mount(staged.create(source, "stdlib").version, tmp_path / "mount", MODES[mode])
    assert assert_same(source, mount) > 100


@pytest.mark.long
@pytest.mark.timeout_s(600)
def test_usr_share(staged: Stage, tmp_path: Path) -> None:
    source = Path("/usr/share")
    result = staged.create(source, "share", skip_unreadable=True)
    mount = staged.mount(result.version, tmp_path / "mount")
    assert assert_same(source, mount) > 20_000


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_files_in_one_directory(staged: Stage, tmp_path: Path, count: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = [f"{number * 7919 % 100_003:06d}" for number in range(count)]
    for name in names:
        (source / name).touch()
    mount = staged.mount(staged.create(source, "flat").version, tmp_path / "mount")
    assert sorted(os.listdir(mount)) == sorted(names)
    assert sorted(os.listdir(staged.record().fuse_path)) == sorted(names)
    assert os.stat(mount / names[count * 7 // 9]).st_size == 0


@pytest.mark.parametrize(("server", "large_mib"), [("moto", 40), pytest.param("ceph", 120, marks=pytest.mark.ceph)])
def test_through_an_object_store(server: str, large_mib: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """120 MiB are more than a pack, and than the largest window of prefetching."""
    s3: S3Server = request.getfixturevalue(f"s3_{server}")
    settings = StoreSettings(url=f"s3://{s3.bucket}/a prefix", endpoint_url=s3.endpoint_url, region=s3.region)
    source = tmp_path / "source"
    make_oddities(source)
    with open(source / f"{large_mib} MiB", "wb") as file:
        for start in range(0, large_mib << 20, 1 << 20):
            file.write(ramp(1 << 20, start))
    directory = tmp_path / "stage"
    directory.mkdir()
    with stage(directory, Path(os.environ["XDG_RUNTIME_DIR"]), settings) as staged:
        version = staged.create(source, "oddities").version
        assert_same(source, staged.mount(version, tmp_path / "mount"))


def _standard_library(copy: Path) -> Path:
    """A copy of the standard library without what is installed beside it."""
    without = shutil.ignore_patterns("site-packages", "test", "config-*")
    return shutil.copytree(sysconfig.get_path("stdlib"), copy, symlinks=True, ignore=without)
