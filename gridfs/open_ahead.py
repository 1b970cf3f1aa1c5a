"""Has the kernel read files of an image that nobody has asked for yet (_open_ahead.c).

Pages of an image can't be stored into, as those of a FUSE mount can. But the daemon may open its files, by their number
and without their path, and say that they will be needed: the kernel then asks for them as if a reader had.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from gridfs.image_addresses import nid_of
from gridfs.zero_open import LIBRARY, library


def opener(tree: Path, path: Path = LIBRARY) -> Callable[[list[int]], int] | None:
    """What reads files of the image that is mounted at *tree*, by their inodes in the manifest; says how many it could.

    For a worker thread, which it keeps without the GIL. None without the library.
    """
    loaded = library(path, ctypes.CDLL)
    if loaded is None:
        return None
    function = loaded.gridfs_open_ahead
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_size_t
    name = os.fsencode(tree)

    def open_ahead(inodes: list[int]) -> int:
        numbers = (ctypes.c_uint32 * len(inodes))(*map(nid_of, inodes))
        taken: int = function(name, numbers, len(inodes))
        return taken

    return open_ahead
