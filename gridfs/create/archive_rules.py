"""What an archive may say, and what becomes of it. Pure.

An archive is not trusted. Nothing of it is ever extracted: names become entries of the manifest, contents go into
objects, and no rule depends on a file system that could be tricked. Still a mount shows what the archive says, so:

    paths       components `.` and empty ones are dropped; `..`, NUL, absolute paths, drive letters, components above
                255 bytes and paths above 4095 are refused, and with them the archive
    links       a symbolic link is kept if it can't lead out of the root, whatever else the archive holds: its target is
                relative, has `..` only at its beginning, and not more of them than the link lies deep. Any other is
                left out and reported. (Only at the beginning: with `a -> .`, `a/..` is above the root.)
    bombs       are stopped by what comes out, not by what a header says: MAX_ENTRIES entries, and MAX_RATIO times the
                bytes that went in once more than FREE_BYTES came out
    modes       owner, set-uid and sticky bits are dropped
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gridfs.errors import SourceProblem
from gridfs.model import Problem

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 4095
MAX_ENTRIES = 20_000_000
MAX_RATIO = 1000
"""Deflate reaches 1032 with nothing but zeros, and real data hardly ever 100."""
FREE_BYTES = 100 << 20
"""Below this no ratio is suspicious: a small archive of empty images is no attack."""

MODE_MASK = 0o777


def entry_path(name: bytes, archive: str) -> bytes:
    """The path below the root that an archive's *name* means; empty for the root. Raises SourceProblem."""
    shown = name.decode("utf-8", "backslashreplace")
    if b"\0" in name:
        raise _refused(archive, shown, "has a NUL in its name")
    if name.startswith(b"/"):
        raise _refused(archive, shown, "has an absolute path")
    if len(name) > 1 and name[1:2] == b":" and name[:1].isalpha():
        raise _refused(archive, shown, "begins with a drive letter")
    components = [component for component in name.split(b"/") if component not in (b"", b".")]
    if b".." in components:
        raise _refused(archive, shown, "leads out of the archive by '..'")
    if any(len(component) > MAX_COMPONENT_BYTES for component in components):
        raise _refused(archive, shown, f"has a name of more than {MAX_COMPONENT_BYTES} bytes")
    path = b"/".join(components)
    if len(path) > MAX_PATH_BYTES:
        raise _refused(archive, shown, f"has a path of more than {MAX_PATH_BYTES} bytes")
    return path


def link_stays_inside(path: bytes, target: bytes) -> bool:
    """Whether the link at *path* leads to a place below the root, whatever other such links there are."""
    if not target or target.startswith(b"/") or b"\0" in target or len(target) > MAX_PATH_BYTES:
        return False
    components = [component for component in target.split(b"/") if component not in (b"", b".")]
    upwards = 0
    while upwards < len(components) and components[upwards] == b"..":
        upwards += 1
    return b".." not in components[upwards:] and upwards <= path.count(b"/")


def link_outside(path: bytes, target: bytes) -> Problem:
    """The report of a symbolic link that was left out because it may lead out of the root."""
    return Problem("link-outside", path, target.decode("utf-8", "backslashreplace"))


@dataclass(slots=True)
class Account:
    """Counts what goes in and comes out of one archive, and stops a bomb."""

    archive: str
    entries: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    has_rest: bool = False
    """Something that is no compressed stream follows the last one."""

    def add_entry(self) -> None:
        """One more entry. Raises SourceProblem when there are too many."""
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise SourceProblem(f"{self.archive} has more than {MAX_ENTRIES:,} entries")

    def add_in(self, size_bytes: int) -> None:
        """So much was read of the archive."""
        self.bytes_in += size_bytes

    def add_out(self, size_bytes: int) -> None:
        """So much came out of it. Raises SourceProblem for a bomb."""
        self.bytes_out += size_bytes
        if self.bytes_out > FREE_BYTES and self.bytes_out > MAX_RATIO * self.bytes_in:
            raise SourceProblem(
                f"{self.archive} unpacks to more than {MAX_RATIO} times its size ({self.bytes_in:,} bytes became "
                f"{self.bytes_out:,} so far): it looks like a decompression bomb",
                remedy="if it is none, unpack it yourself and give the folder",
            )


def refuse_clash(archive: str) -> Callable[[bytes], None]:
    """What a journal does with a path that is both a directory and not one: in an archive that is an attack."""

    def refuse(path: bytes) -> None:
        shown = path.decode("utf-8", "backslashreplace")
        raise _refused(archive, shown, "is a directory in it, and something else too")

    return refuse


def damaged(archive: str, cause: object) -> SourceProblem:
    """The error for an archive that does not follow its own format."""
    return SourceProblem(f"{archive} is damaged: {cause}", remedy="nothing of it was kept; get it anew")


def _refused(archive: str, shown: str, why: str) -> SourceProblem:
    return SourceProblem(f"{archive} is refused: its entry {shown!r} {why}", remedy="nothing of it was kept")
