"""The zero-message open: loads the library that lets the kernel open files by itself (_zero_open.c says how).

Importing this module loads the library, which has to happen before pyfuse3 is imported: the dynamic linker gives
pyfuse3 the functions of whichever library came first. Loading changes nothing for a mount that does not use it.

ENOSYS may be answered to an OPEN only when `may_answer_enosys` says so (invariant 10): the library is there, this very
request passed through it, and the kernel announced that it understands the answer. Without the library a mount works
all the same; each open() then costs a message to the daemon and back.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TypeVar

LIBRARY = Path(__file__).with_name("_zero_open.so")

VERSION = 3
"""Of what is called in the library; as in _zero_open.c. One of another version, left by an installation that could not
build it anew, is as good as none: it would take its arguments for something else."""

NO_OPEN_SUPPORT = 1 << 17
"""FUSE_NO_OPEN_SUPPORT in INIT's flags (linux/fuse.h): kernels from 3.15 on."""
NO_OPENDIR_SUPPORT = 1 << 24
"""FUSE_NO_OPENDIR_SUPPORT: kernels from 5.1 on."""


PADDING_LIMIT_BYTES = 4096
"""As in the library."""


class Hook:
    """The loaded library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._requests_seen = ctypes.c_ulong.in_dll(library, "gridfs_requests_seen")
        self._kernel_flags = ctypes.c_uint.in_dll(library, "gridfs_kernel_flags")
        self._padding = ctypes.c_ulong.in_dll(library, "gridfs_padding")

    @property
    def requests_seen(self) -> int:
        return self._requests_seen.value

    def pad(self, zeros: int) -> bool:
        """Has that many zeros sent behind the next answer, if they are few: for a handler that returns at once then."""
        if zeros > PADDING_LIMIT_BYTES or not self._requests_seen.value:
            return False
        self._padding.value = zeros
        return True

    def may_answer_enosys(self, *, directory: bool) -> bool:
        """Whether ENOSYS to an OPEN (or OPENDIR) would be understood by the kernel, and its READs by us."""
        needed = NO_OPENDIR_SUPPORT if directory else NO_OPEN_SUPPORT
        return self._requests_seen.value > 0 and bool(self._kernel_flags.value & needed)


Library = TypeVar("Library", bound=ctypes.CDLL)


def library(path: Path, kind: type[Library]) -> Library | None:
    """The library, or None where it was not built, can't be loaded (it needs libfuse3), or is not of this version.

    *kind* is ctypes.PyDLL for functions that return at once and need not give up the GIL.
    """
    try:
        loaded = kind(str(path), mode=ctypes.RTLD_GLOBAL)
        version = ctypes.c_uint.in_dll(loaded, "gridfs_library_version").value
    except (OSError, ValueError):  # ValueError: a library of that name that is not ours
        return None
    return loaded if version == VERSION else None


def load(path: Path = LIBRARY) -> Hook | None:
    """The hook, if there is the library."""
    loaded = library(path, ctypes.CDLL)
    return None if loaded is None else Hook(loaded)


HOOK = load()
