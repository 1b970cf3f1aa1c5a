"""`mount -t gridfs` and what a line of /etc/fstab becomes, by way of mount(8) itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.cli.fstab import translate
from gridfs.config import Paths
from gridfs.errors import InvalidInput
from tests.cli.conftest import Grid
from tests.support.daemons import living, release_all, wait_for_end
from tests.support.data import ramp


@pytest.fixture
def helper() -> Iterator[None]:
    """mount.gridfs where mount(8) looks for it, as the installation instructions put it there."""
    place = Path("/sbin/mount.gridfs")
    assert not place.exists(), f"{place} is installed on this machine; the test would not try this one's"
    place.symlink_to(Path(sys.executable).parent / "mount.gridfs")
    yield
    place.unlink()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)


@pytest.mark.usefixtures("helper")
def test_mount_and_umount_by_their_own_commands(grid: Grid, folder: Path, tmp_path: Path, private_dirs: Paths) -> None:
    for _ in range(2):
        grid("datastore", "create", folder, "--name", "pets").succeeded()
    place = tmp_path / "data"
    place.mkdir()
    mounted = run("mount", "-t", "gridfs", "pets@1", place)
    assert (mounted.returncode, mounted.stderr) == (0, "")
    assert (place / "cats" / "1.jpg").read_bytes() == ramp(50_000)
    (daemon,) = living(private_dirs.runtime)
    assert daemon.version == 1
    assert run("umount", place).returncode == 0
    wait_for_end(daemon.pid)


@pytest.mark.usefixtures("helper")
def test_a_line_of_fstab(grid: Grid, folder: Path, tmp_path: Path, private_dirs: Paths) -> None:
    store = tmp_path / "elsewhere"
    grid("--store", store, "datastore", "create", folder, "--name", "pets").succeeded()
    place = tmp_path / "data"
    place.mkdir()
    table = tmp_path / "fstab"
    options = f"_netdev,nofail,ro,allow_other,uid=7,gid=8,file_mode=0440,cache_dir={tmp_path}/cache,store={store}"
    table.write_text(f"pets@1 {place} gridfs {options} 0 0\n")
    mounted = run("mount", "--fstab", table, place)
    assert (mounted.returncode, mounted.stderr) == (0, "")
    status = (place / "cats" / "1.jpg").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (7, 8, 0o440)
    assert run("umount", place).returncode == 0
    release_all(private_dirs.runtime)  # it would see in some seconds that it was unmounted


@pytest.mark.usefixtures("helper")
def test_a_failure_is_mounts_failure_too(private_dirs: Paths, tmp_path: Path) -> None:
    mounted = run("mount", "-t", "gridfs", "none@1", tmp_path)
    assert mounted.returncode != 0
    assert "there is no datastore none" in mounted.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a@2", "/data"], ["mount", "a@2", "/data"]),
        (["a", "/d", "-o", "rw,ro"], ["mount", "a", "/d", "-o", "ro"]),
        (["a", "/d", "-o", "store=s3://b/p,uid=1"], ["mount", "a", "/d", "--store", "s3://b/p", "-o", "uid=1"]),
        (["a", "/d", "-sv", "-o", "no-sign-request"], ["--verbose", "mount", "a", "/d", "--no-sign-request"]),
        (["a", "/d", "-o", "max_cache_size=2G,veil=0"], ["mount", "a", "/d", "--max-cache-size", "2G", "--no-veil"]),
        (["a", "/d", "-N", "/proc/1/ns/mnt", "-t", "gridfs", "-n"], ["mount", "a", "/d"]),
        (["a", "/d", "-f"], None),
    ],
)
def test_options_become_those_of_grid_mount(arguments: list[str], expected: list[str] | None) -> None:
    assert translate(arguments) == expected


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "/d", "/e"], ["a", "/d", "-x"]])
def test_wrong_usage_says_the_right_one(arguments: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"usage: mount\.gridfs"):
        translate(arguments)


def test_flags_that_are_off() -> None:
    given = "foreground=0,no_sign_request=no,zero_open=off,image=YES"
    assert translate(["pets", "/data", "-o", given]) == ["mount", "pets", "/data", "--no-zero-open", "--image"]
    with pytest.raises(InvalidInput, match="'banana' is neither yes nor no"):
        translate(["pets", "/data", "-o", "image=banana"])
