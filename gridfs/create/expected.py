"""What a large file that streams in must turn out to be, if it is what it looks like.

A stream can't be asked for a file's hash before the file is sent, and sending it again would be in vain where an
earlier run of the creation, or the version before, has it. So a file of the same path, size and mtime is taken at its
word, hashed as it comes, and found out if it lied.
"""

from __future__ import annotations

from gridfs.create.journal import Journal
from gridfs.create.source import Found
from gridfs.manifest.reader import Manifest
from gridfs.model import Kind


class Expected:
    """The hash that a large file has if it is what it looks like, by an earlier run and the version before."""

    def __init__(self, journal: Journal, base: Manifest | None) -> None:
        self._journal = journal
        self._base = base

    def sha256_of(self, found: Found) -> bytes | None:
        """None: no file of that path, size and mtime is known. Called with the journal's lock held."""
        earlier = self._journal.earlier_sha256(found)
        if earlier is None and self._base is not None:
            entry = self._base.resolve(found.path)
            if entry is not None and (entry.kind, entry.size, entry.mtime_ns) == (
                Kind.FILE, found.size, found.mtime_ns
            ):  # fmt: skip
                earlier = entry.sha256
        return earlier if earlier is not None and self._journal.find_content(earlier) is not None else None
