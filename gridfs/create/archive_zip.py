"""Walks a zip archive by its central directory, in the order in which the data lies.

The central directory alone says what the archive holds (zip_directory.py): two readers that trust different headers
see two archives, and that is an attack in use. A local header that says something else, entries that overlap, a wrong
length or CRC end the creation. Reading in the order of the data makes one long range of an HTTP server's answer. Of a
name that comes twice the last one in that order is kept.

The standard library's zipfile is not used: it holds an object of 700 bytes for each entry, so that a million of them
would break the promise of 300 MiB, and it decompresses without a bound on what one read may give.
"""

from __future__ import annotations

import bz2
import calendar
import lzma
import stat
import struct
import zlib
from collections.abc import Callable
from typing import IO

from gridfs.create.archive_rules import (
    FREE_BYTES,
    MAX_PATH_BYTES,
    MAX_RATIO,
    MODE_MASK,
    Account,
    damaged,
    entry_path,
    link_outside,
    link_stays_inside,
)
from gridfs.create.decompress import Stage, StageError, ZlibStage, ZstdStage, lzma_stage
from gridfs.create.node_disk import is_disk_failure
from gridfs.create.source import Arrivals, Found
from gridfs.create.zip_directory import ZipEntry, extra_fields, read_directory
from gridfs.errors import SourceProblem
from gridfs.model import Kind, Problem

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
"""A zip with entries, and one without."""

_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC = b"PK\3\4"
_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
_MADE_ON_UNIX, _MADE_ON_DOS = 3, 0
_HERE32 = 0xFFFFFFFF
_EXTENDED_TIMESTAMP = 0x5455
_STORED, _LZMA = 0, 14
_STAGES: dict[int, Callable[[], Stage]] = {
    8: lambda: ZlibStage(-15),
    12: bz2.BZ2Decompressor,
    93: ZstdStage,
    95: lambda: lzma_stage(lzma.FORMAT_XZ),
}
_NAMES_OF_METHODS = {9: "Deflate64", 98: "PPMd", 99: "AES encryption"}
_SKIPPED = {stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
_READ_SIZE_BYTES = 256 << 10


def stream_zip(file: IO[bytes], spool: IO[bytes], arrivals: Arrivals, account: Account) -> None:
    """Hands over everything in the zip *file*, which can seek. *spool*: an empty file on disk. Raises SourceProblem."""
    try:
        for entry in read_directory(file, spool, account):
            account.add_entry()
            _hand_over(file, entry, arrivals, account)
    except (struct.error, ValueError, OSError, OverflowError) as error:
        if is_disk_failure(error):  # of the spool
            raise
        raise damaged(account.archive, error) from error


def _hand_over(file: IO[bytes], entry: ZipEntry, arrivals: Arrivals, account: Account) -> None:
    name = entry.name.replace(b"\\", b"/") if entry.made_on == _MADE_ON_DOS else entry.name
    path = entry_path(name, account.archive)
    mode, kind = _mode_of(entry, name)
    mtime_ns = _mtime_ns(entry)
    if kind == stat.S_IFDIR:
        arrivals.entry(Found(path, Kind.DIRECTORY, mode, 0, mtime_ns))
        return
    if not path:
        raise damaged(account.archive, f"an entry that is no directory has the name {entry.shown}")
    if reason := _SKIPPED.get(kind):
        arrivals.add_problem(Problem(reason, path))
        return
    content = _Content(file, entry, account)
    if kind == stat.S_IFLNK:
        _link(path, mtime_ns, content, arrivals)
    else:
        arrivals.file(Found(path, Kind.FILE, mode, entry.size_bytes, mtime_ns), content)


def _link(path: bytes, mtime_ns: int, content: _Content, arrivals: Arrivals) -> None:
    buffer = memoryview(bytearray(MAX_PATH_BYTES + 1))
    length = 0
    while length < len(buffer) and (count := content(buffer[length:])):
        length += count
    target = bytes(buffer[:length])
    if link_stays_inside(path, target):
        arrivals.entry(Found(path, Kind.SYMLINK, 0o777, len(target), mtime_ns, target))
    else:
        arrivals.add_problem(link_outside(path, target))


class _Content:
    """The bytes of one entry: as many as the central directory says, and with its CRC, or an error."""

    def __init__(self, file: IO[bytes], entry: ZipEntry, account: Account) -> None:
        self._file = file
        self._entry = entry
        self._account = account
        self._refuse_what_is_unsupported()
        self._position = self._data_offset()
        self._left = entry.compressed_bytes
        self._stage = self._make_stage()
        self._count = 0
        self._crc32 = 0
        self._is_checked = False

    def __call__(self, view: memoryview, /) -> int:
        entry = self._entry
        data = b"" if self._is_checked else self._next(min(len(view), _READ_SIZE_BYTES))
        if not data:
            self._check()
            return 0
        self._count += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        if self._count > entry.size_bytes:
            raise damaged(self._account.archive, f"{entry.shown} has more than its {entry.size_bytes} bytes")
        if self._count > max(FREE_BYTES, MAX_RATIO * entry.compressed_bytes):
            raise SourceProblem(
                f"{self._account.archive}: {entry.shown} unpacks to more than {MAX_RATIO} times its size: it looks "
                "like a decompression bomb",
                remedy="if it is none, unpack it yourself and give the folder",
            )
        view[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        """The next bytes, none at the end."""
        if self._stage is None:
            return self._compressed(size)
        try:
            while not self._stage.eof:
                data = self._compressed(_READ_SIZE_BYTES) if self._stage.needs_input else b""
                if not data and self._stage.needs_input:
                    if self._entry.method == _LZMA and self._count == self._entry.size_bytes:
                        return b""  # LZMA may leave out its own end
                    raise damaged(self._account.archive, f"{self._entry.shown} is cut off")
                if out := self._stage.decompress(data, size):
                    return out
        except (zlib.error, lzma.LZMAError, StageError, OSError, EOFError) as error:
            if is_disk_failure(error):
                raise
            raise damaged(self._account.archive, f"{self._entry.shown}: {error}") from error
        return b""

    def _compressed(self, size: int) -> bytes:
        wanted = min(size, self._left)
        if not wanted:
            return b""
        self._file.seek(self._position)
        data = self._file.read(wanted)
        self._position += len(data)
        self._left -= len(data)
        return data

    def _check(self) -> None:
        entry = self._entry
        if self._is_checked:
            return
        if self._count != entry.size_bytes:
            raise damaged(self._account.archive, f"{entry.shown} has {self._count} bytes and not {entry.size_bytes}")
        if self._left or (self._stage is not None and self._stage.unused_data):
            raise damaged(self._account.archive, f"{entry.shown} is followed by bytes that belong to nothing")
        if self._crc32 != entry.crc32:
            raise damaged(self._account.archive, f"{entry.shown} has another CRC-32 than it should")
        self._is_checked = True

    def _data_offset(self) -> int:
        """Where the data begins: behind the local header, which has to agree with the directory."""
        entry, archive = self._entry, self._account.archive
        self._file.seek(entry.offset)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != _LOCAL_MAGIC:
            raise damaged(archive, f"{entry.shown} does not lie where the directory says")
        _, _, flags, method, _, _, _, compressed, size, name, extra = _LOCAL.unpack(header)
        if name != len(entry.raw_name) or self._file.read(name) != entry.raw_name:
            raise damaged(archive, f"{entry.shown} has another name in its own header")
        sizes_agree = all(
            here in (there, _HERE32) for here, there in ((compressed, entry.compressed_bytes), (size, entry.size_bytes))
        )
        if method != entry.method or not (flags & _SIZES_FOLLOW or sizes_agree):
            raise damaged(archive, f"{entry.shown} is described otherwise by its own header")
        return entry.offset + _LOCAL.size + int(name) + int(extra)

    def _make_stage(self) -> Stage | None:
        method = self._entry.method
        if method == _STORED:
            return None
        if method != _LZMA:
            return _STAGES[method]()
        header = self._compressed(4)
        properties = self._compressed(int.from_bytes(header[2:4], "little"))
        if len(properties) != 5:
            raise damaged(self._account.archive, f"{self._entry.shown} has no LZMA properties")
        rest, lc = divmod(properties[0], 9)
        pb, lp = divmod(rest, 5)
        dictionary = int.from_bytes(properties[1:], "little")
        chain = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}]
        try:
            return lzma_stage(lzma.FORMAT_RAW, chain)
        except (lzma.LZMAError, ValueError) as error:
            raise damaged(self._account.archive, f"{self._entry.shown}: {error}") from error

    def _refuse_what_is_unsupported(self) -> None:
        entry, archive = self._entry, self._account.archive
        if entry.flags & _ENCRYPTED:
            raise SourceProblem(
                f"{archive} is encrypted ({entry.shown})", remedy="unpack it yourself and give the folder"
            )
        if entry.method not in (_STORED, _LZMA, *_STAGES):
            method = _NAMES_OF_METHODS.get(entry.method, f"method {entry.method}")
            raise SourceProblem(
                f"{archive}: {entry.shown} is compressed by {method}, which is not supported",
                remedy="unpack it yourself and give the folder",
            )


def _mode_of(entry: ZipEntry, name: bytes) -> tuple[int, int]:
    """Permission bits and kind."""
    mode = entry.external_attributes >> 16 if entry.made_on == _MADE_ON_UNIX else 0
    kind = stat.S_IFMT(mode)
    if name.endswith(b"/"):
        kind = stat.S_IFDIR
    elif kind in (stat.S_IFDIR, 0) or (kind == stat.S_IFIFO and entry.size_bytes):
        kind = stat.S_IFREG  # `... | zip - -` calls what came from the pipe a FIFO
    default = 0o755 if kind == stat.S_IFDIR else 0o644
    return (mode & MODE_MASK) or default, kind


def _mtime_ns(entry: ZipEntry) -> int:
    """By the extended timestamp, which is UTC; else by the directory's own, a local time of no known zone, as UTC."""
    for kind, content in extra_fields(entry.extra):
        if kind == _EXTENDED_TIMESTAMP and len(content) >= 5 and content[0] & 1:
            return int(struct.unpack_from("<i", content, 1)[0]) * 1_000_000_000
    date, time = entry.dos_date, entry.dos_time
    moment = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2)
    try:
        return calendar.timegm((*moment, 0, 0, 0)) * 1_000_000_000
    except (ValueError, OverflowError):
        return 0
