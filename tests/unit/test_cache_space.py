"""gridfs.cache.space: how often the cache directory is walked."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from gridfs.cache import evict
from gridfs.cache.evict import Usage
from gridfs.cache.handles import OpenSegments
from gridfs.cache.space import Space
from gridfs.config import GIB, MIB
from tests.support.on_trio import on_trio

PART_BYTES = 8 * MIB


@pytest.mark.parametrize(
    ("limit_bytes", "looks"),
    [
        pytest.param(2 * GIB, 8, id="each 256 MiB of a small cache"),
        pytest.param(64 * GIB, 1, id="each sixteenth of a large one"),
    ],
)
@on_trio
async def test_two_gib_are_written_with_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_bytes: int, looks: int
) -> None:
    used_bytes, walks = 0, 0

    def walk(
        directory: Path, max_size_bytes: int | None, wanted_bytes: int, *, is_full: bool
    ) -> tuple[Usage, list[str]]:
        nonlocal walks
        walks += 1
        return Usage(used_bytes, limit_bytes, 0), []

    monkeypatch.setattr(evict, "evict", walk)
    space = Space(tmp_path, None, OpenSegments(str(tmp_path)), trio.CapacityLimiter(1))
    await space.look(0)
    walks = 0
    while used_bytes + PART_BYTES <= 2 * GIB:
        assert await space.find(PART_BYTES)
        space.took(PART_BYTES)
        used_bytes += PART_BYTES
        assert space.used_bytes == used_bytes
    assert walks <= looks
    assert await space.find(PART_BYTES) is (limit_bytes > 2 * GIB)
