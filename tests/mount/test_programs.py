"""Ordinary programs can't tell a mount from a local file system. Each in every mode of mounting."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.mount.stage import MODES, Stage, is_image
from tests.mount.trees import assert_same
from tests.support.data import ramp

LARGE_BYTES = 20_000_003


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("programs") / "source"
    root.mkdir()
    (root / "large").write_bytes(ramp(LARGE_BYTES))
    shutil.copy2(sys.executable if not Path(sys.executable).is_symlink() else "/bin/ls", root / "program")
    shutil.copy2("/bin/ls", root / "ls")
    (root / "script").write_text("#!/bin/sh\necho from the mount\n")
    (root / "script").chmod(0o755)
    (root / "lines").write_text("".join(f"line {number}\n" for number in range(10_000)))
    work = root.parent / "work"
    git(root.parent, "init", "-q", "-b", "main", str(work))
    (work / "readme").write_text("hello\n")
    git(work, "add", "readme")
    git(work, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "first")
    git(root.parent, "clone", "-q", "--bare", str(work), str(root / "repository.git"))
    with sqlite3.connect(root / "table.sqlite") as database:
        database.execute("CREATE TABLE numbers(n)")
        database.executemany("INSERT INTO numbers VALUES (?)", ((n,) for n in range(50_000)))
    database.close()
    (root / "below").mkdir()
    for number in range(300):
        (root / "below" / f"file {number}").write_bytes(ramp(1000 + number, number))
    return root


@pytest.fixture(scope="module", params=list(MODES))
def mount(
    request: pytest.FixtureRequest, module_stage: Stage, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    version = module_stage.create(source, "programs").version
    return module_stage.mount(version, tmp_path_factory.mktemp("mount"), MODES[request.param])


def git(directory: Path, *arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    clean |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    return subprocess.run(
        ["git", *arguments], cwd=directory, check=True, capture_output=True, text=True, env=clean
    ).stdout


def output_of(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_same_as_the_source(source: Path, mount: Path) -> None:
    assert_same(source, mount)


def test_execute_a_binary_and_a_script(mount: Path) -> None:
    assert b"script" in output_of(mount / "ls", mount)
    assert output_of(mount / "script") == b"from the mount\n"


def test_map_a_file(mount: Path) -> None:
    with open(mount / "large", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == ramp(LARGE_BYTES)


def test_git_on_a_bare_repository(mount: Path) -> None:
    repository = mount / "repository.git"
    assert git(repository, "-c", "safe.directory=*", "log", "--format=%s") == "first\n"
    assert git(repository, "-c", "safe.directory=*", "show", "main:readme") == "hello\n"
    git(repository, "-c", "safe.directory=*", "fsck", "--full")


def test_sqlite_immutable(mount: Path) -> None:
    database = sqlite3.connect(f"file:{mount}/table.sqlite?immutable=1", uri=True)
    try:
        assert database.execute("SELECT count(*), sum(n) FROM numbers").fetchone() == (50_000, 1_249_975_000)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        database.close()


def test_tar(source: Path, mount: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "--one-file-system", "-cf", tmp_path / "all.tar", "-C", mount, "."], check=True)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "all.tar", "-C", unpacked], check=True)
    subprocess.run(["diff", "-r", source, unpacked], check=True)


def test_rsync_finds_nothing_to_do(source: Path, mount: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["rsync", "-rltx", "--checksum", f"{mount}/", copy], check=True)
    subprocess.run(["diff", "-r", source, copy], check=True)
    said = output_of("rsync", "-rltx", "--checksum", "--itemize-changes", "--dry-run", f"{mount}/", f"{source}/")
    assert said == b""


def test_find_du_df(source: Path, mount: Path) -> None:
    def files(root: Path) -> list[bytes]:
        found = output_of("find", root, "-xdev", "-not", "-type", "d", "-printf", "%P %y %s %l\\n")
        return sorted(found.splitlines())

    assert files(mount) == files(source)
    apparent = int(output_of("du", "-sbx", "--apparent-size", mount).split()[0])
    files_bytes = sum(path.lstat().st_size for path in source.rglob("*") if path.is_file())
    directories = [mount, *(path for path in mount.rglob("*") if path.is_dir() and not path.is_symlink())]
    directory_bytes = sum(path.stat().st_size for path in directories)
    assert apparent == files_bytes + directory_bytes
    assert (directory_bytes > 0) == is_image(mount)
    used_kib = int(output_of("df", "--output=used", mount).split()[1])
    assert used_kib * 1024 >= files_bytes > (used_kib - 8) * 1024
    volume = os.statvfs(mount)
    assert (volume.f_bfree, volume.f_namemax) == (0, 255)
    assert (volume.f_files - volume.f_ffree) == 1 + len(list(source.rglob("*")))


def test_ls_shows_dot_and_dot_dot(mount: Path) -> None:
    lines = output_of("ls", "-la", mount / "below").decode().splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == [".", ".."]
    assert len(lines) == 1 + 2 + 300
    inodes = dict(line.split(None, 1)[::-1] for line in output_of("ls", "-aif", mount / "below").decode().splitlines())
    assert int(inodes["."]) == os.stat(mount / "below").st_ino


def test_forked_readers_share_a_descriptor(mount: Path) -> None:
    code = (
        "import os, sys, hashlib\n"
        "f = os.open(sys.argv[1], os.O_RDONLY)\n"
        "pids = []\n"
        "for child in range(4):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        period = bytes(range(251)) * 1100\n"
        "        for turn in range(100):\n"
        "            start = (turn * 4 + child) * 49999\n"
        "            data = os.pread(f, 70000, start)\n"
        "            assert len(data) == min(70000, max(0, 20000003 - start))\n"
        "            assert data == period[start % 251:][:len(data)]\n"
        "        os._exit(0)\n"
        "    pids.append(pid)\n"
        "assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)\n"
        "parts = []\n"
        "while data := os.read(f, 100000): parts.append(data)\n"
        "print(hashlib.sha256(b''.join(parts)).hexdigest())\n"
    )
    said = output_of(sys.executable, "-c", code, mount / "large").decode().strip()
    assert said == hashlib.sha256(ramp(LARGE_BYTES)).hexdigest()


def test_direct_reads(mount: Path) -> None:
    """O_DIRECT goes past the page cache; unaligned ends come as they are."""
    descriptor = os.open(mount / "large", os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 1 << 20)
        for start in (0, 4096, 1 << 20, 19 << 20):
            count = os.preadv(descriptor, [buffer], start)
            assert buffer[:count] == ramp(min(1 << 20, LARGE_BYTES - start), start)
        assert os.preadv(descriptor, [buffer], 20_000_768) == 0
        buffer.close()
    finally:
        os.close(descriptor)


def test_stat_does_not_wait_for_page_faults(mount: Path) -> None:
    """Invariant 9, with MADV_RANDOM so that every page is a request of its own."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                for number in range(300):
                    assert os.stat(mount / "below" / f"file {number}").st_size == 1000 + number
        except BaseException as error:
            failed.append(error)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        with open(mount / "large", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            mapped.madvise(mmap.MADV_RANDOM)
            total = sum(mapped[page] for page in range(0, LARGE_BYTES, mmap.PAGESIZE))
        assert total == sum(page % 251 for page in range(0, LARGE_BYTES, mmap.PAGESIZE))
    finally:
        stop.set()
        looker.join()
    assert not failed


def test_every_kind_of_write_is_refused(mount: Path) -> None:
    existing, new = mount / "lines", mount / "new"
    attempts = [
        lambda: os.open(existing, os.O_WRONLY),
        lambda: os.open(existing, os.O_RDWR),
        lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
        lambda: os.truncate(existing, 0),
        lambda: os.unlink(existing),
        lambda: os.rename(existing, new),
        lambda: os.link(existing, new),
        lambda: os.symlink("x", new),
        lambda: os.mkdir(new),
        lambda: os.rmdir(mount / "below"),
        lambda: os.mkfifo(new),
        lambda: os.chmod(existing, 0o777),
        lambda: os.chown(existing, 1, 1),
        lambda: os.utime(existing),
        lambda: os.setxattr(existing, "user.x", b"x"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    assert existing.read_text().startswith("line 0\n")


@pytest.mark.parametrize(("length", "expected"), [(255, errno.ENOENT), (256, errno.ENAMETOOLONG)])
def test_a_name_of_256_bytes_is_too_long(mount: Path, length: int, expected: int) -> None:
    """As on any disk, and not just absent: who makes up names cuts them by this."""
    with pytest.raises(OSError) as caught:
        os.stat(mount / ("x" * length))
    assert caught.value.errno == expected


def test_there_are_no_extended_attributes(mount: Path) -> None:
    with pytest.raises(OSError) as caught:
        os.getxattr(mount / "lines", "user.comment")
    assert caught.value.errno in (errno.ENOTSUP, errno.ENODATA)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.listxattr(os.fsencode(mount / "lines"), None, 0) <= 0
