"""Marks: what becomes of those that several collections have written."""

from __future__ import annotations

from gridfs.life.marks import merged


def test_of_two_moments_the_later_counts() -> None:
    older, newer = {"a": 1, "b": 7, "c": 3}, {"a": 5, "b": 2}
    assert merged([older, newer]) == merged([newer, older]) == {"a": 5, "b": 7, "c": 3}
    assert merged([]) == {}
