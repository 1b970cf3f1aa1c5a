"""The central directory of a zip: what the archive holds, in bounded memory.

    entry data | ... | central directory | (zip64 end, locator) | end of central directory | comment

It is found from the end, copied to a spool file, and indexed by 16 bytes an entry, so that an archive of a million
files takes 40 MiB and not the gigabyte of as many objects; the entries then come in the order of their data. What the
format allows and hardly anybody writes is refused: archives in several files.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import IO, NamedTuple

from gridfs.create.archive_rules import Account, damaged
from gridfs.errors import SourceProblem

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s4B4HL2L5H2L")
_END_MAGIC, _END64_MAGIC, _LOCATOR_MAGIC, _RECORD_MAGIC = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2"
_LONGEST_COMMENT = (1 << 16) - 1
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_HERE16, _HERE32 = 0xFFFF, 0xFFFFFFFF
"""Where a field says this, its value is in a zip64 record."""
_COPY_SIZE_BYTES = 1 << 20
_UTF8 = 0x800


class ZipEntry(NamedTuple):
    """One record of the directory."""

    raw_name: bytes
    made_on: int
    """System whose attributes it has: 3 is Unix."""
    flags: int
    method: int
    dos_time: int
    dos_date: int
    crc32: int
    compressed_bytes: int
    size_bytes: int
    external_attributes: int
    offset: int
    """Of its local header in the file."""
    extra: bytes

    @property
    def name(self) -> bytes:
        """As UTF-8, by the flag, by Info-ZIP's extra field, or by trying: Unix tools write UTF-8 and don't say so."""
        if self.flags & _UTF8:
            return self.raw_name
        for kind, content in extra_fields(self.extra):
            is_name = kind == _UNICODE_PATH and len(content) > 5 and content[0] == 1
            if is_name and int.from_bytes(content[1:5], "little") == zlib.crc32(self.raw_name):
                return content[5:]
        try:
            self.raw_name.decode("utf-8")
        except UnicodeDecodeError:
            return self.raw_name.decode("cp437").encode("utf-8")
        return self.raw_name

    @property
    def shown(self) -> str:
        return repr(self.name.decode("utf-8", "backslashreplace"))


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each extra field; what is cut off is left out."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if 4 + length > len(extra):
            return
        yield kind, extra[4 : 4 + length]
        extra = extra[4 + length :]


def read_directory(file: IO[bytes], spool: IO[bytes], account: Account) -> Iterator[ZipEntry]:
    """The entries of the zip *file* in the order of their data. Raises SourceProblem when it is damaged.

    *spool*: an empty file on disk, for the directory. *file* may be read elsewhere between two entries.
    """
    start, size, count, shift = _find(file, account)
    offsets, positions = _index(file, spool, start, size, shift, account)
    if len(offsets) != count and len(offsets) & _HERE16 != count:  # before zip64 writers let the number overflow
        raise damaged(account.archive, f"its directory has {len(offsets)} entries and not {count}")
    end, before = 0, "the beginning"
    for index in sorted(range(len(offsets)), key=offsets.__getitem__):
        entry = _entry(spool, positions[index], shift)
        if entry.offset < end:
            raise damaged(account.archive, f"{entry.shown} overlaps {before}")
        end, before = entry.offset + 30 + len(entry.raw_name) + entry.compressed_bytes, entry.shown
        if end > start:
            raise damaged(account.archive, f"{entry.shown} overlaps the central directory")
        yield entry


def _find(file: IO[bytes], account: Account) -> tuple[int, int, int, int]:
    """Where the directory begins, its size, its entries, and by how much everything is shifted.

    What somebody put before the archive (a program that unpacks itself) moves all offsets.
    """
    length = file.seek(0, os.SEEK_END)
    tail_start = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(tail_start)
    tail = _exactly(file, length - tail_start, account)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise damaged(account.archive, "it has no central directory: it is cut off, or no zip")
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    if disk not in (0, _HERE16) or first_disk not in (0, _HERE16):
        raise SourceProblem(f"{account.archive} is one of several files", remedy="join them, or give the folder")
    if count == _HERE16 or _HERE32 in (size, offset):
        locator_at = end - _LOCATOR.size
        file.seek(max(0, locator_at))
        magic, _, end64, _ = _LOCATOR.unpack(_exactly(file, _LOCATOR.size, account))
        if magic == _LOCATOR_MAGIC:
            end = locator_at - _END64.size  # where it lies whatever was put before the archive
            file.seek(max(0, end))
            record = _END64.unpack(_exactly(file, _END64.size, account))
            if record[0] != _END64_MAGIC:
                end = end64
                file.seek(end)
                record = _END64.unpack(_exactly(file, _END64.size, account))
            if record[0] != _END64_MAGIC:
                raise damaged(account.archive, "its zip64 end record is missing")
            count, size, offset = record[7], record[8], record[9]
    shift = end - size - offset
    if shift < 0:
        raise damaged(account.archive, "its central directory does not lie where it should")
    return end - size, size, count, shift


def _index(
    file: IO[bytes], spool: IO[bytes], start: int, size: int, shift: int, account: Account
) -> tuple[array[int], array[int]]:
    """Copies the directory, and says of each entry where its data and where its record lies."""
    offsets, positions = array("Q"), array("Q")
    file.seek(start)
    pending, position, left = b"", 0, size
    while left or pending:
        data = _exactly(file, min(_COPY_SIZE_BYTES, left), account)
        left -= len(data)
        spool.write(data)
        pending += data
        consumed = 0
        while (length := _record_length(pending, consumed, account)) is not None:
            offsets.append(_parse(pending[consumed : consumed + length], shift).offset)
            positions.append(position + consumed)
            consumed += length
        if not consumed and not left:
            raise damaged(account.archive, "its central directory is cut off")
        pending, position = pending[consumed:], position + consumed
    spool.flush()
    return offsets, positions


def _record_length(data: bytes, at: int, account: Account) -> int | None:
    """Length of the record at *at*; None if not all of it is there yet."""
    if len(data) - at < _RECORD.size:
        return None
    if data[at : at + 4] != _RECORD_MAGIC:
        raise damaged(account.archive, "its central directory has something else than entries in it")
    name, extra, comment = struct.unpack_from("<3H", data, at + 28)
    length: int = _RECORD.size + name + extra + comment
    return length if at + length <= len(data) else None


def _entry(spool: IO[bytes], position: int, shift: int) -> ZipEntry:
    header = os.pread(spool.fileno(), _RECORD.size, position)
    name, extra, comment = struct.unpack_from("<3H", header, 28)
    return _parse(os.pread(spool.fileno(), _RECORD.size + name + extra + comment, position), shift)


def _parse(record: bytes, shift: int) -> ZipEntry:
    fields = _RECORD.unpack_from(record)
    made_on = fields[2]
    flags, method, time, date, crc32, compressed, size, name, extra_length = fields[5:14]
    attributes, offset = fields[17:19]
    raw_name = record[_RECORD.size : _RECORD.size + name]
    extra = record[_RECORD.size + name : _RECORD.size + name + extra_length]
    if _HERE32 in (size, compressed, offset):
        values = next((content for kind, content in extra_fields(extra) if kind == _ZIP64), b"")
        wide = iter(struct.unpack(f"<{len(values) // 8}Q", values[: len(values) // 8 * 8]))
        size = next(wide, size) if size == _HERE32 else size
        compressed = next(wide, compressed) if compressed == _HERE32 else compressed
        offset = next(wide, offset) if offset == _HERE32 else offset
    return ZipEntry(
        raw_name, made_on, flags, method, time, date, crc32, compressed, size, attributes, offset + shift, extra
    )


def _exactly(file: IO[bytes], size: int, account: Account) -> bytes:
    pieces, left = [], size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise damaged(account.archive, "it is cut off")
    return b"".join(pieces)
