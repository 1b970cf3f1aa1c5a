"""The segments that are open: found by span, bounded in number, closed when nobody reads them any more.

A descriptor must not be closed while a thread reads by it, since its number may be another file's a moment later. So a
segment is *retired* first, and closed when its last user has left. Used from one thread; only what a user does with
the segment runs elsewhere.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gridfs.cache.base import Span
from gridfs.cache.segment import Geometry, Segment, blocks_per_segment

OPEN_SEGMENTS = 512
"""File descriptors kept: 4 GiB of cache at hand. An evicted segment takes its space until the last daemon closes it."""

ABSENT_FOR_S = 10.0
"""How long a segment that was not there is taken for absent; another daemon may have written it meanwhile."""

ABSENT_LIMIT = 10_000


class OpenSegments:
    """Segments by (identity, number), the least recently used closed first."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._open: OrderedDict[tuple[str, int], Segment] = OrderedDict()
        self._absent: dict[tuple[str, int], float] = {}

    def path(self, geometry: Geometry) -> str:
        return f"{self._directory}/{geometry.name()}"

    def get(self, span: Span) -> Segment | None:
        """The segment of the span's first block, or None when there is no such file. Raises OSError."""
        key = (span.identity, span.first // blocks_per_segment(span.block_size_bytes))
        segment = self._open.get(key)
        if segment is not None:
            self._open.move_to_end(key)
            return segment
        absent_since = self._absent.get(key)
        if absent_since is not None:
            if time.monotonic() - absent_since < ABSENT_FOR_S:
                return None
            del self._absent[key]
        geometry = Geometry.of(span)
        segment = Segment.open(self.path(geometry), geometry)
        if segment is None:
            if len(self._absent) >= ABSENT_LIMIT:
                self._absent.clear()
            self._absent[key] = time.monotonic()
            return None
        self.add(segment)
        return segment

    def peek(self, identity: str, number: int) -> Segment | None:
        """The segment if it is open."""
        return self._open.get((identity, number))

    def add(self, segment: Segment) -> None:
        """Takes an open segment, in place of an older one of the same file."""
        key = (segment.geometry.identity, segment.geometry.number)
        self._absent.pop(key, None)
        older = self._open.pop(key, None)
        if older is not None:
            self._retire(older)
        self._open[key] = segment
        while len(self._open) > OPEN_SEGMENTS:
            self._retire(self._open.popitem(last=False)[1])

    @contextmanager
    def using(self, segment: Segment) -> Iterator[None]:
        """Keeps *segment* open inside."""
        segment.users += 1
        try:
            yield
        finally:
            segment.users -= 1
            if segment.retired and not segment.users:
                segment.close()

    def take_unlinked(self) -> list[Segment]:
        """Lets go of the segments that an evictor has removed: they take their space while they are open.

        The caller closes them, in a thread: with the last descriptor the file system gives up the blocks of a file,
        which took half of the daemon's time when it was done in trio's thread.
        """
        unlinked = [key for key, segment in self._open.items() if segment.unlinked and not segment.users]
        return [self._open.pop(key) for key in unlinked]

    def close(self) -> None:
        """Closes all, those in use when they no longer are."""
        while self._open:
            self._retire(self._open.popitem()[1])

    def _retire(self, segment: Segment) -> None:
        segment.retired = True
        if not segment.users:
            segment.close()
