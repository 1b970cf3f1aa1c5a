"""What differs between two versions: both trees walked side by side in the order of their names. Pure.

Contents are compared by SHA-256, or by key, ETag and size where both versions leave their bytes in a bucket; between a
copied and a no-copy version size and mtime decide. Nothing is read but the two manifests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gridfs.manifest.reader import Manifest
from gridfs.model import ROOT_INODE, Entry, Kind


class Change(StrEnum):
    """What happened to a path."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    """A file's bytes, or a link's target."""
    ATTRIBUTES = "attributes"
    """The same bytes with another mode or mtime (a directory: mode)."""
    KIND = "kind"
    """A file in place of a directory, and so on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that is not the same in both versions."""

    path: bytes
    change: Change
    old: Entry | None
    new: Entry | None


def differences(old: Manifest, new: Manifest) -> Iterator[Difference]:
    """All differences from *old* to *new*, in the manifest's order; with a directory all below it is named."""
    same_content = _Comparison(old, new)
    pending: list[tuple[bytes, Entry | None, Entry | None]] = [(b"", old.entry(ROOT_INODE), new.entry(ROOT_INODE))]
    while pending:
        prefix, old_directory, new_directory = pending.pop()
        below: list[tuple[bytes, Entry | None, Entry | None]] = []
        for before, after in _paired(_children(old, old_directory), _children(new, new_directory)):
            name = before.name if before is not None else after.name if after is not None else b""
            path = prefix + name
            change = _change(before, after, same_content)
            if change is not None:
                yield Difference(path, change, before, after)
            old_below, new_below = _if_directory(before), _if_directory(after)
            if old_below is not None or new_below is not None:
                below.append((path + b"/", old_below, new_below))
        pending.extend(reversed(below))


def _change(before: Entry | None, after: Entry | None, same_content: _Comparison) -> Change | None:
    if before is None:
        return Change.ADDED
    if after is None:
        return Change.REMOVED
    if before.kind != after.kind:
        return Change.KIND
    if _is_directory(before):
        return Change.ATTRIBUTES if before.mode != after.mode else None
    if not same_content(before, after):
        return Change.CONTENT
    if before.kind == Kind.FILE and (before.mode, before.mtime_ns) != (after.mode, after.mtime_ns):
        return Change.ATTRIBUTES
    return None


class _Comparison:
    """Whether two entries of one kind, of two versions, have the same content."""

    def __init__(self, old: Manifest, new: Manifest) -> None:
        self._old = old
        self._new = new

    def __call__(self, before: Entry, after: Entry) -> bool:
        if before.kind == Kind.SYMLINK:
            return before.target == after.target
        if before.size != after.size:
            return False
        if before.sha256 is not None and after.sha256 is not None:
            return before.sha256 == after.sha256
        if before.object is None or after.object is None:
            return before.size == 0
        if before.sha256 is None and after.sha256 is None:
            return self._old.object(before.object).identity == self._new.object(after.object).identity
        return before.mtime_ns == after.mtime_ns


def _children(manifest: Manifest, directory: Entry | None) -> Iterator[Entry]:
    return iter(()) if directory is None else manifest.children(directory)


def _is_directory(entry: Entry) -> bool:
    return entry.kind == Kind.DIRECTORY


def _if_directory(entry: Entry | None) -> Entry | None:
    return entry if entry is not None and _is_directory(entry) else None


def _paired(old: Iterator[Entry], new: Iterator[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Merges two lists that are sorted by name; entries of one name come together."""
    before, after = next(old, None), next(new, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.name < after.name):
            yield before, None
            before = next(old, None)
        elif before is None or after.name < before.name:
            yield None, after
            after = next(new, None)
        else:
            yield before, after
            before, after = next(old, None), next(new, None)
