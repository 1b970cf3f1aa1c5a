"""Whether the node's copy of a manifest is still the one that was mounted.

It is hashed when it is opened, and never as it is read: what a disk, or someone, changes in it later is noticed by what
follows from it, if at all: a row that SQLite refuses, a size that is no number, blocks that differ from a checksum that
is itself wrong. So an error that may come of it has the copy hashed once more. If it is another one, that is what is
said, and nothing is answered from it any more: sizes and places of files that look right may be wrong too.
"""

from __future__ import annotations

import math

import trio

from gridfs.errors import AccessDenied, FormatError, ObjectChanged, StoreUnavailable
from gridfs.manifest.reader import Manifest
from gridfs.model import Version

CHECK_AGAIN_S = 60.0
"""After a copy was found intact. Hashing one of 1.28 million entries takes 0.1 s of a worker thread."""

_OF_THE_STORE = (AccessDenied, ObjectChanged, StoreUnavailable)
"""What no damage of a manifest looks like."""


class ManifestCheck:
    """That of one mount. Used from trio's thread."""

    def __init__(self, manifest: Manifest, version: Version) -> None:
        self.is_damaged = False
        self._manifest = manifest
        self._version = version
        self._lock = trio.Lock()
        self._next_s = -math.inf

    async def cause_of(self, error: Exception) -> Exception:
        """*error*, or the FormatError that is behind it."""
        if isinstance(error, _OF_THE_STORE):
            return error
        async with self._lock:
            now_s = trio.current_time()
            if not self.is_damaged and now_s >= self._next_s:
                self._next_s = now_s + CHECK_AGAIN_S
                self.is_damaged = not await trio.to_thread.run_sync(self._is_intact)
        return self.damage() if self.is_damaged else error

    def damage(self) -> FormatError:
        """What is said when *is_damaged*."""
        return FormatError(
            f"{self._manifest.path} was changed while {self._version.name}@{self._version.version} is mounted: nothing"
            " more is read from it",
            remedy="unmount it and mount it again, which fetches the manifest anew; and look after the disk",
        )

    def _is_intact(self) -> bool:
        try:
            return self._manifest.sha256() == self._version.manifest_sha256
        except OSError:  # the disk can't read it any more
            return False
