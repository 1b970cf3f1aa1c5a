"""A reader of simulated objects, without a mount and without a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from gridfs.cache.tiered import TieredCache
from gridfs.config import KIB
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.simulated import SimulatedStore
from tests.support.layout import ListLayout

BLOCK = 128 * KIB


@asynccontextmanager
async def reading(
    sizes: Sequence[int], cache: TieredCache, settings: ReaderSettings
) -> AsyncIterator[tuple[ListLayout, SimulatedStore, Reader]]:
    """A running reader of objects of these sizes, in blocks of `BLOCK`, with what it reads from."""
    layout, store = ListLayout(sizes, block_size_bytes=BLOCK), SimulatedStore()
    for key, data in layout.data.items():
        store.place(key, data)
    reader = Reader(layout, store, lambda obj: obj.key, cache, settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield layout, store, reader
        nursery.cancel_scope.cancel()
