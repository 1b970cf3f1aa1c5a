"""A store on the disk where the cache would be is its own disk tier: objects are read where they lie.

A copy in the cache would take as much of the same disk once more, and the time to write it, and be read no sooner
(docs/decisions/in-place.md). So all blocks count as being on disk, and are read and verified as those of the cache
are. Whatever is wrong is a miss, as in every tier: the reader then asks the store, and tells what that says.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from gridfs.cache.base import Checksums, DiskStatistics, Span
from gridfs.cache.disk import READERS
from gridfs.cache.locality import file_system_of, is_network
from gridfs.cache.memory import Part
from gridfs.cache.verified import Mismatch, read_verified
from gridfs.config import CacheSettings

logger = logging.getLogger(__name__)


def is_read_in_place(store: Path, cache: CacheSettings) -> bool:
    """Whether the store in directory *store* needs no copy in the cache: it is on the same disk, or on any disk of this
    node when there is no cache on disk.
    """
    try:
        beside = cache.max_size_bytes == 0 or os.stat(store).st_dev == os.stat(cache.directory).st_dev
    except OSError:  # whoever opens them says what is wrong
        return False
    return beside and not is_network(file_system_of(store))


class ObjectFiles:
    """A DiskTier that is the store's own files, and writes nothing. For trio's thread."""

    def __init__(self, store: Path, path_of: Callable[[str], str]) -> None:
        """*path_of* says where in *store* the object of an identity lies."""
        self._store = store
        self._path_of = path_of
        self._reader_threads = trio.CapacityLimiter(READERS)
        self._read_bytes = 0
        self._mismatches = 0

    def present(self, span: Span) -> int:
        return span.stop - span.first

    async def held_bytes(self, spans: Sequence[Span]) -> int:
        await trio.lowlevel.checkpoint()
        return sum(span.size_bytes for span in spans)

    def load_nowait(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        try:
            return self._used(self._read(span, checksums, area, nowait=True))
        except (OSError, Mismatch) as error:
            self._failed(span, error)
            return None

    async def load(self, span: Span, checksums: Checksums, area: mmap.mmap | None = None) -> memoryview | None:
        read = partial(self._read, span, checksums, area, nowait=False)
        try:
            return self._used(await trio.to_thread.run_sync(read, limiter=self._reader_threads))
        except (OSError, Mismatch) as error:
            self._failed(span, error)
            return None

    def keep(
        self, span: Span, part: Part, checksums: Sequence[int], on_written: Callable[[], None] = lambda: None
    ) -> bool:
        return False

    def abandon(self, part: Part) -> bool:
        return False

    def holds(self, part: Part) -> bool:
        return True

    def limit_queue(self, size_bytes: int) -> None:
        """Nothing is ever queued."""

    async def wait_until_measured(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_for_queue(self, size_bytes: int) -> None:
        await trio.lowlevel.checkpoint()

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()

    def room_bytes(self) -> int:
        return sys.maxsize

    def statistics(self) -> DiskStatistics:
        return DiskStatistics(
            directory=os.fspath(self._store),
            active=True,
            reason=None,
            limit_bytes=0,
            used_bytes=0,
            read_bytes=self._read_bytes,
            written_bytes=0,
            dropped_bytes=0,
            queued_bytes=0,
            mismatches=self._mismatches,
            evicted_segments=0,
            is_store=True,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Has nothing to do."""
        task_status.started()
        await trio.sleep_forever()

    def _read(self, span: Span, checksums: Checksums, area: mmap.mmap | None, *, nowait: bool) -> memoryview | None:
        """In any thread. The file is opened each time (3 us): one kept open would keep the space of what gc removes."""
        if checksums is None:
            return None
        fd = os.open(self._path_of(span.identity), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_verified(fd, span, span.start_byte, checksums, nowait=nowait, area=area)
        finally:
            os.close(fd)

    def _used(self, data: memoryview | None) -> memoryview | None:
        if data is not None:
            self._read_bytes += data.nbytes
        return data

    def _failed(self, span: Span, error: OSError | Mismatch) -> None:
        if isinstance(error, Mismatch):
            self._mismatches += 1
        logger.info("object %s is not read in place: %s", span.identity, error)
