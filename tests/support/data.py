"""Test data made without the code under test."""

from __future__ import annotations

RAMP_PERIOD = 251
"""A prime, so that no power of two (block, part, page) is a multiple of it: a wrong offset shows as wrong bytes."""


def ramp(size_bytes: int, start: int = 0) -> bytes:
    """*size_bytes* bytes of the endless ramp 0, 1, ... 250, 0, ... from position *start* on.

    `ramp(n, start)` equals `ramp(start + n)[start:]`, so any range of a large file can be checked by itself.
    """
    first = start % RAMP_PERIOD
    period = bytes(range(RAMP_PERIOD))
    return (period * ((first + size_bytes) // RAMP_PERIOD + 1))[first : first + size_bytes]
