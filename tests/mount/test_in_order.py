"""Small files in tree order, or many of a pack: the kernel has them before they are asked for, and most reads pass
Python by.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from gridfs.model import Version
from gridfs.mount import client
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp

FILES = 400
SIZE = 110 * 1024


@pytest.fixture
def version(staged: Stage, tmp_path: Path) -> Version:
    source = tmp_path / "source"
    for number in range(FILES):
        path = source / f"{number // 100}" / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ramp(SIZE, number))
    return staged.create(source, "ordered").version


def read(mount: Path, first: int, stop: int) -> None:
    for number in range(first, stop):
        assert (mount / f"{number // 100}" / f"{number:03}").read_bytes() == ramp(SIZE, number)


def is_cached(path: Path) -> bool:
    """Whether the kernel has all pages of a file, which this does not read (mincore(2))."""
    pages = -(-SIZE // mmap.PAGESIZE)
    resident = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),)
    with path.open("rb") as file:
        address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
    try:
        assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(SIZE), resident) == 0
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(SIZE))
    return all(byte & 1 for byte in resident)


def until_cached(mount: Path, among: Iterable[int]) -> list[int]:
    """Those that the kernel has, once there are ten; what there is after 20 s."""
    end = time.monotonic() + 20
    while True:
        cached = [n for n in among if is_cached(mount / f"{n // 100}" / f"{n:03}")]
        if len(cached) >= 10 or time.monotonic() > end:
            return cached
        time.sleep(0.05)


def test_of_an_image_the_next_files_are_read_ahead(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    read(mount, 0, 150)
    assert len(until_cached(mount, range(150, FILES))) >= 10
    read(mount, 150, FILES)
    (status,) = staged.statuses()
    assert status.detail["files_read_ahead"] > FILES // 2
    staged.unmount(mount)  # nothing of the daemon's own keeps it busy


def test_of_an_image_a_pack_that_is_read_at_random_is_read_ahead(
    staged: Stage, version: Version, tmp_path: Path
) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    shuffled = [number * 37 % FILES for number in range(FILES)]
    for number in shuffled[:30]:
        read(mount, number, number + 1)
    assert len(until_cached(mount, shuffled[30:])) >= 10
    for number in shuffled[30:]:
        read(mount, number, number + 1)


@pytest.mark.parametrize("mode", ["image", "veil", "bare"])
def test_most_reads_are_answered_without_python(staged: Stage, version: Version, tmp_path: Path, mode: str) -> None:
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    read(mount, 0, FILES)
    (status,) = staged.statuses()
    answered = status.detail["reads_answered_in_c"]
    assert answered > (FILES // 2 if mode == "image" else 20)  # elsewhere many need no READ: they were pushed
    assert status.detail["reader"]["reads_from_memory"] >= answered


def test_a_daemon_that_is_killed_while_files_are_read_ahead_fails_its_readers(
    staged: Stage, version: Version, tmp_path: Path
) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    read(mount, 0, 150)
    os.kill(staged.record().pid, 9)
    with pytest.raises(OSError, match=r"Input/output error|not connected"):
        read(mount, 150, FILES)
    again = client.mount(staged.request(version, mount), staged.paths)
    read(again, 0, FILES)
