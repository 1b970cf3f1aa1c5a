"""Runs a command with "/" as the root of a mount namespace of its own: `python3 own_root.py COMMAND...`.

The tests make namespaces. In a plain chroot (debootstrap's, a build daemon's) the kernel forbids that: its "/" is no
mount, and a process that is chrooted may not make a user namespace. As root one can give the same directory a namespace
whose root it is, and that is all that this does; nothing outside of the directory is used or changed, and the namespace
is gone when the command ends. The steps are those of pivot_root(2), "pivot_root(".", ".")".
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155}.get(platform.machine(), 41)  # 41: every architecture with the generic table (arm64, riscv)

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def is_root_of_a_mount(mountpoint: str) -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return any(line.split()[4] == mountpoint for line in lines)


def take_own_root() -> None:
    check(libc.unshare(CLONE_NEWNS), "unshare")
    here = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    check(libc.setns(namespace, CLONE_NEWNS), "setns")  # to where it is already: only "/" becomes the namespace's
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "making mounts private")
    os.fchdir(here)
    path = os.getcwdb()
    check(libc.mount(path, path, None, MS_BIND | MS_REC, None), "bind mount")
    os.chdir(path)
    check(libc.syscall(PIVOT_ROOT, b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")
    for descriptor in (here, namespace):
        os.close(descriptor)


def main() -> None:
    directory = os.getcwd()
    if not is_root_of_a_mount("/"):
        take_own_root()
        os.chdir(directory)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
