"""The few Linux system calls that Python 3.11 does not offer: mount, umount2, unshare, pivot_root, prctl, capset.

Thin and typed: every failure is an OSError with the errno and the path. ctypes releases the GIL around each call, so a
mount whose superblock is served by this very process may be made from a worker thread. Light: see gridfs/light.py.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CAP_SYS_ADMIN = 21

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}


class MountFlag:
    """Flags of mount(2) (linux/mount.h)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    BIND = 4096
    MOVE = 8192
    REC = 16384
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


class UmountFlag:
    """Flags of umount2(2)."""

    DETACH = 2
    NOFOLLOW = 8


def _path(path: str | bytes | os.PathLike[str]) -> bytes:
    return os.fsencode(path)


def _checked(call: Callable[[], int], *paths: bytes) -> None:
    if call() != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *(os.fsdecode(p) for p in paths[:1]))


def mount(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2). Raises OSError that names *target*."""
    raw_source, raw_target = _path(source), _path(target)
    raw_type = fstype.encode() if fstype is not None else None
    raw_data = os.fsencode(data) if data is not None else None
    _checked(
        lambda: _libc.mount(raw_source, raw_target, raw_type, ctypes.c_ulong(flags), raw_data),
        raw_target,
    )


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """umount2(2). Raises OSError (EBUSY, EINVAL: no mountpoint) that names *target*."""
    raw = _path(target)
    _checked(lambda: _libc.umount2(raw, flags), raw)


def unshare(flags: int) -> None:
    """unshare(2). With CLONE_NEWUSER the process must have a single thread."""
    _checked(lambda: _libc.unshare(flags))


def pivot_root(new_root: str | os.PathLike[str], put_old: str | os.PathLike[str]) -> None:
    """pivot_root(2), which the C library does not wrap."""
    new, old = _path(new_root), _path(put_old)
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"pivot_root's number is not known for {os.uname().machine}", os.fsdecode(new))
    _checked(lambda: _libc.syscall(number, new, old), new)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def has_capability(capability: int) -> bool:
    """Whether this process holds *capability* over its own user namespace."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def may_mount() -> bool:
    """Whether this process may call mount(2): root, or CAP_SYS_ADMIN in a run's user namespace."""
    return has_capability(CAP_SYS_ADMIN)


def keep_only_capability_across_exec(capability: int) -> None:
    """Makes *capability* the only one that this process has, and one that survives exec (ambient).

    For use after unshare(CLONE_NEWUSER), where the process holds all capabilities over its new namespace but would
    lose them at exec, its uid not being 0 there (capabilities(7)).
    """
    header = _CapabilityHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    word, bit = divmod(capability, 32)
    data[word] = _CapabilityData(1 << bit, 1 << bit, 1 << bit)
    _checked(lambda: _libc.capset(ctypes.byref(header), data))
    zero = ctypes.c_ulong(0)
    _checked(lambda: _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, ctypes.c_ulong(capability), zero, zero))
