"""Reads a version back and names what is wrong: `grid datastore verify`.

Parts of objects are read side by side, and those of one object are hashed in their order, so that every file's SHA-256
can be compared besides the checksums of its blocks: a part that came early waits for its turn. With a sample only some
parts are read, chosen at random, and the files that lie in them whole are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

import trio

from gridfs.catalog_contents import Contents
from gridfs.catalog_parallel import in_parallel
from gridfs.errors import GridfsError, ObjectChanged, ObjectMissing, StoreRefused
from gridfs.life.readback import OBJECTS_AT_ONCE, PARTS_AT_ONCE, Part, parts_with, path_of_entry, range_of, read_part
from gridfs.model import Entry, ObjectRecord
from gridfs.read.plan import Run


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was stored."""

    path: bytes
    """The file; empty: the version as a whole."""
    problem: str


@dataclass(slots=True)
class Verification:
    """What was read, and what is wrong."""

    read_bytes: int = 0
    whole_files: int = 0
    """Files whose content was compared whole."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.findings


async def verify(
    contents: Contents,
    *,
    sample: float | None = None,
    random: Random | None = None,
    on_advance: Callable[[int, int], None] = lambda files, read_bytes: None,
) -> Verification:
    """Reads the version back; with *sample* (0 to 1) about that share of its parts, but at least one.

    Raises StoreUnavailable or AccessDenied when it could not be found out; what is wrong is in the answer.
    """
    choose = _Sample(sample, random or Random())
    at_once = trio.CapacityLimiter(PARTS_AT_ONCE)
    result = Verification(findings=list(_compare_counts(contents)))

    async def look_at(record: ObjectRecord) -> None:
        files = list(contents.manifest.entries_of_object(record.number))
        parts = choose.of(record, parts_with(files, contents.manifest.info.block_size_bytes))
        await _look_at_object(contents, record, files, parts, result, at_once)
        on_advance(result.whole_files, result.read_bytes)

    await in_parallel(look_at, contents.manifest.objects(), OBJECTS_AT_ONCE)
    if choose.spare is not None:
        record, part = choose.spare
        files = contents.manifest.entries_of_object(record.number)
        await _look_at_object(contents, record, files, [part], result, at_once)
    result.findings.sort(key=lambda finding: finding.path)
    return result


class _Sample:
    """Chooses parts; *spare* is one of those that were not chosen, as long as none was."""

    def __init__(self, share: float | None, random: Random) -> None:
        self._share = share
        self._random = random
        self._seen = 0
        self._chosen = False
        self._spare: tuple[ObjectRecord, Run] | None = None

    @property
    def spare(self) -> tuple[ObjectRecord, Run] | None:
        return None if self._chosen else self._spare

    def of(self, record: ObjectRecord, parts: Iterable[Run]) -> list[Run]:
        if self._share is None:
            return list(parts)
        chosen = []
        for part in parts:
            self._seen += 1
            if self._random.random() < self._share:
                chosen.append(part)
            elif self._random.randrange(self._seen) == 0:
                self._spare = record, part
        self._chosen = self._chosen or bool(chosen)
        return chosen


async def _look_at_object(
    contents: Contents,
    record: ObjectRecord,
    files: Iterable[Entry],
    parts: Iterable[Run],
    result: Verification,
    at_once: trio.CapacityLimiter,
) -> None:
    hashing = _Hashing(files)
    wrong: dict[int, Entry] = {}
    turns = _Turns()

    async def look_at(numbered: tuple[int, Run]) -> None:
        number, run = numbered
        async with at_once:  # first come, first served: who holds the turn is never behind who waits for it
            part = await read_part(contents, record, run)
            await turns.wait_for(number)
            result.read_bytes += part.data.nbytes
            for file in await trio.to_thread.run_sync(hashing.take, part):
                wrong[file.inode] = file
        turns.pass_on()

    try:
        await in_parallel(look_at, enumerate(parts), PARTS_AT_ONCE)
    except (ObjectMissing, ObjectChanged, StoreRefused) as error:
        problem = await _problem_of(contents, record, error)
        for file in contents.manifest.entries_of_object(record.number):
            result.findings.append(Finding(path_of_entry(contents, file), problem))
        return
    result.whole_files += hashing.compared
    for file in wrong.values():
        result.findings.append(Finding(path_of_entry(contents, file), "differs from what was stored"))


async def _problem_of(contents: Contents, record: ObjectRecord, error: GridfsError) -> str:
    """What is wrong with an object that could not be read; raises *error* when nothing is."""
    if isinstance(error, ObjectMissing):
        return "gone from the store"
    if isinstance(error, ObjectChanged):
        return "changed in its bucket"
    head = await contents.objects.head(contents.key_of(record))
    if head.size_bytes == record.size_bytes:
        raise error
    return f"the object that holds it has {head.size_bytes} bytes instead of {record.size_bytes}"


class _Turns:
    """Lets tasks do something one after another, in the order of their numbers from 0."""

    def __init__(self) -> None:
        self._now = 0
        self._waiting = trio.lowlevel.ParkingLot()

    async def wait_for(self, number: int) -> None:
        while number != self._now:
            await self._waiting.park()

    def pass_on(self) -> None:
        self._now += 1
        self._waiting.unpark_all()


class _Hashing:
    """Takes the parts of one object in order, and hashes the files in them."""

    def __init__(self, files: Iterable[Entry]) -> None:
        self._files = [file for file in files if file.size]
        self._next = 0
        self._open: list[tuple[Entry, int, hashlib._Hash]] = []
        """Files that go on in the next part: with how much of them has been hashed."""
        self.compared = 0

    def take(self, part: Part) -> list[Entry]:
        """The files that are found to be wrong in this part."""
        wrong = []
        going_on, self._open = self._open, []
        while self._next < len(self._files) and range_of(self._files[self._next]).start < part.stop:
            file = self._files[self._next]
            self._next += 1
            start, stop = range_of(file)
            if start >= part.start:
                going_on.append((file, 0, hashlib.sha256()))
            elif not part.is_right(start, stop):
                wrong.append(file)  # its beginning was not read, but this is wrong
        for file, done, digest in going_on:
            start, stop = range_of(file).start + done, min(range_of(file).stop, part.stop)
            if start < part.start:
                continue  # a part between was not read
            if not part.is_right(start, stop):
                wrong.append(file)
                continue
            digest.update(part.data[start - part.start : stop - part.start])
            if stop < range_of(file).stop:
                self._open.append((file, done + stop - start, digest))
            else:
                self.compared += 1
                if file.sha256 is not None and digest.digest() != file.sha256:
                    wrong.append(file)
        return wrong


def _compare_counts(contents: Contents) -> Iterable[Finding]:
    info, version = contents.manifest.info, contents.version
    for what in ("file_count", "directory_count", "symlink_count", "total_bytes"):
        found, recorded = getattr(info, what), getattr(version, what)
        if found != recorded:
            yield Finding(b"", f"{what} is {found} in the manifest and {recorded} in the commit record")
