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

LIBRARY = Path(__file__).with_name("_zero_open.so")

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


def load(path: Path = LIBRARY) -> Hook | None:
    """The hook, or None where the library was not built or can't be loaded (it needs libfuse3)."""
    try:
        return Hook(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL))
    except (OSError, ValueError):  # ValueError: a library of that name that is not ours
        return None


HOOK = load()
