"""Sources of tests: a folder with every oddity, and sources that misbehave on command."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from gridfs.create.source import Found, ListedSource, Listing, Outcome, Reading, Wanted
from tests.support.data import ramp

LEVELS = 60


def make_oddities(root: Path) -> dict[str, list[bytes]]:
    """Makes a folder of everything odd but the sparse file; what must be reported of it, by reason. Needs root."""
    root.mkdir()
    (root / "empty directory").mkdir()
    (root / "empty file").touch()
    (root / "new\nline").write_bytes(ramp(100))
    (root / "spaces  in it ").write_bytes(ramp(200))
    with open(os.path.join(os.fsencode(root), b"no utf-8 \xff\xfe"), "wb") as file:
        file.write(ramp(300))
    (root / ("n" * 255)).write_bytes(ramp(400))
    deep = root
    for level in range(LEVELS):
        deep /= f"level {level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(ramp(500))
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o4751)
    (root / "a").mkdir()
    (root / "a" / "b").write_bytes(ramp(600))
    (root / "a-b").write_bytes(ramp(700))  # '-' sorts before '/'
    (root / "relative link").symlink_to("a/b")
    (root / "absolute link").symlink_to("/etc/passwd")
    (root / "dangling link").symlink_to("nowhere")
    (root / "outside link").symlink_to("../../..")
    os.symlink(b"target \xff", os.path.join(os.fsencode(root), b"odd target"))
    os.link(root / "a" / "b", root / "hard link")
    os.mkfifo(root / "pipe")
    os.mknod(root / "device", 0o600 | 0o020000, os.makedev(1, 3))
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    listener.bind(f"/proc/self/fd/{here}/socket")  # an address holds 107 bytes
    listener.close()
    os.close(here)
    os.setxattr(root / "program", b"user.colour \xff", b"blue")
    (root / "guarded").write_bytes(ramp(800))
    acl = "02000000 01000600ffffffff 0200040001000000 04000400ffffffff 10000400ffffffff 20000400ffffffff"
    os.setxattr(root / "guarded", "system.posix_acl_access", bytes.fromhex(acl))
    for number, path in enumerate(sorted(root.rglob("*"))):
        moment = 1_500_000_000_123_456_789 + number * 1_000_000_007
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    return {
        "fifo": [b"pipe"],
        "device": [b"device"],
        "socket": [b"socket"],
        "xattr": [b"program"],
        "acl": [b"guarded"],
    }


class Tampered:
    """A ListedSource that lets a test act just before a file's bytes are read."""

    def __init__(self, source: ListedSource, before: Callable[[Found], Outcome | None]) -> None:
        self._source = source
        self._before = before
        self.read_paths: list[bytes] = []
        """Every file that was asked for, as often as it was."""

    @property
    def label(self) -> str:
        return self._source.label

    async def scan(self, listing: Listing) -> None:
        await self._source.scan(listing)

    async def read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        forced: dict[int, Outcome] = {}
        for index, each in enumerate(wanted):
            self.read_paths.append(each.file.path)
            outcome = self._before(each.file)
            if outcome is not None:
                forced[index] = outcome
        readings = await self._source.read(wanted)
        return [Reading(forced[i], "on command") if i in forced else reading for i, reading in enumerate(readings)]

    async def look_again(self, file: Found) -> Found | None:
        return await self._source.look_again(file)
