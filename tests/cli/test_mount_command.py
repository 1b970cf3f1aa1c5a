"""`grid mount`, `status`, `unmount` as a person uses them; what they refuse, and that nothing is left behind then."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from tests.cli.conftest import files_below, small_folder
from tests.support.data import ramp


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions of a folder, made once; no test writes here."""
    base = tmp_path_factory.mktemp("pets")
    create = [sys.executable, "-m", "gridfs", "--store", base / "store", "datastore", "create", small_folder(base)]
    environment = os.environ | {f"XDG_{name}_HOME": str(base / name) for name in ("STATE", "CACHE", "CONFIG")}
    for _ in range(2):
        subprocess.run([*create, "--name", "pets"], check=True, env=environment)
    return base / "store"


@pytest.fixture
def pets(made: Path, private_dirs: Paths) -> str:
    """The name of a datastore with two versions; a copy of the store is this test's."""
    shutil.copytree(made, private_dirs.data / "store")
    return "pets"


@pytest.fixture
def place(tmp_path, grid) -> Iterator[Path]:
    """An empty directory; whatever is mounted there when the test ends is unmounted."""
    directory = tmp_path / "place"
    directory.mkdir()
    yield directory
    if directory.is_mount():
        grid("unmount", directory, "--lazy").succeeded()


def test_mount_read_status_unmount(grid, pets, place, folder):
    mounted = grid("mount", pets, place).succeeded()
    assert mounted.out == f"pets@2 is mounted at {place}\n"
    assert (place / "cats" / "2.jpg").read_bytes() == ramp(20_000, 7)
    assert files_below(place) == files_below(folder)
    (status,) = grid("status", "-o", "json").json
    assert (status["name"], status["version"], status["state"]) == ("pets", 2, "mounted")
    assert (status["paths"], status["incidents"]) == ([str(place)], [])
    assert "pets@2" in grid("status").succeeded().out
    assert grid("unmount", pets).succeeded().err == f"Unmounted {place}\n"
    assert list(place.iterdir()) == []
    assert grid("status", "-o", "json").json == []


def test_a_version_by_its_number_and_the_path_to_unmount(grid, pets, place):
    mounted = grid("mount", "pets@1", place, "--output", "json").json
    assert mounted == {"name": "pets", "version": 1, "path": str(place)}
    grid("mount", "pets@1", place).succeeded()
    grid("mount", pets, place).failed(4, str(place), "pets@1")
    assert grid("unmount", place, "-o", "json").json == {"unmounted": [str(place)]}


def test_a_busy_mount_names_who_uses_it(grid, pets, place):
    grid("mount", pets, place).succeeded()
    with (place / "cats" / "1.jpg").open("rb") as file:
        grid("unmount", place).failed(4, str(place), str(os.getpid()), "--lazy")
        grid("unmount", place, "--lazy").succeeded()
        assert list(place.iterdir()) == []
        assert file.read() == ramp(50_000)


def test_options_of_the_mount(grid, pets, place):
    grid("mount", pets, place, "--file-mode", "0440", "-o", "uid=12,gid=34", "--umask", "007").succeeded()
    status = (place / "cats" / "1.jpg").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o440, 12, 34)


def test_status_tells_each_cause_once_with_its_count(grid, pets, place, private_dirs):
    """An object that is gone from the store: readers get EIO, and the status says why and how often."""
    for path in (private_dirs.data / "store" / "datastores" / "pets" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    grid("mount", pets, place).succeeded()
    for name in ("1.jpg", "2.jpg"):
        with pytest.raises(OSError) as caught:
            (place / "cats" / name).read_bytes()
        assert caught.value.errno == errno.EIO
    (status,) = grid("status", "-o", "json").json
    (incident,) = status["incidents"]
    assert incident["kind"] == "ObjectMissing"
    assert incident["count"] >= 2
    shown = grid("status").succeeded().out
    assert incident["message"] in shown
    assert f"{incident['count']} times" in shown


class TestBadInput:
    """One line that names the input and the remedy, an exit code by kind, nothing left behind."""

    @pytest.fixture(autouse=True)
    def _nothing_is_mounted(self, grid):
        yield
        assert grid("status", "-o", "json").json == []

    def test_no_such_datastore_names_those_near(self, grid, pets, place):
        grid("mount", "pest", place).failed(3, "pest", "pets")

    def test_no_such_version_says_which_there_are(self, grid, pets, place):
        grid("mount", "pets@7", place).failed(3, "7", "pets", "1, 2")

    @pytest.mark.parametrize("spec", ["pets@latest", "pets@0", "@1", "a/b"])
    def test_an_impossible_name(self, grid, pets, place, spec):
        grid("mount", spec, place).failed(2, spec)

    def test_a_mountpoint_that_is_missing(self, grid, pets, tmp_path):
        grid("mount", pets, tmp_path / "missing").failed(3, str(tmp_path / "missing"), "mkdir")
        assert not (tmp_path / "missing").exists()

    def test_a_mountpoint_that_is_a_file(self, grid, pets, tmp_path):
        (tmp_path / "file").write_bytes(b"1")
        grid("mount", pets, tmp_path / "file").failed(2, str(tmp_path / "file"))

    def test_a_mountpoint_that_is_not_empty(self, grid, pets, folder):
        grid("mount", pets, folder).failed(2, str(folder), "not empty")

    def test_an_empty_word_is_not_taken_for_the_default(self, grid, pets):
        """As of a variable that a script forgot to set."""
        grid("mount", pets, "").failed(2, "directory", "empty")
        grid("mount", "").failed(2, "names no datastore")
        grid("datastore", "--store", "").failed(2, "--store", "empty")

    def test_a_store_that_can_not_be_reached(self, grid, place):
        where = ("--store", "s3://bucket/prefix", "--endpoint-url", "http://127.0.0.1:9")
        credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        grid(*where, "mount", "pets", place, env=credentials).failed(9, "http://127.0.0.1:9")

    def test_options_that_are_none(self, grid, pets, place):
        grid("mount", pets, place, "--max-cache-size", "plenty").failed(2, "plenty", "--max-cache-size")
        grid("mount", pets, place, "--file-mode", "999").failed(2, "999")
        grid("mount", pets, place, "-o", "rw").failed(2, "rw")

    def test_unmounting_what_is_not_mounted(self, grid, pets, place):
        grid("unmount", "pets").failed(3, "pets", "grid status")
        grid("unmount", place).failed(3, str(place))
        grid("unmount", "/proc").failed(2, "/proc")


@pytest.fixture
def without_fuse(tmp_path) -> dict[str, str]:
    """An environment in which Python has neither pyfuse3 nor the extension module, as on a laptop or a Mac."""
    block = tmp_path / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(
        "import sys\nsys.modules['pyfuse3'] = None\nsys.modules['gridfs._zero_open'] = None\n"
    )
    return {"PYTHONPATH": f"{block}{os.pathsep}{os.getcwd()}"}


def test_creating_and_listing_work_without_fuse(grid, folder, without_fuse):
    grid("datastore", "create", folder, "--name", "pets", env=without_fuse).succeeded()
    assert [row["name"] for row in grid("datastore", "-o", "json", env=without_fuse).json] == ["pets"]
    assert grid("datastore", "show", "pets", "-o", "json", env=without_fuse).code == 0
    assert grid("status", "-o", "json", env=without_fuse).json == []


def test_mounting_without_fuse_says_what_to_install(grid, folder, place, without_fuse):
    grid("datastore", "create", folder, "--name", "pets", env=without_fuse).succeeded()
    grid("mount", "pets", place, env=without_fuse).failed(10, "pyfuse3", "pip install 'gridfs[mount]'")


def test_the_environment_without_fuse_really_has_none(without_fuse):
    ended = subprocess.run(
        [sys.executable, "-c", "import pyfuse3"], env={**os.environ, **without_fuse}, capture_output=True
    )
    assert b"ModuleNotFoundError" in ended.stderr
