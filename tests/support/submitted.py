"""Reads submitted together (io_submit(2)): of those whose blocks are neighbours the block layer makes one request."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence

_SETUP, _DESTROY, _GET_EVENTS, _SUBMIT = 206, 207, 208, 209  # of x86-64
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Control(ctypes.Structure):
    """struct iocb (linux/aio_abi.h)."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint64),
        ("opcode", ctypes.c_uint16),  # 0: PREAD
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _Event(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("control", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


def _call(*arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_together(reads: Sequence[tuple[int, int, int]]) -> list[bytes]:
    """What each of *reads* gives: (descriptor opened with O_DIRECT, offset, size)."""
    areas = [mmap.mmap(-1, size) for _, _, size in reads]
    controls = [
        _Control(
            data=number,
            descriptor=descriptor,
            address=ctypes.addressof(ctypes.c_char.from_buffer(areas[number])),
            size=size,
            offset=offset,
        )
        for number, (descriptor, offset, size) in enumerate(reads)
    ]
    pointers = (ctypes.c_void_p * len(reads))(*map(ctypes.addressof, controls))
    count, events, context = ctypes.c_long(len(reads)), (_Event * len(reads))(), ctypes.c_ulong()
    _call(_SETUP, len(reads), ctypes.byref(context))
    try:
        assert _call(_SUBMIT, context, count, pointers) == len(reads)
        assert _call(_GET_EVENTS, context, count, count, events, None) == len(reads)
    finally:
        _call(_DESTROY, context)
    for event in events:
        if event.result < 0:
            raise OSError(-event.result, os.strerror(-event.result))
    results = {event.data: event.result for event in events}
    return [area[: results[number]] for number, area in enumerate(areas)]
