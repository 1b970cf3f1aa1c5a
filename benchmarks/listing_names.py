"""Shapes of names that a bucket may have."""

from __future__ import annotations

from collections.abc import Iterator

SHAPES = ("flat", "tree")


def names(shape: str, count: int) -> Iterator[str]:
    """Keys below `<shape>/`: `flat`, one heap of numbered files, or `tree`, the same in 1,000 directories."""
    for number in range(count):
        yield f"flat/img_{number:08}.jpg" if shape == "flat" else f"tree/n{number % 1000:08}/img_{number:08}.jpg"
