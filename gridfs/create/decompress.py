"""Streams out of gzip, bzip2, xz and zstd, told by their first bytes; in bounded memory both ways.

Several streams one after another are one (that is what `cat a.gz b.gz` makes, and pigz and zstd with threads write).
Zeros after the last one are padding (tapes); anything else there is left out and reported, as gzip does. Each format's
own checksum is verified by its library; a stream that ends early is an error.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gridfs.create.archive_rules import Account, damaged
from gridfs.errors import SourceProblem

READ_SIZE_BYTES = 256 << 10
_MAX_WINDOW_BYTES = 128 << 20
"""What xz and zstd may ask for: `xz -9` needs 65 MiB, `zstd --long` 128 MiB. More would break our own promise."""

_ZSTD_PIECE_BYTES = 2048

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
MAGIC_LENGTH = 6


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes, none at the end."""
        ...


class Stage(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class StageError(Exception):
    """zstd can't go on."""


class ZlibStage:
    """A zlib.decompressobj with the interface of the other two."""

    def __init__(self, wbits: int) -> None:
        """*wbits* as zlib has them: 31 for gzip, -15 for bare deflate."""
        self._stage = zlib.decompressobj(wbits=wbits)

    @property
    def eof(self) -> bool:
        return self._stage.eof

    @property
    def unused_data(self) -> bytes:
        return self._stage.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._stage.unconsumed_tail and not self._stage.eof

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._stage.decompress(self._stage.unconsumed_tail + data, max_length)


def compression_of(magic: bytes) -> str | None:
    """`gzip`, `bzip2`, `xz` or `zstd` by the first bytes; None for anything else."""
    for name, beginning in (("gzip", GZIP), ("bzip2", BZIP2), ("xz", XZ), ("zstd", ZSTD)):
        if magic.startswith(beginning):
            return name
    if len(magic) >= 4 and magic[1:4] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:
        return "zstd"  # begins with a skippable frame
    return None


def decompressed(source: Readable, compression: str, account: Account) -> Readable:
    """What *source* unpacks to."""
    makers: dict[str, Callable[[], Stage]] = {
        "gzip": lambda: ZlibStage(31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma_stage(lzma.FORMAT_XZ),
        "zstd": ZstdStage,
    }
    return _StagedReader(source, compression, makers[compression], account)


class _StagedReader:
    """Reads stream after stream through a stage of its own each."""

    def __init__(self, source: Readable, compression: str, make: Callable[[], Stage], account: Account) -> None:
        self._source = source
        self._compression = compression
        self._make = make
        self._account = account
        self._stage: Stage | None = make()
        self._input = b""
        self._exhausted = False

    def read(self, size: int, /) -> bytes:
        while self._stage is not None:
            if self._stage.eof:
                self._next_stream()
                continue
            if not self._input and self._stage.needs_input and not self._exhausted:
                self._input = self._source.read(READ_SIZE_BYTES)
                self._exhausted = not self._input
            data, self._input = self._input, b""
            try:
                out = self._stage.decompress(data, size)
            except (zlib.error, lzma.LZMAError, StageError, OSError, EOFError) as error:
                if "emory" in str(error):  # of xz and of zstd
                    raise _too_large_a_window(self._account.archive) from error
                raise damaged(self._account.archive, error) from error
            if out:
                self._account.add_out(len(out))
                return out
            if self._exhausted and self._stage.needs_input:
                raise damaged(self._account.archive, "it ends in the middle of its compressed data")
        return b""

    def _next_stream(self) -> None:
        assert self._stage is not None
        rest = self._stage.unused_data
        while True:
            rest = rest.lstrip(b"\0")
            if len(rest) >= MAGIC_LENGTH:
                break
            more = self._source.read(READ_SIZE_BYTES)
            if not more:
                break
            rest += more
        if not rest:
            self._stage = None
        elif compression_of(rest) == self._compression:
            self._stage, self._input = self._make(), rest
        else:
            self._stage = None
            self._account.has_rest = True
            while self._source.read(READ_SIZE_BYTES):
                pass


class ZstdStage:
    """A zstd decompressor with the interface of the other two.

    It can't bound its output, so it is fed little at a time: four bytes can mean a block of 128 KiB, and 2 KiB so
    become 64 MiB at most.
    """

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._stage = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
        self._input = b""
        self._output = b""

    @property
    def eof(self) -> bool:
        return self._stage.eof and not self._output

    @property
    def unused_data(self) -> bytes:
        return self._stage.unused_data + self._input

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output and not self._stage.eof

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        self._input += data
        while self._input and not self._output and not self._stage.eof:
            piece, self._input = self._input[:_ZSTD_PIECE_BYTES], self._input[_ZSTD_PIECE_BYTES:]
            try:
                self._output = self._stage.decompress(piece)
            except self._error as error:
                raise StageError(str(error)) from error
        out, self._output = self._output[:max_length], self._output[max_length:]
        return out


def lzma_stage(form: int, chain: Sequence[Mapping[str, int]] | None = None) -> Stage:
    """A stage for .xz, or for the bare LZMA (FORMAT_RAW) of a zip with its chain of filters."""
    if form == lzma.FORMAT_RAW:
        if any(each["dict_size"] > _MAX_WINDOW_BYTES for each in chain or ()):
            raise ValueError(f"it needs more than {_MAX_WINDOW_BYTES >> 20} MiB of memory to be unpacked")
        return lzma.LZMADecompressor(form, filters=chain)
    return lzma.LZMADecompressor(form, memlimit=_MAX_WINDOW_BYTES)


def _too_large_a_window(archive: str) -> SourceProblem:
    return SourceProblem(
        f"{archive} needs more than {_MAX_WINDOW_BYTES >> 20} MiB of memory to be unpacked",
        remedy="unpack it yourself and give the folder",
    )
