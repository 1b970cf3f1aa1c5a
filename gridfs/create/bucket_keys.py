"""From keys to paths: what of a bucket a tree can show, and what it can't, with the reason.

a/b.txt                    the file a/b.txt
a/b/                       a directory marker: the directory a/b; its content, if it has any, is not kept
a//b  a/./b  a/../b  \\0   no path names this
a/<over 255 bytes>/b       no file system takes this
class GLACIER, ...         can't be read until someone restores it
a  and  a/b                the directory wins (the journal sees that)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from re import Pattern, compile

from gridfs.create.source import IMPLIED_MODE, Found
from gridfs.model import Kind, Problem
from gridfs.store.base import ObjectHead

UNREPRESENTABLE, MARKER, ARCHIVED = "unrepresentable-key", "directory-marker", "archived"
"""Reasons in the report."""

MAX_COMPONENT_BYTES = 255
_SUSPICIOUS = compile(rb"//|/\.|\0|/$")
"""Of what has none of these, nothing but a component's length may be wrong."""
_ARCHIVED_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""GLACIER_IR answers at once. Archived tiers of INTELLIGENT_TIERING can't be told from a listing: their reads fail."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which paths are wanted: shell patterns over the whole path below the prefix, whose `*` also matches `/`."""

    include: tuple[str, ...] = ()
    """Empty: everything."""
    exclude: tuple[str, ...] = ()
    """These are left out, also of what is included."""

    def compiled(self) -> tuple[Pattern[str] | None, Pattern[str] | None]:
        return _any_of(self.include), _any_of(self.exclude)


def _any_of(patterns: Sequence[str]) -> Pattern[str] | None:
    return compile("|".join(translate(pattern) for pattern in patterns)) if patterns else None


class KeyMapping:
    """Turns what a listing says into what a version shows; pure."""

    def __init__(self, prefix: str, selection: Selection) -> None:
        self._skip = len(prefix)
        self._include, self._exclude = selection.compiled()

    def of(self, head: ObjectHead) -> Sequence[Found | Problem]:
        """What *head* becomes; nothing if it was not selected."""
        name = head.key[self._skip :]
        if self._include is not None and self._include.match(name) is None:
            return ()
        if self._exclude is not None and self._exclude.match(name) is not None:
            return ()
        path = name.encode("utf-8", "surrogateescape")
        is_marker = name == "" or name.endswith("/")
        if (flaw := _flaw(path.rstrip(b"/") if is_marker and not path.endswith(b"//") else path)) is not None:
            return (Problem(UNREPRESENTABLE, path, flaw),)
        if is_marker:
            detail = f"its {head.size_bytes} bytes are not kept" if head.size_bytes else ""
            directory = Found(path[:-1], Kind.DIRECTORY, IMPLIED_MODE, 0, head.last_modified_ns)
            return (directory, Problem(MARKER, path, detail))
        if head.storage_class in _ARCHIVED_CLASSES:
            return (Problem(ARCHIVED, path, f"storage class {head.storage_class}"),)
        return (file_of(head, path),)


def file_of(head: ObjectHead, path: bytes) -> Found:
    """The file that an object is."""
    key, size, etag, modified_ns, _ = head
    stamp, locator = f"{etag or modified_ns} {size}".encode(), key.encode("utf-8", "surrogateescape")
    return Found(path, Kind.FILE, 0o644, size, modified_ns, None, stamp, locator, None, etag or None)


def _flaw(path: bytes) -> str | None:
    """Why no file system can show *path*; None if it can."""
    if len(path) <= MAX_COMPONENT_BYTES and not path.startswith((b"/", b".")) and _SUSPICIOUS.search(path) is None:
        return None  # nearly all
    if path == b"":
        return None
    if b"\0" in path:
        return "it holds a NUL"
    for component in path.split(b"/"):
        if component == b"":
            return "it has an empty component (a double or a leading slash)"
        if component in (b".", b".."):
            return f"it has a component {component.decode()!r}"
        if len(component) > MAX_COMPONENT_BYTES:
            return f"a component has {len(component)} bytes, and file names at most {MAX_COMPONENT_BYTES}"
    return None
