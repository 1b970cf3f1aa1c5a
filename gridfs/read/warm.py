"""A whole version into the disk cache, behind everything that readers want; and how much of one is there.

The tape is asked for a pack at a time, two packs ahead, so that what is queued stays small and progress can be told.
What is there already is not fetched. It ends early, and says so, when the rest does not fit the cache without evicting
something, or when the store fails; asked again, it goes on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from gridfs.cache.base import Span
from gridfs.cache.tiered import TieredCache
from gridfs.config import PACK_SIZE_BYTES, PART_SIZE_BYTES
from gridfs.errors import CredentialsRefused, GridfsError, StoreUnavailable
from gridfs.read.background import Background
from gridfs.read.failures import again
from gridfs.read.fetch import Fetcher
from gridfs.read.layout import Layout
from gridfs.read.plan import Run, objects_of, parts_of
from gridfs.read.prefetch import Priority, Want

logger = logging.getLogger(__name__)

PACKS_AHEAD = 2

SPANS_AT_ONCE = 32
"""Segments whose tables one turn of a thread reads where only the disk has them. Even where each is an object of its
own, naming them holds the loop for less than a millisecond."""

OBJECTS_PER_STEP = 128
"""Of small ones, each with a segment of its own. Where the kernel never says what it has in memory (some overlays), a
table is known while its segment is open; 512 are (cache/handles.py), and two steps must not take all of them."""

PASSES = 3
"""What a full queue of writes dropped while readers were busy is asked for again."""

AGAIN_S = 30.0
"""After a failure of the store, `--prefetch all` goes on; readers find out by themselves and sooner."""


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
    spans: list[Span] = []
    for obj, blocks in objects_of(tape or Run(0, layout.info.block_count), layout.object_at_block, size):
        for part in parts_of(blocks, size):
            span = Span(obj.identity, obj.size_bytes, size, part.first, part.stop)
            total_bytes += span.size_bytes
            spans.append(span)
            if len(spans) == SPANS_AT_ONCE:
                cached_bytes += await cache.held_bytes(spans)
                spans = []
    return Warmth(cached_bytes + await cache.held_bytes(spans), total_bytes)


class Warmer:
    """Fetches the whole version. Its *background* must be running."""

    def __init__(self, layout: Layout, cache: TieredCache, background: Background, fetcher: Fetcher) -> None:
        self._layout = layout
        self._cache = cache
        self._background = background
        self._fetcher = fetcher

    async def run(self) -> None:
        """What `--prefetch all` asks for: returns when all that fits is there. A store that fails is asked again."""
        while True:
            try:
                warmth = await self.warm(lambda _: None)
            except GridfsError as error:
                logger.info("prefetching everything is interrupted: %s", error)
                await trio.sleep(AGAIN_S)
                continue
            if not warmth.complete:
                logger.warning(
                    "the cache has no room for the whole version: %d of %d bytes are in it",
                    warmth.cached_bytes,
                    warmth.total_bytes,
                )
            return

    async def warm(self, on_advance: Callable[[int], object]) -> Warmth:
        """Brings the whole version into the disk cache, as far as it fits, and says how much is there then.

        *on_advance* is told, now and then, how many bytes of the version are behind it. Raises GridfsError when the
        store fails; what has come by then stays. Without a disk tier nothing is fetched.
        """
        if not self._cache.statistics().active:
            return Warmth(0, self._layout.info.total_bytes)
        self._fetcher.forget_error()
        for _ in range(PASSES):
            await self._pass(on_advance)
            warmth = await measure(self._layout, self._cache)
            lacking_bytes = warmth.total_bytes - warmth.cached_bytes
            if warmth.complete or self._fetcher.last_error is not None or lacking_bytes > self._cache.room_bytes():
                break
        if not warmth.complete and self._fetcher.last_error is not None:
            raise again(self._fetcher.last_error)
        return warmth

    async def _pass(self, on_advance: Callable[[int], object]) -> None:
        """Fetches what is lacking, as far as it fits; *on_advance* is told the bytes of the tape that are behind it.

        Ends after a step that brought nothing because the store fails: each of the others would wait as long for it.
        """
        cache, fetcher = self._cache, self._fetcher
        await cache.wait_until_measured()
        block_size, block_count = self._layout.info.block_size_bytes, self._layout.info.block_count
        blocks_per_object = block_count / max(1, self._layout.info.object_count)
        step = max(1, min(PACK_SIZE_BYTES // block_size, int(OBJECTS_PER_STEP * blocks_per_object)))
        limiter = trio.CapacityLimiter(PACKS_AHEAD)
        behind_bytes = 0
        is_in_vain = False

        async def fetch(tape: Run, token: object) -> None:
            nonlocal behind_bytes, is_in_vain
            try:
                failed, fetched_bytes = fetcher.counts.failed[Priority.WARM], fetcher.fetched_bytes
                await self._background.finish(Want(tape, Priority.WARM, PART_SIZE_BYTES))
                nothing_came = fetcher.counts.failed[Priority.WARM] > failed and fetcher.fetched_bytes == fetched_bytes
                if nothing_came and _is_of_store(fetcher.last_error):
                    is_in_vain = True
                    return
                behind_bytes += tape.block_count * block_size
                on_advance(behind_bytes)
            finally:
                limiter.release_on_behalf_of(token)

        async with trio.open_nursery() as nursery:
            for first in range(0, block_count, step):
                tape = Run(first, min(first + step, block_count))
                token = object()
                await limiter.acquire_on_behalf_of(token)
                if is_in_vain:
                    break
                # The plan of a want takes for there what a disk would have to be asked for: now it is known.
                there = await measure(self._layout, cache, tape)
                if there.total_bytes - there.cached_bytes > cache.room_bytes():
                    break
                nursery.start_soon(fetch, tape, token, name=f"warm {first}")
        await cache.drain()


def _is_of_store(error: GridfsError | None) -> bool:
    """Whether the next object will meet it too; one that is damaged or gone does not keep the others back."""
    return isinstance(error, StoreUnavailable | CredentialsRefused)
