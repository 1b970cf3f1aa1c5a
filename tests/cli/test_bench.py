"""`grid bench` on folders as people have them, and the benchmarks over little data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from gridfs.config import Paths
from tests.cli.conftest import Grid
from tests.support.data import ramp

ROOT = Path(__file__).parents[2]
SHORT = ("--seconds", "0.2")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """40 small files in two directories and one of 20 MiB."""
    root = tmp_path / "files"
    for number in range(40):
        path = root / f"d{number % 2}" / f"{number:02}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ramp(30_000, number))
    (root / "large.bin").write_bytes(ramp(20 << 20))
    return root


def test_everything_is_measured(grid: Grid, files: Path) -> None:
    found = grid("bench", files, *SHORT, "-o", "json").json
    assert (found["directory"], found["file_count"], found["file_bytes"]) == (str(files), 40, 1_200_000)
    assert found["largest_bytes"] == 20 << 20
    latencies = {(row["access"], row["state"]): row for row in found["latencies"]}
    for access in ("open to first byte", "open, read, close", "Python open().read()"):
        for state in ("cold", "warm"):
            row = latencies[access, state]
            assert 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"] <= row["p999_us"]
    assert {"random pread of 4 KiB", "random mmap page"} <= {access for access, _ in latencies}
    rates = {(row["access"], row["state"], row["readers"]) for row in found["rates"]}
    assert {
        (order, state, readers)
        for order in ("tree order", "shuffled")
        for state in ("cold", "warm")
        for readers in (1, 4, 8)
    } < rates
    assert all(row["gb_per_s"] > 0 for row in found["rates"])
    assert found["cold"].startswith("cold: ")


def test_a_table_for_people(grid: Grid, files: Path) -> None:
    ended = grid("bench", *SHORT, "--files", "7", cwd=files).succeeded()
    assert "7 files of 29.3 KiB on average" in ended.out
    assert "p99.9" in ended.out
    assert "cold: " in ended.err


def test_a_plot(grid: Grid, files: Path, tmp_path: Path) -> None:
    grid("bench", files, *SHORT, "--plot", tmp_path / "plot.svg").succeeded()
    texts = [element.text for element in ElementTree.parse(tmp_path / "plot.svg").iter()]
    assert "open to first byte, cold" in texts
    assert "largest file, warm" in texts


def test_a_mount_is_measured_as_a_folder_is(grid: Grid, files: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    grid("datastore", "create", files).succeeded()
    grid("mount", "files", place).succeeded()
    try:
        found = grid("bench", place, *SHORT, "-o", "json").json
    finally:
        grid("unmount", place).succeeded()
    assert (found["file_count"], found["file_bytes"], found["largest_bytes"]) == (40, 1_200_000, 20 << 20)
    assert found["filesystem"].startswith(("erofs", "overlay", "fuse"))


@pytest.mark.parametrize("name", ["missing", "Dockerfile"])
def test_no_such_directory(grid: Grid, name: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    grid("bench", name, cwd=tmp_path).failed(3 if name == "missing" else 2, f"'{name}'")


def test_an_empty_directory(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    grid("bench", tmp_path / "empty").failed(2, "empty", "no file")


def test_a_plot_that_can_not_be_written(grid: Grid, files: Path) -> None:
    grid("bench", files, "--plot", "/nowhere/plot.svg").failed(2, "/nowhere")


SOME = ("c2", "g", "h", "k")
"""Small files, a large one and names, by way of mounts, bare clients and the proxy that counts."""
ALL = ("a", "b", "c", "c2", "d", "d2", "e", "f", "g", "h", "i", "j", "k", "m")


@pytest.mark.timeout_s(900)
@pytest.mark.parametrize(
    ("only", "expected"),
    [pytest.param("c2,g,h", SOME, id="some"), pytest.param("", ALL, id="all", marks=pytest.mark.long)],
)
def test_the_benchmarks_work(private_dirs: Paths, tmp_path: Path, only: str, expected: tuple[str, ...]) -> None:
    """Workloads over little data: gridfs does them all, a missing rival is said to be."""
    place, out = tmp_path / "bench", tmp_path / "results"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", only, "--dir", place, "--out", out],
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in out.iterdir()]
    figures = [row for one in found for row in one["figures"]]
    measured = {row["workload"] for row in figures if row["subject"].startswith("gridfs")}
    assert measured >= set(expected)
    wrong = [row for one in found for row in one["failures"] if "is not installed" not in row["message"]]
    assert wrong == []
    assert list(place.iterdir()) == []
