"""What the read path asks of a manifest: where blocks lie and what they must hash to.

The manifest's reader satisfies this; tests satisfy it with a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from gridfs.model import Entry, ObjectRecord


class LayoutInfo(Protocol):
    """The figures of a version that the read path needs."""

    @property
    def block_size_bytes(self) -> int: ...

    @property
    def block_count(self) -> int:
        """Length of the tape."""
        ...

    @property
    def total_bytes(self) -> int: ...

    @property
    def file_count(self) -> int: ...

    @property
    def object_count(self) -> int: ...


class Layout(Protocol):
    """Immutable; all methods answer at once, from local files, and are called from one thread."""

    @property
    def info(self) -> LayoutInfo: ...

    def object(self, number: int) -> ObjectRecord:
        """The object of this number. Raises FormatError when the manifest has none."""
        ...

    def object_at_block(self, block: int) -> ObjectRecord:
        """The object that this block of the tape is part of."""
        ...

    def checksums(self, number: int, start: int, stop: int) -> Sequence[int] | None:
        """xxh3_64 of blocks *start* to *stop* (exclusive) of an object; None in a no-copy version, which has none."""
        ...

    def entries_of_object(self, number: int) -> Iterator[Entry]:
        """The files that lie in an object, by offset."""
        ...
