"""`grid warm`: a version into the node's cache, and how much of one is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from tests.cli.conftest import Grid
from tests.support.data import ramp


@pytest.fixture
def pictures(grid: Grid, tmp_path: Path) -> None:
    """A datastore of 30 files in the default store, which is on the disk of the default cache."""
    folder = tmp_path / "Pictures"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}").write_bytes(ramp(100_000, number))
    grid("datastore", "create", folder).succeeded()


@pytest.fixture
def other_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_a_version_is_fetched_into_the_cache(grid: Grid, pictures: None, other_disk: Path) -> None:
    cache = "--cache-dir", other_disk
    before = grid("-o", "json", "warm", "--check", "pictures", *cache).json
    assert (before["cached_bytes"], before["complete"]) == (0, False)
    assert f"(100%) are in {other_disk}\n" in grid("warm", "pictures", *cache).succeeded().out
    after = grid("-o", "json", "warm", "--check", "pictures@1", *cache).json
    assert after["complete"]
    assert after["cached_bytes"] == after["total_bytes"] >= 30 * 100_000


def test_a_store_on_the_disk_of_the_cache_is_warm_as_it_is(grid: Grid, pictures: None, private_dirs: Paths) -> None:
    assert grid("-o", "json", "warm", "--check", "pictures").json["complete"]
    told = grid("warm", "pictures").succeeded().out
    assert told.endswith("the store, which is read in place\n")
    assert not (private_dirs.cache / "blocks").exists()


def test_what_can_not_be_warmed_is_said(grid: Grid, tmp_path: Path) -> None:
    grid("warm", "nothing").failed(3, "nothing")
    grid("warm", "nothing", "--max-cache-size", "0").failed(2, "--max-cache-size")
