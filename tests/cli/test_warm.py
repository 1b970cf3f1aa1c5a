"""`grid warm`: a version into the node's cache, and how much of one is there."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Grid
from tests.support.data import ramp


def test_a_version_is_fetched_into_the_cache(grid: Grid, tmp_path: Path) -> None:
    folder = tmp_path / "Pictures"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}").write_bytes(ramp(100_000, number))
    grid("datastore", "create", folder).succeeded()
    before = grid("-o", "json", "warm", "--check", "pictures").json
    assert (before["cached_bytes"], before["complete"]) == (0, False)
    assert "(100%)" in grid("warm", "pictures").succeeded().out
    after = grid("-o", "json", "warm", "--check", "pictures@1").json
    assert after["complete"]
    assert after["cached_bytes"] == after["total_bytes"] >= 30 * 100_000


def test_what_can_not_be_warmed_is_said(grid: Grid, tmp_path: Path) -> None:
    grid("warm", "nothing").failed(3, "nothing")
    grid("warm", "nothing", "--max-cache-size", "0").failed(2, "--max-cache-size")
