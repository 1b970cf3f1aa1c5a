"""The edge to the kernel: errors become errnos, a defect never ends a mount, and ENOSYS only with the hook alive."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gridfs import zero_open
from gridfs.config import MountOptions
from gridfs.model import Version
from gridfs.mount import client
from gridfs.mount.registry import Registry
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp

SIZE_BYTES = 3_000_000
STOPPED_S = 20.0
"""What must not ask the daemon is done in milliseconds; if it does ask, the daemon goes on then and the test fails."""


@pytest.fixture
def version(staged: Stage, tmp_path: Path) -> Version:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"file{number}").write_bytes(ramp(SIZE_BYTES, number))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    return staged.create(source, "edges").version


def objects(staged: Stage) -> list[Path]:
    return [path for path in (staged.paths.data / "store/datastores/edges/objects").rglob("*") if path.is_file()]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile. Fails when what is done in it waited for that process all the same."""
    goes_on = threading.Event()

    def go_on() -> None:
        goes_on.set()
        os.kill(pid, signal.SIGCONT)

    watchdog = threading.Timer(STOPPED_S, go_on)
    os.kill(pid, signal.SIGSTOP)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        watchdog.join()
        os.kill(pid, signal.SIGCONT)
    if goes_on.is_set():
        pytest.fail("the daemon was asked for what the kernel should know (or did someone drop the machine's caches?)")


def test_opens_send_no_message_when_the_hook_is_live(staged: Stage, version: Version, tmp_path: Path) -> None:
    """With the daemon stopped, what the kernel knows can be opened, listed, read and closed all the same."""
    mount = staged.mount(version, tmp_path / "mount")
    before = [(mount / f"file{number}").read_bytes() for number in range(3)]
    names = os.listdir(mount)
    subprocess.run(["ls", "-la", mount], check=True, stdout=subprocess.DEVNULL)
    with stopped(staged.record().pid):
        assert [(mount / f"file{number}").read_bytes() for number in range(3)] == before
        assert os.listdir(mount) == names


def test_absent_names_are_remembered(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    assert not (mount / "none").exists()
    with stopped(staged.record().pid):
        assert not (mount / "none").exists()


def test_without_the_library_opens_are_asked_for(tmp_path: Path) -> None:
    """Invariant 10: no library, no ENOSYS."""
    assert zero_open.load(tmp_path / "none.so") is None
    (tmp_path / "broken.so").write_bytes(b"not a library")
    assert zero_open.load(tmp_path / "broken.so") is None
    assert zero_open.load(Path("libm.so.6")) is None  # a library, but not ours


def test_enosys_needs_a_request_seen_and_a_kernel_that_understands_it() -> None:
    """Invariant 10, in a process of its own: the hook's counters are this process's."""
    code = (
        "import ctypes; from gridfs import zero_open as z; h = z.HOOK\n"
        "assert h is not None and h.requests_seen == 0\n"
        "assert not h.may_answer_enosys(directory=False)\n"
        "library = ctypes.CDLL(str(z.LIBRARY))\n"
        "ctypes.c_ulong.in_dll(library, 'gridfs_requests_seen').value = 1\n"
        "flags = ctypes.c_uint.in_dll(library, 'gridfs_kernel_flags')\n"
        "assert not h.may_answer_enosys(directory=False)\n"
        "flags.value = z.NO_OPEN_SUPPORT\n"
        "assert h.may_answer_enosys(directory=False) and not h.may_answer_enosys(directory=True)\n"
        "flags.value |= z.NO_OPENDIR_SUPPORT\n"
        "assert h.may_answer_enosys(directory=True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.logs_warnings
def test_defect_in_a_handler_is_eio_a_traceback_and_a_count_and_the_mount_goes_on() -> None:
    """And a read without an inode is such a defect: EIO and never the bytes of some other file."""
    code = (
        "import logging, sys, trio; from gridfs.fuse import Operations; import pyfuse3\n"
        "from gridfs.observe import Counters, Incidents\n"
        "from gridfs.vfs import FileSystem, View, Volume; from gridfs.config import MountOptions\n"
        "from gridfs.errors import ReadTimeout\n"
        "class Metadata:\n"
        "    def entry(self, inode): raise ReadTimeout('too late') if inode == 5 else ZeroDivisionError('bug')\n"
        "files = FileSystem(Metadata(), None, View.of(MountOptions(), uid=0, gid=0), Volume(0, 1))\n"
        "counters = Counters(); incidents = Incidents(logging.getLogger('x'))\n"
        "operations = Operations(files, incidents=incidents, counters=counters)\n"
        "async def errno_of(call, *arguments):\n"
        "    try: await call(*arguments)\n"
        "    except pyfuse3.FUSEError as error: return error.errno\n"
        "print(trio.run(errno_of, operations.getattr, 3, None), trio.run(errno_of, operations.getattr, 5, None),\n"
        "      trio.run(errno_of, operations.read, 0, 0, 10), counters['defects'])\n"
        "print([incident.kind for incident in incidents.snapshot()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"{errno.EIO} {errno.ETIMEDOUT} {errno.EIO} 2",
        "['defect', 'ReadTimeout', 'defect']",
    ]
    assert "ZeroDivisionError: bug" in done.stderr


def test_object_that_is_gone_is_eio_and_an_incident(staged: Stage, version: Version, tmp_path: Path, mode: str) -> None:
    """Invariant 3: bytes or an errno."""
    staged.expects_incidents = True
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    for path in objects(staged):
        path.unlink()
    with pytest.raises(OSError) as caught:
        (mount / "file1").read_bytes()
    assert caught.value.errno == errno.EIO
    (status,) = staged.statuses()
    assert [incident["kind"] for incident in status.detail["incidents"]] == ["ObjectMissing"]
    assert (mount / "file1").stat().st_size == SIZE_BYTES


def test_damaged_object_is_eio(staged: Stage, version: Version, tmp_path: Path) -> None:
    """Invariant 4: nothing is handed on unverified."""
    staged.expects_incidents = True
    mount = staged.mount(version, tmp_path / "mount")
    for path in objects(staged):
        path.chmod(0o600)
        with open(path, "r+b") as file:
            file.seek(100_000)
            file.write(b"\xff\x00")
    with pytest.raises(OSError) as caught:
        (mount / "file0").read_bytes()
    assert caught.value.errno == errno.EIO
    assert (mount / "file2").read_bytes()[-1000:] == ramp(1000, 2 + SIZE_BYTES - 1000)


def test_manifest_that_is_changed_below_a_mount_is_eio_and_no_defect(staged: Stage, tmp_path: Path, mode: str) -> None:
    """Invariant 3: one row that can't be right, and no other is believed either."""
    staged.expects_incidents = True
    (tmp_path / "source").mkdir()
    for number in range(3000):  # the daemon has not read all pages of its manifest when it is mounted
        (tmp_path / "source" / f"{number:04d}").write_bytes(ramp(100, number))
    version = staged.create(tmp_path / "source", "changed").version
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    (copy,) = staged.paths.cache.glob("manifests/*.sqlite")
    (tmp_path / "edited").write_bytes(copy.read_bytes())
    database = sqlite3.connect(tmp_path / "edited", isolation_level=None)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("UPDATE entry SET size = x'00' WHERE name = x'32393939'")  # 2999
    database.execute("UPDATE entry SET offset = offset + 1 WHERE name = x'31303030'")  # 1000
    database.close()
    copy.chmod(0o600)
    with open(copy, "r+b") as file:  # the same file: the daemon has it open
        file.write((tmp_path / "edited").read_bytes())
    for name in ("2999", "1000"):
        with pytest.raises(OSError) as caught:
            (mount / name).read_bytes()
        assert caught.value.errno == errno.EIO
    (status,) = staged.statuses()
    assert {incident["kind"] for incident in status.detail["incidents"]} == {"FormatError"}
    assert all("was changed while" in incident["message"] for incident in status.detail["incidents"])
    assert "defects" not in status.detail["counters"]
    staged.unmount(mount)
    staged.mount(version, tmp_path / "mount", MODES[mode])
    assert (mount / "1000").read_bytes() == ramp(100, 1000)


def test_options_decide_owner_and_modes(staged: Stage, version: Version, tmp_path: Path) -> None:
    options = MountOptions(allow_other=True, uid=1234, gid=5678, umask=0o007, file_mode=0o664, dir_mode=0o775)
    mount = staged.mount(version, tmp_path / "mount", options)
    shown = {name: (mount / name).stat() for name in ("file0", "run", ".")}
    assert {name: oct(status.st_mode & 0o7777) for name, status in shown.items()} == {
        "file0": "0o660",
        "run": "0o770",
        ".": "0o770",
    }
    assert {(status.st_uid, status.st_gid) for status in shown.values()} == {(1234, 5678)}


@pytest.mark.parametrize(
    "without", [{}, {"image": False}, {"image": False, "veil": False}], ids=["image", "veil", "bare"]
)
def test_noexec_holds_whatever_shows_the_tree(
    staged: Stage, version: Version, tmp_path: Path, without: dict[str, bool]
) -> None:
    mount = staged.mount(version, tmp_path / "mount", MountOptions(allow_other=True, extra=("noexec",), **without))
    assert os.access(mount / "file0", os.R_OK)
    with pytest.raises(PermissionError):
        subprocess.run([mount / "run"], check=False)


def test_xattr_shows_where_bytes_come_from(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount", MountOptions(allow_other=True, xattr=True))
    names = {"user.gridfs.inode", "user.gridfs.object", "user.gridfs.offset", "user.gridfs.sha256"}
    assert names <= set(os.listxattr(mount / "file0"))
    assert os.getxattr(mount / "file0", "user.gridfs.inode") == str((mount / "file0").stat().st_ino).encode()
    with pytest.raises(OSError) as caught:
        os.getxattr(mount / "file0", "user.other")
    assert caught.value.errno == errno.ENODATA
    assert (mount / "file0").read_bytes() == ramp(SIZE_BYTES)


def test_mount_without_allow_other_has_no_veil(staged: Stage, version: Version, tmp_path: Path) -> None:
    staged.mount(version, tmp_path / "mount", MountOptions())
    assert staged.record().veil.startswith("off: it would let other users in")


def test_registry_sockets_and_logs_are_the_users_alone(staged: Stage, version: Version, tmp_path: Path) -> None:
    staged.mount(version, tmp_path / "mount")
    record = staged.record()
    directory = Registry(staged.paths.runtime).directory_of(record.mount_id)
    modes = {path.name: path.lstat().st_mode & 0o777 for path in directory.iterdir()}
    assert (modes["control"], modes["record.json"], modes["alive"]) == (0o600, 0o600, 0o600)
    for private in (directory, directory.parent, directory.parent.parent):
        assert private.stat().st_mode & 0o077 == 0
    assert record.log_file.stat().st_mode & 0o077 == 0


def test_inodes_are_the_manifests(staged: Stage, version: Version, tmp_path: Path, mode: str) -> None:
    """In an image they follow from them. In a veil from Linux 6.5 on; before, the layer's number is in high bits."""
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    inodes = [os.stat(mount / name).st_ino for name in (".", "file0", "file1", "file2", "run")]
    wanted = [1, 2, 3, 4, 5] if mode != "image" else [3, 6, 9, 12, 15]
    assert [inode & 0xFFFFFFFF for inode in inodes] == wanted


def test_all_times_are_the_modification_time(staged: Stage, version: Version, tmp_path: Path, mode: str) -> None:
    moment_ns = (tmp_path / "source" / "file0").stat().st_mtime_ns
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    for _ in range(2):
        shown = (mount / "file0").stat()
        assert (shown.st_mtime_ns, shown.st_atime_ns, shown.st_ctime_ns) == (moment_ns, moment_ns, moment_ns)
        (mount / "file0").read_bytes()


def test_disk_cache_that_is_turned_off(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    request = staged.request(version, tmp_path / "mount")
    request = dataclasses.replace(request, cache=dataclasses.replace(request.cache, max_size_bytes=0))
    staged.mounted.append(client.mount(request, staged.paths))
    assert (tmp_path / "mount" / "file1").read_bytes() == ramp(SIZE_BYTES, 1)
    assert not (staged.paths.cache / "blocks").exists()
