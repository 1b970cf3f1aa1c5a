"""Copies files of a version into a directory, without a mount: `grid datastore download`.

    0  wait until no other download writes to the directory
    1  look: what is there already, and does anything stand in the way? Nothing is written before that is known
    2  directories
    3  contents: the files of one object are a unit, units in parallel, each read in parts that are verified before
       anything of them is written; a file gets its name when it is whole
    4  links, times of directories

Run again, it takes what is there (kind, size and mtime are right) as done, and goes on in the middle of a large file:
what an earlier run has written of it counts where its blocks have the right checksums. A no-copy version has none;
there a large file that was not finished is fetched anew.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from gridfs.catalog_contents import Contents
from gridfs.catalog_parallel import in_parallel
from gridfs.errors import AccessDenied, IntegrityError, InvalidInput, Unsupported
from gridfs.life.readback import OBJECTS_AT_ONCE, Part, parts_with, range_of, read_part
from gridfs.life.target import State, Target
from gridfs.model import ByteRange, Entry, Kind, ObjectRecord
from gridfs.read.plan import Run, bytes_of
from gridfs.read.verify import wrong_blocks

_UNIT_FILES = 4096
"""Files of one unit at most: of a pack there are hundreds, and empty files have no object that bounds them."""
_CONFLICTS_NAMED = 3
_LOCK_INTERVAL_S = 0.2


class Wanted(NamedTuple):
    """One entry, and where it goes below the target."""

    path: bytes
    entry: Entry


@dataclass(slots=True)
class Amount:
    """So many files and bytes."""

    files: int = 0
    size_bytes: int = 0

    def add(self, entry: Entry) -> None:
        self.files += 1
        self.size_bytes += entry.size


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a download will do."""

    present: Amount
    missing: Amount


def wanted(contents: Contents, top: Entry) -> Iterator[Wanted]:
    """What a download of *top* makes: what a directory holds, or a file by its own name; in the manifest's order."""
    for path, entry in contents.manifest.walk(top.inode):
        if path:
            yield Wanted(path, entry)
        elif entry.kind != Kind.DIRECTORY:
            yield Wanted(entry.name, entry)


async def download(
    contents: Contents,
    top: Entry,
    directory: Path,
    *,
    on_phase: Callable[[str], None] = lambda text: None,
    on_outlook: Callable[[Outlook], None] = lambda outlook: None,
    on_advance: Callable[[int, int], None] = lambda files, size_bytes: None,
) -> Outlook:
    """Copies *top* into *directory*, which is made if need be, and says how much was there and how much was fetched.

    Raises InvalidInput, before anything is written, when something else is in the way; IntegrityError when the store
    does not give what was stored; Unsupported or AccessDenied when the directory can't be written.
    """
    try:
        target = Target(directory, contents.version.manifest_sha256)
        try:
            await _alone_in(target, on_phase)
            on_phase("downloading")
            outlook = await trio.to_thread.run_sync(_look, contents, top, target)
            on_outlook(outlook)
            await trio.to_thread.run_sync(_make_directories, contents, top, target)
            await _Copying(contents, target, on_advance).run(top)
            await trio.to_thread.run_sync(_complete, contents, top, target)
        finally:
            target.close()
    except PermissionError as error:
        raise AccessDenied(f"{directory} can't be written: {error.strerror}") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Unsupported(
            f"{directory} can't be written: {error.strerror}",
            remedy="make room; the same command then continues" if full else "choose another directory",
        ) from error
    return outlook


async def _alone_in(target: Target, on_phase: Callable[[str], None]) -> None:
    """Returns when no other download writes to *target*.

    It waits and does not refuse: who downloads one version from every task of a job, or two paths of it at once, wants
    all of them to succeed. The one that waited finds what the other has fetched.
    """
    waits = False
    while not await trio.to_thread.run_sync(target.lock):
        if not waits:
            on_phase(f"waiting for another download into {target.root}")
            waits = True
        await trio.sleep(_LOCK_INTERVAL_S)


def _look(contents: Contents, top: Entry, target: Target) -> Outlook:
    if target.folds_case():
        _refuse_names_of_one_file(contents, top, target)
    outlook = Outlook(Amount(), Amount())
    conflicts = []
    for path, entry in wanted(contents, top):
        state = target.state(path, entry)
        if state is State.OTHER:
            conflicts.append(path)
        elif entry.kind == Kind.FILE:
            (outlook.present if state is State.PRESENT else outlook.missing).add(entry)
    if conflicts:
        named = ", ".join(repr(path)[1:] for path in conflicts[:_CONFLICTS_NAMED])
        more = f" and {len(conflicts) - _CONFLICTS_NAMED:,} more" if len(conflicts) > _CONFLICTS_NAMED else ""
        raise InvalidInput(
            f"{target.root} holds something else where these would go: {named}{more}",
            remedy="remove it, or choose an empty directory",
        )
    return outlook


def _refuse_names_of_one_file(contents: Contents, top: Entry, target: Target) -> None:
    """Raises InvalidInput if names of one directory differ by case only: files would fail late, directories merge."""
    parent, paths = None, dict[str, bytes]()
    for path, entry in wanted(contents, top):
        if entry.parent != parent:  # what is in one directory comes together
            parent, paths = entry.parent, {}
        other = paths.setdefault(entry.name.decode("utf-8", "surrogateescape").casefold(), path)
        if other != path:
            raise InvalidInput(
                f"{target.root} can't hold both {repr(other)[1:]} and {repr(path)[1:]}: its file system takes names "
                "that differ by case only for one",
                remedy="choose a directory on another file system",
            )


def _make_directories(contents: Contents, top: Entry, target: Target) -> None:
    for path, entry in wanted(contents, top):
        if entry.kind == Kind.DIRECTORY:
            target.make_directory(path)


def _complete(contents: Contents, top: Entry, target: Target) -> None:
    target.forget_partials()
    directories = []
    for each in wanted(contents, top):
        if each.entry.kind == Kind.SYMLINK:
            target.make_link(*each)
        elif each.entry.kind == Kind.DIRECTORY:
            directories.append(each)
    for each in reversed(directories):
        target.set_directory_time(*each)


def units(entries: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """Files that follow each other and lie in the same object; empty files come together too."""
    unit: list[Wanted] = []
    for each in entries:
        if each.entry.kind != Kind.FILE:
            continue
        if unit and (each.entry.object != unit[0].entry.object or len(unit) == _UNIT_FILES):
            yield unit
            unit = []
        unit.append(each)
    if unit:
        yield unit


class _Copying:
    """Step 3."""

    def __init__(self, contents: Contents, target: Target, on_advance: Callable[[int, int], None]) -> None:
        self._contents = contents
        self._target = target
        self._on_advance = on_advance
        self._done = Amount()
        self._parts = trio.CapacityLimiter(OBJECTS_AT_ONCE)
        self._left: dict[int, int] = {}
        """Bytes that are still to be written of files that lie in several parts, by inode."""

    async def run(self, top: Entry) -> None:
        await in_parallel(self._copy, units(wanted(self._contents, top)), OBJECTS_AT_ONCE)

    async def _copy(self, unit: list[Wanted]) -> None:
        missing = await trio.to_thread.run_sync(self._missing, unit)
        if not missing:
            return
        number = missing[0].entry.object
        if number is None:
            await trio.to_thread.run_sync(self._make_empty, missing)
            self._done.files += len(missing)
            return
        record = self._contents.manifest.object(number)
        missing.sort(key=lambda each: range_of(each.entry))
        runs = parts_with([each.entry for each in missing], self._block_size_bytes)

        async def copy_part(run: Run) -> None:
            async with self._parts:
                await self._copy_part(record, run, missing)

        await in_parallel(copy_part, runs, OBJECTS_AT_ONCE)

    @property
    def _block_size_bytes(self) -> int:
        return self._contents.manifest.info.block_size_bytes

    def _missing(self, unit: list[Wanted]) -> list[Wanted]:
        return [each for each in unit if self._target.lacks(*each)]

    async def _copy_part(self, record: ObjectRecord, run: Run, files: list[Wanted]) -> None:
        byte_range = bytes_of(run, record.size_bytes, self._block_size_bytes)
        touched = [each for each in files if _overlap(each.entry, byte_range)]
        if len(touched) == 1 and await self._has(touched[0], record, run, byte_range):
            written = [(touched[0], byte_range.size_bytes)]
        else:
            part = await read_part(self._contents, record, run)
            written = await trio.to_thread.run_sync(self._write, part, touched)
        for each, size_bytes in written:
            left = self._left.get(each.entry.inode, each.entry.size) - size_bytes
            self._left[each.entry.inode] = left
            self._done.size_bytes += size_bytes
            if left == 0:
                del self._left[each.entry.inode]
                await trio.to_thread.run_sync(self._target.finish, *each)
                self._done.files += 1
        self._on_advance(self._done.files, self._done.size_bytes)

    async def _has(self, each: Wanted, record: ObjectRecord, run: Run, byte_range: ByteRange) -> bool:
        """Whether an earlier run has written this part of a file; all of the part is the file's."""
        start, stop = range_of(each.entry)
        expected = self._contents.manifest.checksums(record.number, run.first, run.stop)
        if expected is None or not (start <= byte_range.start and byte_range.stop <= stop):
            return False
        old = await trio.to_thread.run_sync(
            self._target.read_partial, each.entry, byte_range.start - start, byte_range.size_bytes
        )
        if len(old) != byte_range.size_bytes:
            return False
        return next(wrong_blocks(old, expected, self._block_size_bytes), None) is None

    def _write(self, part: Part, files: list[Wanted]) -> list[tuple[Wanted, int]]:
        """Writes what *part* has of *files*, and says how much of each."""
        written = []
        for each in files:
            start, stop = range_of(each.entry)
            first, last = max(start, part.start), min(stop, part.stop)
            data = part.data[first - part.start : last - part.start]
            whole = (first, last) == (start, stop) and each.entry.sha256 is not None
            if not part.is_right(first, last) or (whole and hashlib.sha256(data).digest() != each.entry.sha256):
                raise IntegrityError(
                    f"{each.path!r} can't be downloaded: its bytes in {self._contents.objects.url} are not those that "
                    "were stored",
                    remedy="`grid datastore verify` says what else is wrong",
                )
            self._target.write(each.entry, first - start, data)
            written.append((each, last - first))
        return written

    def _make_empty(self, files: list[Wanted]) -> None:
        for each in files:
            self._target.write(each.entry, 0, b"")
            self._target.finish(*each)


def _overlap(file: Entry, byte_range: ByteRange) -> bool:
    start, stop = range_of(file)
    return start < byte_range.stop and byte_range.start < stop
