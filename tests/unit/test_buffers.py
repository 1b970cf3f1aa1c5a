"""gridfs.cache.buffers: a mapping is used again only when nobody looks at it."""

from __future__ import annotations

import pytest

from gridfs.cache.buffers import BufferPool, area_bytes
from gridfs.cache.memory import MemoryCache, Part
from gridfs.config import KIB, MIB


def test_a_mapping_that_was_given_back_is_used_again() -> None:
    pool = BufferPool()
    area = pool.take(3 * MIB - 5)
    assert len(area) == 3 * MIB
    assert pool.give(area)
    assert pool.take(2 * MIB + 1) is area


def test_a_mapping_with_a_view_is_left_to_it() -> None:
    pool = BufferPool()
    area = pool.take(MIB)
    view = memoryview(area)[100:200]
    assert not pool.give(area)
    assert pool.take(MIB) is not area
    view.release()
    assert pool.give(area)


def test_a_lent_mapping_is_taken_back_when_nobody_looks_at_it() -> None:
    pool = BufferPool()
    first = pool.lend(100 * KIB)
    assert len(first) == 128 * KIB
    answer = memoryview(first)[:5]
    second = pool.lend(100 * KIB)
    assert second is not first  # the answer has not been sent yet
    answer.release()
    assert pool.lend(100 * KIB) is second


def test_only_so_much_is_kept() -> None:
    pool = BufferPool(limit_bytes=2 * MIB)
    areas = [pool.take(MIB) for _ in range(4)]
    assert all(pool.give(area) for area in areas)
    assert pool.idle_bytes == 2 * MIB
    pool.clear()
    assert pool.idle_bytes == 0


def test_sizes_that_nobody_wants_any_more_make_room() -> None:
    pool = BufferPool(limit_bytes=8 * MIB)
    odd = [pool.take(size * MIB) for size in (1, 3, 2)]
    wanted = [pool.take(4 * MIB) for _ in range(2)]
    assert all(pool.give(area) for area in [*odd, *wanted])
    assert pool.idle_bytes == 8 * MIB
    assert {id(pool.take(4 * MIB)) for _ in range(2)} == {id(area) for area in wanted}


def test_small_parts_take_what_they_are() -> None:
    assert area_bytes(128 * KIB) == 128 * KIB
    assert area_bytes(MIB + 1) == 2 * MIB


def _evicted(hold_a_view: bool) -> tuple[MemoryCache, Part, memoryview | None]:
    cache = MemoryCache()
    area = cache.pool.take(MIB)
    part = Part("a", 128 * KIB, 0, MIB, memoryview(area)[:MIB], area)
    cache.pin(part)
    cache.publish(part, MIB)
    view = part.view(5, 10) if hold_a_view else None
    cache.unpin(part)
    assert cache.reclaim(1) == MIB
    return cache, part, view


def test_an_evicted_part_can_not_be_read_by_mistake() -> None:
    """Invariant 3: an error, and never the bytes of the part that has the buffer now."""
    cache, part, _ = _evicted(hold_a_view=False)
    assert cache.pool.idle_bytes == MIB
    with pytest.raises(ValueError, match="released"):
        part.view(0, 10)


def test_who_has_a_view_keeps_the_bytes() -> None:
    cache, part, view = _evicted(hold_a_view=True)
    assert cache.pool.idle_bytes == 0
    assert view is not None
    assert bytes(view) == bytes(5)
    assert bytes(part.view(0, 10)) == bytes(10)
