"""How a large object is cut for its upload."""

from __future__ import annotations

import pytest

from gridfs.store.objects_client import parts_of_upload

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("size", "part", "at_once"),
    [(0, 8 * MIB, 4), (2 * GIB, 8 * MIB, 4), (78 * GIB, 8 * MIB, 4), (5 * TIB, 549_755_814, 1)],
)
def test_parts_are_of_8_mib_until_there_would_be_too_many(size: int, part: int, at_once: int) -> None:
    assert parts_of_upload(size) == (part, at_once)


@pytest.mark.parametrize("size", [*(10**power for power in range(12)), 780 * GIB])
def test_what_is_in_memory_is_bounded(size: int) -> None:
    part, at_once = parts_of_upload(size)
    assert part * 10_000 >= size
    assert part * (at_once + 1) <= 160 * MIB
