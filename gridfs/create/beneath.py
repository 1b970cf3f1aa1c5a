"""Opens what lies below a directory without ever following a symbolic link out of it.

Every component is opened by its name relative to the directory above, with O_NOFOLLOW: someone who swaps a directory
for a link between the listing and the reading gets an error, and no path is too long for the kernel (4096 bytes). The
directory of the last call stays open, because files are asked for in tree order.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: whoever swaps the file for a FIFO does not hang us.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Beneath:
    """Opens by path below *root*; for one thread. All methods raise OSError as open(2) does."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directory = self._root
        self._path = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget()
        os.close(self._root)

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory at *path*, which stays ours: good until the next call."""
        if path == self._path:
            return self._directory
        self._forget()
        current = self._root
        try:
            for name in path.split(b"/") if path else ():
                below = os.open(name, _DIRECTORY_FLAGS, dir_fd=current)
                if current != self._root:
                    os.close(current)
                current = below
        except OSError:
            if current != self._root:
                os.close(current)
            raise
        self._directory, self._path = current, path
        return current

    def file(self, path: bytes) -> int:
        """A new descriptor of the file at *path*, for reading; the caller closes it."""
        directory, _, name = path.rpartition(b"/")
        return os.open(name, _FILE_FLAGS, dir_fd=self.directory(directory))

    def _forget(self) -> None:
        if self._directory != self._root:
            os.close(self._directory)
        self._directory, self._path = self._root, b""
