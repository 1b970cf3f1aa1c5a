"""What a run does on the host before it has a namespace of its own."""

from __future__ import annotations

import fcntl
import os
import time
from types import SimpleNamespace

import pytest

from gridfs.config import Paths
from gridfs.mount import leftovers, runs
from gridfs.mount.leftovers import Leftovers
from gridfs.mount.view import LocalHost, Placement, ViewPlan


class Looked(Exception):
    """Ends the run where it looks which directories there are."""


def test_a_directory_that_another_run_made_is_not_removed_between_looking_and_mounting(
    private_dirs: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(placements: list[Placement], host: LocalHost) -> ViewPlan:
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a janitor does before it removes
        finally:
            os.close(root)
        raise Looked

    monkeypatch.setattr(runs, "plan_view", look)
    placement = Placement("data@1", "/in", "/nowhere")
    with pytest.raises(Looked):
        runs.replace_process([placement], ["true"], str(private_dirs.runtime))


def test_a_record_that_its_run_could_not_finish_is_passed_over(private_dirs: Paths) -> None:
    directory = private_dirs.runtime / "made"
    directory.mkdir(parents=True)
    unfinished = directory / "0123456789abcdef"
    unfinished.touch()
    Leftovers(directory).sweep()
    assert unfinished.exists()


def test_a_sweep_with_patience_waits_for_who_is_mounting(private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    place = private_dirs.runtime / "place"
    place.mkdir(parents=True)
    # That of "/" other runs on this machine hold now and then.
    monkeypatch.setattr(leftovers, "_root_above", lambda _: str(private_dirs.runtime))
    made = Leftovers(private_dirs.runtime / "made")
    made.note(str(place))
    mounting = made.attaching([str(place)])
    mounting.__enter__()
    waits = list[float]()

    def end_mounting(duration_s: float) -> None:
        waits.append(duration_s)
        mounting.__exit__()

    monkeypatch.setattr(leftovers, "time", SimpleNamespace(monotonic=time.monotonic, sleep=end_mounting))
    made.sweep()
    assert place.exists(), "a sweep without patience does not wait"
    made.sweep(patience_s=60)
    assert not place.exists()
    assert len(waits) == 1
