"""Trees to mount, what is in them, and whether two of them are the same in everything that a mount promises."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.data import ramp

SPARSE_SIZE_BYTES = 4 << 30
"""More than 32 bits of offset; a file of this size is compared at its ends and in the middle."""


class Facts(NamedTuple):
    """What a mount promises of one entry."""

    kind: int
    mode: int
    size: int
    mtime_ns: int
    nlink: int
    target: bytes | None
    content: str | None


def facts_of(root: Path, *, as_mounted: bool) -> dict[bytes, Facts]:
    """Every entry below *root* by its path, the root's own empty; *as_mounted*: as a mount of it shall show it.

    Sockets, FIFOs and devices of a source are no part of that.
    """
    found = {}
    for path in _walk(os.fsencode(root)):
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if as_mounted and kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            continue
        mode, nlink, size = stat.S_IMODE(status.st_mode), status.st_nlink, status.st_size
        if as_mounted:
            nlink = 1
            mode = 0o555 if kind == stat.S_IFDIR else 0o777 if kind == stat.S_IFLNK else 0o444 | _executable(mode)
        if kind == stat.S_IFDIR:
            size = 0
        found[path[len(os.fsencode(root)) :]] = Facts(
            kind,
            mode,
            size,
            status.st_mtime_ns,
            nlink,
            os.readlink(path) if kind == stat.S_IFLNK else None,
            _digest(path) if kind == stat.S_IFREG else None,
        )
    return found


def assert_same(source: Path, mount: Path) -> int:
    """Compares a mount with its source; how many entries there are."""
    wanted, shown = facts_of(source, as_mounted=True), facts_of(mount, as_mounted=False)
    assert sorted(shown) == sorted(wanted)
    different = {path: (wanted[path], shown[path]) for path in wanted if wanted[path] != shown[path]}
    assert not different, list(different.items())[:5]
    return len(wanted)


def _executable(mode: int) -> int:
    return 0o111 if mode & stat.S_IXUSR else 0


def _walk(root: bytes) -> Iterator[bytes]:
    yield root
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry.path


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == SPARSE_SIZE_BYTES:  # its ends: all of it takes a minute to hash
            ends = file.read(1 << 20)
            file.seek(SPARSE_SIZE_BYTES // 2 - 7)
            ends += file.read(1 << 20)
            file.seek(-(1 << 20), os.SEEK_END)
            return hashlib.sha256(ends + file.read()).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_sparse(path: Path) -> None:
    """A file of SPARSE_SIZE_BYTES with a few bytes in its middle and at its end."""
    with open(path, "wb") as file:
        file.truncate(SPARSE_SIZE_BYTES)
        file.seek(SPARSE_SIZE_BYTES // 2 - 3)
        file.write(ramp(10))
        file.seek(SPARSE_SIZE_BYTES - 4)
        file.write(b"end\n")


def make_oddities(root: Path) -> None:
    """Everything that a tree can have in it and that is easily got wrong."""
    root.mkdir()
    (root / "empty directory").mkdir()
    (root / "empty file").touch()
    for size in (1, 4095, 4096, 4097, 131071, 131072, 131073, 1 << 20):
        (root / f"ramp-{size}").write_bytes(ramp(size, size))
    (root / "large").write_bytes(ramp(20_000_003))
    names = os.fsencode(root / "names")
    os.mkdir(names)
    odd = (b"two words", b"new\nline", b"\xff\xfe not utf-8", b"n" * 255, b"-rf", b"a", b"a-b", b"a.b", b"*", b"tab\t")
    for name in odd:
        with open(names + b"/" + name, "wb") as file:
            file.write(name)
    os.mkdir(names + b"/\xe9t\xe9")
    deep = root / "deep"
    for level in range(60):
        deep = deep / f"level {level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("sixty levels down\n")
    links = root / "links"
    links.mkdir()
    (links / "relative").symlink_to("../ramp-4096")
    (links / "absolute").symlink_to("/etc/hostname")
    (links / "dangling").symlink_to("nowhere/at all")
    (links / "to a directory").symlink_to("../names")
    (links / "long").symlink_to("x" * 4000)
    (root / "one").write_bytes(ramp(5000))
    os.link(root / "one", root / "the same")
    script = root / "script"
    script.write_text("#!/bin/sh\necho from the mount\n")
    script.chmod(0o750)
    special = root / "special"
    special.mkdir()
    os.mkfifo(special / "fifo")
    os.mknod(special / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(special / "socket"))
    os.setxattr(root / "one", "user.comment", b"lost")
    long_ago_ns, far_ns = -1_500_000_001, 2**33 * 10**9 + 999_999_999
    for path, moment_ns in ((root / "one", 1), (root / "empty file", long_ago_ns), (special, far_ns)):
        os.utime(path, ns=(moment_ns, moment_ns))
    (root / "setuid").write_text("no longer\n")
    (root / "setuid").chmod(0o4755)
