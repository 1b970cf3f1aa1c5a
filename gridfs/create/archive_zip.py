"""Walks a zip archive by its central directory, in the order in which the data lies.

The central directory alone says what the archive holds: two readers that trust different headers see two archives, and
that is an attack in use. A local header whose name differs, entries that overlap, a wrong length or CRC end the
creation. Reading in the order of the data makes one long range of an HTTP server's answer.
"""

from __future__ import annotations

import calendar
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import IO

from gridfs.create.archive_rules import (
    FREE_BYTES,
    MAX_PATH_BYTES,
    MAX_RATIO,
    MODE_MASK,
    Account,
    damaged,
    entry_path,
    link_stays_inside,
)
from gridfs.create.source import Arrivals, Found
from gridfs.errors import SourceProblem
from gridfs.model import Kind, Problem

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
"""A zip with entries, and one without."""

_ENCRYPTED, _UTF8 = 0x1, 0x800
_MADE_ON_UNIX, _MADE_ON_DOS = 3, 0
_LOCAL_HEADER_BYTES = 30
_EXTENDED_TIMESTAMP = 0x5455
_NAMES_OF_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_SKIPPED = {stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


def stream_zip(file: IO[bytes], arrivals: Arrivals, account: Account) -> None:
    """Hands over everything in the zip *file*, which can seek. Raises SourceProblem."""
    try:
        with zipfile.ZipFile(file) as archive:
            for info in _in_order(archive, account):
                account.add_entry()
                _hand_over(archive, info, arrivals, account)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError, OSError) as error:
        raise damaged(account.archive, error) from error
    except NotImplementedError as error:
        raise SourceProblem(f"{account.archive}: {error}", remedy="unpack it yourself and give the folder") from error


def _in_order(archive: zipfile.ZipFile, account: Account) -> list[zipfile.ZipInfo]:
    """What the central directory names, by the place of its data; of a name that it names twice the last."""
    last = {info.orig_filename: info for info in archive.infolist()}
    entries = sorted(last.values(), key=lambda info: info.header_offset)
    for info, following in pairwise(entries):
        # The length of the name in the local header is the directory's: zipfile compares the names when it opens one.
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(_raw_name(info)) + info.compress_size
        if end > following.header_offset:
            raise damaged(account.archive, f"{info.filename!r} overlaps {following.filename!r}")
    return entries


def _hand_over(archive: zipfile.ZipFile, info: zipfile.ZipInfo, arrivals: Arrivals, account: Account) -> None:
    path = entry_path(_name(info), account.archive)
    mode, kind = _mode_of(info)
    mtime_ns = _mtime_ns(info)
    if kind == stat.S_IFDIR:
        arrivals.entry(Found(path, Kind.DIRECTORY, mode, 0, mtime_ns))
        return
    if not path:
        raise damaged(account.archive, f"an entry that is no directory has the name {info.filename!r}")
    if reason := _SKIPPED.get(kind):
        arrivals.add_problem(Problem(reason, path))
        return
    if info.flag_bits & _ENCRYPTED:
        raise SourceProblem(
            f"{account.archive} is encrypted ({info.filename!r})", remedy="unpack it yourself and give the folder"
        )
    if info.compress_type in _NAMES_OF_METHODS or info.compress_type not in (0, 8, 12, 14):
        method = _NAMES_OF_METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise SourceProblem(
            f"{account.archive}: {info.filename!r} is compressed by {method}, which is not supported",
            remedy="unpack it yourself and give the folder",
        )
    with archive.open(info) as content:
        reader = _Content(content, info, account)
        if kind == stat.S_IFLNK:
            _link(path, mtime_ns, reader, arrivals)
        else:
            arrivals.file(Found(path, Kind.FILE, mode, info.file_size, mtime_ns), reader)


def _link(path: bytes, mtime_ns: int, content: _Content, arrivals: Arrivals) -> None:
    buffer = memoryview(bytearray(MAX_PATH_BYTES + 1))
    length = 0
    while length < len(buffer) and (count := content(buffer[length:])):
        length += count
    target = bytes(buffer[:length])
    if link_stays_inside(path, target):
        arrivals.entry(Found(path, Kind.SYMLINK, 0o777, len(target), mtime_ns, target))
    else:
        arrivals.add_problem(Problem("link-outside", path, target.decode("utf-8", "backslashreplace")))


class _Content:
    """The bytes of one entry: as many as the central directory says, and with its CRC, or an error."""

    def __init__(self, content: IO[bytes], info: zipfile.ZipInfo, account: Account) -> None:
        self._content = content
        self._info = info
        self._account = account
        self._count = 0

    def __call__(self, view: memoryview, /) -> int:
        data = self._content.read(min(len(view), 256 << 10))
        self._count += len(data)
        view[: len(data)] = data
        if self._count > max(FREE_BYTES, MAX_RATIO * self._info.compress_size):
            raise SourceProblem(
                f"{self._account.archive}: {self._info.filename!r} unpacks to more than {MAX_RATIO} times its size: it "
                "looks like a decompression bomb",
                remedy="if it is none, unpack it yourself and give the folder",
            )
        if not data and self._count != self._info.file_size:
            raise damaged(self._account.archive, f"{self._info.filename!r} has {self._count} bytes and not "
                                                 f"{self._info.file_size}")  # fmt: skip
        return len(data)


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437", "surrogateescape")


def _name(info: zipfile.ZipInfo) -> bytes:
    """The name as UTF-8. Without the flag that says so it is tried, because Unix tools write UTF-8 unflagged."""
    raw = _raw_name(info)
    if info.create_system == _MADE_ON_DOS:
        raw = raw.replace(b"\\", b"/")
    if info.flag_bits & _UTF8:
        return raw
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437").encode("utf-8")
    return raw


def _mode_of(info: zipfile.ZipInfo) -> tuple[int, int]:
    """Permission bits and kind."""
    mode = info.external_attr >> 16 if info.create_system == _MADE_ON_UNIX else 0
    kind = stat.S_IFMT(mode)
    if _raw_name(info).endswith((b"/", b"\\") if info.create_system == _MADE_ON_DOS else b"/"):
        kind = stat.S_IFDIR
    elif kind == stat.S_IFDIR or kind == 0:
        kind = stat.S_IFREG
    default = 0o755 if kind == stat.S_IFDIR else 0o644
    return (mode & MODE_MASK) or default, kind


def _mtime_ns(info: zipfile.ZipInfo) -> int:
    """By the extended timestamp, which is UTC; else by the directory's own, a local time of no known zone, as UTC."""
    for kind, content in _extra_fields(info.extra):
        if kind == _EXTENDED_TIMESTAMP and len(content) >= 5 and content[0] & 1:
            return int(struct.unpack_from("<i", content, 1)[0]) * 1_000_000_000
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0)) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        yield kind, extra[4 : 4 + length]
        extra = extra[4 + length :]
