"""A whole version into the disk cache, behind everything that readers want; and how much of one is there.

The tape is asked for a pack at a time, two packs ahead, so that what is queued stays small and progress can be told.
What is there already is not fetched. It ends early, and says so, when the rest does not fit the cache without evicting
something, or when the store fails; asked again, it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from gridfs.cache.base import Span
from gridfs.cache.tiered import TieredCache
from gridfs.config import PACK_SIZE_BYTES, PART_SIZE_BYTES
from gridfs.read.background import Background
from gridfs.read.layout import Layout
from gridfs.read.plan import Run, objects_of, parts_of
from gridfs.read.prefetch import Priority, Want

PACKS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Warmth:
    """How much of a version is in the disk cache."""

    cached_bytes: int
    total_bytes: int
    """Of its objects; larger than its files where packs have gaps."""

    @property
    def complete(self) -> bool:
        return self.cached_bytes >= self.total_bytes


async def measure(layout: Layout, cache: TieredCache, tape: Run | None = None) -> Warmth:
    """How much of the version, or of a run of its tape, is on disk, by the tables of the segments."""
    cached_bytes = total_bytes = 0
    size = layout.info.block_size_bytes
    for obj, blocks in objects_of(tape or Run(0, layout.info.block_count), layout.object_at_block, size):
        for part in parts_of(blocks, size):
            span = Span(obj.identity, obj.size_bytes, size, part.first, part.stop)
            total_bytes += span.size_bytes
            first = part.first
            while first < part.stop:
                there = cache.present(span._replace(first=first))
                cached_bytes += span._replace(first=first, stop=first + there).size_bytes if there else 0
                first += max(there, 1)
        await trio.lowlevel.checkpoint()
    return Warmth(cached_bytes, total_bytes)


async def warm(layout: Layout, cache: TieredCache, background: Background, on_advance: Callable[[int], object]) -> None:
    """Fetches what is lacking, as far as it fits; *on_advance* is told the bytes of the tape that are behind it."""
    await cache.wait_until_measured()
    block_size, block_count = layout.info.block_size_bytes, layout.info.block_count
    step = max(1, PACK_SIZE_BYTES // block_size)
    limiter = trio.CapacityLimiter(PACKS_AHEAD)
    behind_bytes = 0

    async def fetch(tape: Run, token: object) -> None:
        nonlocal behind_bytes
        try:
            await background.finish(Want(tape, Priority.WARM, PART_SIZE_BYTES))
            behind_bytes += tape.block_count * block_size
            on_advance(behind_bytes)
        finally:
            limiter.release_on_behalf_of(token)

    async with trio.open_nursery() as nursery:
        for first in range(0, block_count, step):
            tape = Run(first, min(first + step, block_count))
            token = object()
            await limiter.acquire_on_behalf_of(token)
            if cache.room_bytes() < PACKS_AHEAD * PACK_SIZE_BYTES:
                there = await measure(layout, cache, tape)
                if there.total_bytes - there.cached_bytes > cache.room_bytes():
                    break
            nursery.start_soon(fetch, tape, token, name=f"warm {first}")
    await cache.drain()
