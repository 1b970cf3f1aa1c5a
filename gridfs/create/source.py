"""What gridfs asks of something that a datastore is made of: the promises of folders, buckets and archives.

There are two kinds of source, because two things can be done with content:

    ListedSource     a folder, a bucket: everything is listed first (in any order), and then any byte of any file can be
                     read, in the order that suits the packs, many at once, and again if need be
    StreamedSource   an archive: entries arrive one after another with their content, once

Both describe what they have found by the same record, `Found`, and neither knows of packs, journals or manifests.
A source maps every foreign failure to the classes of `gridfs.errors`; what it can't represent it reports as a
`Problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from gridfs.model import Kind, Problem


class Found(NamedTuple):
    """One thing that a source holds. A NamedTuple, because a scan makes one for each of millions of entries."""

    path: bytes
    """Below the root, `/`-separated, no empty, `.` or `..` component; `b""` is the root itself. Parents that are never
    found by themselves (a bucket has none) come into being as directories of `IMPLIED_MODE`."""
    kind: Kind
    mode: int = 0o644
    """Permission bits."""
    size: int = 0
    """Bytes of a file, bytes of a link's target, 0 for a directory. A streamed source may say less or more: what
    arrives counts."""
    mtime_ns: int = 0
    """As `clamped_ns` gives it."""
    target: bytes | None = None
    """Target of a symbolic link, as given."""
    stamp: bytes = b""
    """What tells one generation of the content from another (a folder: size, mtime, ctime and inode; a bucket: the
    ETag). Two equal stamps of one path promise equal bytes: they are what is compared when a creation is continued."""
    locator: bytes = b""
    """What the source needs to find the content again (a bucket: the key); opaque to everyone else."""
    same_as: bytes | None = None
    """Files of equal, non-empty `same_as` are one content (a folder's hard links: device, inode and generation), which
    is stored once."""
    etag: str | None = None
    """No-copy: the ETag that every later read must match."""


def clamped_ns(time_ns: int) -> int:
    """A time within the 64 bits of the manifest and of a kernel: years 1677 to 2262."""
    return max(-(1 << 63), min(time_ns, (1 << 63) - 1))


IMPLIED_MODE = 0o755
"""Permission bits of a directory that no source has described."""


class Outcome(Enum):
    """How the reading of one file ended."""

    READ = auto()
    """The destination holds exactly these bytes of the generation that `Found.stamp` names."""
    CHANGED = auto()
    """The file is another generation by now (or was in the middle of the reading); the destination is undefined."""
    UNREADABLE = auto()
    """It is gone, or permissions or the medium forbid it; the destination is undefined."""


class Wanted(NamedTuple):
    """Bytes of one file, and where to put them."""

    file: Found
    start: int
    """Offset in the file; the length is the destination's."""
    destination: memoryview


class Reading(NamedTuple):
    """The answer to one Wanted."""

    outcome: Outcome
    detail: str = ""
    """Cause in the user's words, when it was not READ."""


class Listing(Protocol):
    """Takes what a scan finds. Called from one thread at a time, which need not be trio's."""

    def add(self, found: Found) -> None:
        """Takes an entry. A second one of the same path replaces the first."""
        ...

    def add_files(self, files: Sequence[Found]) -> None:
        """Takes files; the same as `add` for each of them, and cheaper."""
        ...

    def add_problem(self, problem: Problem) -> None:
        """Takes note of something that the version will not carry, or carries changed."""
        ...


class ListedSource(Protocol):
    """Something that can be listed, and then read in any order."""

    @property
    def label(self) -> str:
        """What the user gave: an absolute path or an address, without credentials."""
        ...

    async def scan(self, listing: Listing) -> None:
        """Hands every entry to *listing*, in any order, and returns when there are no more.

        Repeatable; each scan reports all of the source. Raises NotFound, AccessDenied or SourceProblem when the source
        as a whole can't be listed. May work in a thread; *listing* may block it.
        """
        ...

    async def read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        """Fills every destination; one answer for each, in the same order.

        What concerns one file is its Reading, and does not disturb the others; what concerns the source as a whole
        (network, credentials) is raised as a StoreUnavailable or AccessDenied. May be called concurrently. A file
        larger than one destination is asked for in several calls; bytes of two generations are never called READ,
        because every answer holds for the generation of `stamp`.
        """
        ...

    async def look_again(self, file: Found) -> Found | None:
        """The file as it is now, with its new stamp; None when it is gone or no file any more."""
        ...


ReadInto: TypeAlias = Callable[[memoryview], int]
"""Fills (a part of) the view with the next bytes of a content; how many, 0 at the end."""


class Arrivals(Protocol):
    """Takes what streams in. Both methods are called from one worker thread of the source, and block it: that is what
    bounds the memory. What they raise must end the stream and be raised there."""

    def entry(self, found: Found) -> None:
        """Takes a directory, a symbolic link, or a file whose content arrived before (`same_as` is its path)."""
        ...

    def file(self, found: Found, read_into: ReadInto) -> None:
        """Takes a file: pulls from *read_into* until it returns 0. A later file of the same path replaces it."""
        ...

    def add_problem(self, problem: Problem) -> None:
        """As Listing.add_problem."""
        ...


@runtime_checkable
class StreamedSource(Protocol):
    """Something whose content passes by once."""

    @property
    def label(self) -> str:
        """As ListedSource.label."""
        ...

    async def stream(self, arrivals: Arrivals) -> None:
        """Hands over everything, in the order in which it arrives, and returns at the end.

        Raises SourceProblem when it is damaged or breaks a rule: then nothing of it may be committed. Repeatable from
        the beginning (that is how a creation is continued), not concurrently.
        """
        ...


Source: TypeAlias = ListedSource | StreamedSource


@dataclass(frozen=True, slots=True)
class SourceTotals:
    """How much there is, as far as it is known."""

    files: int
    total_bytes: int
