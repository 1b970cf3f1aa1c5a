"""A file as a block device: loop(4), for the image, which the kernel reads in larger pieces so than as a file.

EROFS asks a file for 16 pages at a time, which is mostly 64 KiB, and so twice for a small file; a block device for
1 MiB. It also takes O_DIRECT only with a device, and takes files only since Linux 6.12.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_ATTEMPTS = 64
"""Others may take the device that was free a moment ago."""


class _Info(ctypes.Structure):
    """struct loop_info64 (linux/loop.h)."""

    _fields_ = (
        ("device", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("rdevice", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("size_limit", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("encrypt_type", ctypes.c_uint32),
        ("encrypt_key_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("file_name", ctypes.c_char * 64),
        ("crypt_name", ctypes.c_char * 64),
        ("encrypt_key", ctypes.c_char * 32),
        ("init", ctypes.c_uint64 * 2),
    )


class _Config(ctypes.Structure):
    """struct loop_config."""

    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _Info),
        ("reserved", ctypes.c_uint64 * 8),
    )


@contextmanager
def attached(file: str, block_size_bytes: int, *, offset: int = 0, size_bytes: int = 0) -> Iterator[str]:
    """The path of a read-only device that shows *file*, or *size_bytes* of it from *offset*; it goes when nobody has it
    open or mounted any more.

    What is read passes by the page cache of the file's own file system. Raises OSError where there are no loop devices
    or they are not for us, and before Linux 5.8.
    """
    backing = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        info = _Info(offset=offset, size_limit=size_bytes, flags=_READ_ONLY | _AUTOCLEAR | _DIRECT_IO)
        info.file_name = os.fsencode(os.path.basename(file))[:63]
        path, device = _attach(_Config(fd=backing, block_size=block_size_bytes, info=info))
    finally:
        os.close(backing)
    try:
        yield path
    finally:
        os.close(device)


def _attach(config: _Config) -> tuple[str, int]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return path, device
    finally:
        os.close(control)
    raise AssertionError("unreachable")
