"""The order of a manifest: directories in depth-first preorder, the children of each in byte order of their names.

Written down once, as a key that sorts by plain byte comparison: an entry's place is (the path of its directory with NUL
in place of `/`, its name). NUL is less than every byte of a name, so a directory sorts before what lies below it, and
`a/b` below `a` sorts before `a-b` although `-` is less than `/`. All children of a directory are together, and follow
the children of the directory above: exactly the order in which the manifest numbers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Place(NamedTuple):
    """Where an entry stands in the manifest; places compare in the manifest's order."""

    directory: bytes
    """Path of its directory with NUL for `/`; empty for the root's children."""
    name: bytes


def place_of(path: bytes) -> Place:
    """The place of the entry at *path* (below the root, `/`-separated, no slash at its ends)."""
    directory, _, name = path.rpartition(b"/")
    return Place(directory.replace(b"/", b"\0"), name)


def path_of(directory: bytes, name: bytes) -> bytes:
    """The path of the entry *name* in a directory that is given as a place's `directory`."""
    return directory.replace(b"\0", b"/") + b"/" + name if directory else name


def directories_above(path: bytes) -> Iterator[bytes]:
    """The paths of the directories that *path* lies in, from the outermost; not the root."""
    end = path.find(b"/")
    while end >= 0:
        yield path[:end]
        end = path.find(b"/", end + 1)
