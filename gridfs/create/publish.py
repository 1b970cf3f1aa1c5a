"""Reads what is unread, packs it, uploads it, and writes down what is durable: the pipeline of a listed source.

    journal.unread() --group--> units --> WORKERS tasks, each: read -> hash -> drop what is known -> put -> journal

A unit becomes one object (pack.py). A worker takes a unit from end to end, so two workers overlap the reading and
hashing of one with the sending of the other, and the memory is bounded by what they hold: one pack buffer each, and for
large files, of which one is in work at a time, two pieces and what the store's put_stream holds. With 64 MiB packs that
is 2 x 64 + 16 + 64 MiB above the 80 MiB of the interpreter and its modules, within the 300 MiB that are promised.

Content that the journal knows already (the same bytes elsewhere in this version, in the one before, or read before a
kill) is not sent again. A file that is another generation than the scan saw is looked at again and read once more, at
most ATTEMPTS times; one that can't be read ends the creation before anything is committed, or is left out and reported.
Of hard links the first name is read for all; when it is given up, the next.
"""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import trio

from gridfs.cache.buffers import new_area
from gridfs.config import PACK_SIZE_BYTES
from gridfs.create.digest import block_checksums, sha256_of_each
from gridfs.create.groups import single_error
from gridfs.create.journal import Journal
from gridfs.create.pack import group, layout
from gridfs.create.piecewise import PiecewiseReading
from gridfs.create.progress import Progress
from gridfs.create.source import Found, ListedSource, Outcome, Reading, Wanted
from gridfs.errors import SourceProblem
from gridfs.model import Buffer, Problem
from gridfs.store.base import ObjectStore

WORKERS = 2
ATTEMPTS = 3
"""Readings of a file that changes: a log that is written to all the time will not hold still for a fourth one."""


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """How objects are made."""

    block_size_bytes: int
    key_of: Callable[[str], str]
    """Key in the store of the object with this id."""
    skip_unreadable: bool = False
    pack_size_bytes: int = PACK_SIZE_BYTES


class Publisher:
    """Makes everything that `journal.unread()` names durable."""

    def __init__(
        self, source: ListedSource, journal: Journal, store: ObjectStore, settings: PublishSettings, progress: Progress
    ) -> None:
        self._source = source
        self._journal = journal
        self._store = store
        self._settings = settings
        self._progress = progress
        self._one_large = trio.CapacityLimiter(1)
        self._changed: list[Found] = []
        self._done_files = 0
        self._done_bytes = 0
        self.sent_bytes = 0
        """Bytes of objects that were uploaded."""

    async def run(self) -> None:
        """Returns when all is durable but for the store's final sync. Raises SourceProblem, StoreUnavailable, ..."""
        await trio.to_thread.run_sync(self._journal.index_contents)
        attempt = 1
        while next(self._journal.unread(), None) is not None:
            await self._pass(self._journal.unread())
            changed, self._changed = self._changed, []
            if changed:
                attempt += 1
            for file in changed:
                if attempt > ATTEMPTS:
                    self._give_up(file, f"it changed during each of {ATTEMPTS} readings")
                else:
                    await self._refresh(file, attempt)
            self._journal.share_hard_links()
        self._journal.commit()

    async def _pass(self, files: Iterable[Found]) -> None:
        sized = ((file, file.size) for file in files)
        units = group(sized, self._settings.block_size_bytes, self._settings.pack_size_bytes)
        with single_error():
            async with trio.open_nursery() as nursery:
                for number in range(WORKERS):
                    nursery.start_soon(self._work, units, name=f"publish worker {number}")

    async def _work(self, units: Iterator[tuple[list[Found], bool]]) -> None:
        buffer: mmap.mmap | None = None
        for files, large in units:
            if large:
                async with self._one_large:
                    await self._large(files[0])
            else:
                if buffer is None:
                    buffer = new_area(self._settings.pack_size_bytes)
                await self._pack(files, memoryview(buffer))
            self._progress.on_advance(self._done_files, self._done_bytes)

    async def _pack(self, files: list[Found], buffer: memoryview) -> None:
        block_size = self._settings.block_size_bytes
        offsets, _ = layout([file.size for file in files], block_size)
        views = [buffer[offset : offset + file.size] for file, offset in zip(files, offsets, strict=True)]
        readings = await self._source.read([Wanted(file, 0, view) for file, view in zip(files, views, strict=True)])
        digests = await trio.to_thread.run_sync(sha256_of_each, views)

        journal = self._journal
        key = uuid.uuid4().hex
        number = journal.begin_object(key)
        ours: list[int] = []  # what is new, as indices of files
        first: dict[bytes, int] = {}
        repeated: list[tuple[Found, bytes]] = []
        for index, (file, reading, digest) in enumerate(zip(files, readings, digests, strict=True)):
            if reading.outcome is not Outcome.READ:
                self._not_read(file, reading)
            elif digest in first:
                repeated.append((file, digest))
            elif (known := journal.find_content(digest)) is not None:
                journal.set_content(file.path, known)
                self._done(file)
            else:
                first[digest] = index
                ours.append(index)
        if not ours:
            journal.forget_objects([number])
            return
        places, size = layout([files[index].size for index in ours], block_size)
        contents = {}
        end = 0
        for index, place in zip(ours, places, strict=True):
            file, old = files[index], offsets[index]
            buffer[end:place] = bytes(place - end)
            if place != old:  # never upwards: leaving files out moves those behind them down
                buffer[place : place + file.size] = buffer[old : old + file.size]
            end = place + file.size
            contents[digests[index]] = content = journal.add_content(digests[index], file.size, number, place)
            journal.set_content(file.path, content)
        for file, digest in repeated:
            journal.set_content(file.path, contents[digest])
        data = buffer[:size]
        checksums = await trio.to_thread.run_sync(block_checksums, data, block_size)
        await self._store.put(self._settings.key_of(key), data)
        journal.finish_object(number, size, checksums)
        self.sent_bytes += size
        for index in ours:
            self._done(files[index])
        for file, _ in repeated:
            self._done(file)

    async def _large(self, file: Found) -> None:
        journal = self._journal
        if journal.knows_size(file.size):  # then reading it twice may save sending it
            reading = PiecewiseReading(self._source, file, self._settings.block_size_bytes)
            await reading.run(_discard)
            if not reading.failure and (known := journal.find_content(reading.sha256)) is not None:
                journal.set_content(file.path, known)
                self._done(file)
                return
        key = uuid.uuid4().hex
        number = journal.begin_object(key)
        reading = PiecewiseReading(self._source, file, self._settings.block_size_bytes)
        put = partial(self._store.put_stream, self._settings.key_of(key), size_hint_bytes=file.size)
        await reading.run(lambda chunks: put(self._told(chunks)))
        if reading.failure:
            journal.forget_objects([number])
            self._not_read(file, reading.failure)
            return
        journal.set_content(file.path, journal.add_content(reading.sha256, file.size, number, 0))
        journal.finish_object(number, file.size, reading.checksums)
        self.sent_bytes += file.size
        self._done(file)

    async def _told(self, chunks: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        """The *chunks*, and how far they are: a large file may take an hour."""
        passed_bytes = 0
        async for chunk in chunks:
            yield chunk
            passed_bytes += len(chunk)
            self._progress.on_advance(self._done_files, self._done_bytes + passed_bytes)

    def _done(self, file: Found) -> None:
        self._done_files += 1
        self._done_bytes += file.size

    def _not_read(self, file: Found, reading: Reading) -> None:
        if reading.outcome is Outcome.CHANGED:
            self._changed.append(file)
        else:
            self._give_up(file, reading.detail)

    async def _refresh(self, changed: Found, attempt: int) -> None:
        """Has the file read again as it is now, by whichever of its names are still there."""
        for name in self._journal.names_of(changed):
            file = await self._source.look_again(name)
            if file is None:
                self._give_up(name, "it is gone")
                continue
            self._journal.add(file)
            cause = f"while it was read; read again (attempt {attempt})"
            self._journal.add_problem(Problem("changed", file.path, cause))

    def _give_up(self, file: Found, cause: str) -> None:
        if not self._settings.skip_unreadable:
            raise SourceProblem(
                f"{os.fsdecode(file.path)} can't be read: {cause}",
                remedy="run the command again when it can be read, or leave such files out by --skip-unreadable",
            )
        self._journal.drop(file.path, Problem("unreadable", file.path, cause))


async def _discard(chunks: AsyncIterator[Buffer]) -> None:
    async for _ in chunks:
        pass
