"""Locks between processes, tried here between descriptors: flock(2) tells those apart in one process too."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.locks import is_held, trying


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with trying(path) as first, trying(path) as second:
        assert (first, second) == (True, False)
        assert is_held(path)
    assert not is_held(path)
    with trying(path) as again:
        assert again


def test_a_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), trying(tmp_path / "lock"):
        raise BlockingIOError
    assert not is_held(tmp_path / "lock")


def test_a_lock_that_nobody_has_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_held(tmp_path / "lock")
