"""Invariant 10: ENOSYS to open is answered only when the hook is live."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs import fast_reads
from gridfs.open_ahead import opener
from gridfs.zero_open import LIBRARY, NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT, VERSION, Hook, load


@pytest.fixture
def library() -> Iterator[ctypes.CDLL]:
    """The real library, in which nothing has passed: no session runs in this process."""
    library = ctypes.CDLL(str(LIBRARY))
    yield library
    ctypes.c_ulong.in_dll(library, "gridfs_requests_seen").value = 0
    ctypes.c_uint.in_dll(library, "gridfs_kernel_flags").value = 0


def test_a_hook_that_no_request_has_passed_is_not_used(library: ctypes.CDLL) -> None:
    ctypes.c_uint.in_dll(library, "gridfs_kernel_flags").value = 0xFFFFFFFF
    hook = Hook(library)
    assert hook.requests_seen == 0
    assert not hook.may_answer_enosys(directory=False)
    assert not hook.may_answer_enosys(directory=True)


@pytest.mark.parametrize(
    ("kernel_flags", "files", "directories"),
    [(0, False, False), (NO_OPEN_SUPPORT, True, False), (NO_OPENDIR_SUPPORT, False, True)],
)
def test_a_kernel_is_answered_only_what_it_knows(
    library: ctypes.CDLL, kernel_flags: int, files: bool, directories: bool
) -> None:
    ctypes.c_ulong.in_dll(library, "gridfs_requests_seen").value = 1
    ctypes.c_uint.in_dll(library, "gridfs_kernel_flags").value = kernel_flags
    hook = Hook(library)
    assert hook.may_answer_enosys(directory=False) is files
    assert hook.may_answer_enosys(directory=True) is directories


def test_a_library_that_is_missing_or_not_ours_is_no_hook(tmp_path: Path) -> None:
    assert load(tmp_path / "_zero_open.so") is None
    (tmp_path / "broken.so").write_bytes(b"not a library")
    assert load(tmp_path / "broken.so") is None
    assert load(Path("libm.so.6")) is None


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load() is not None
    monkeypatch.setattr("gridfs.zero_open.VERSION", VERSION + 1)
    assert load() is None
    assert fast_reads.load() is None
    assert opener(Path("/")) is None
