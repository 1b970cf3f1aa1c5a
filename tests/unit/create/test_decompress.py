"""Compressed streams, in small and large reads (create/decompress.py)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
import zstandard

from gridfs.create.archive_rules import Account
from gridfs.create.decompress import Readable, compression_of, decompressed
from gridfs.errors import SourceProblem
from gridfs.manifest.transport import compress
from tests.support.data import ramp

CONTENT = ramp(700_000) + os.urandom(300_000) + bytes(2_000_000)
PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


class Dribble:
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def unpacked(source: Readable, name: str, size: int = 100_000) -> tuple[bytes, Account]:
    account = Account("x")
    account.add_in(1 << 30)
    reader = decompressed(source, name, account)
    pieces = []
    while piece := reader.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces), account


@pytest.mark.parametrize("name", PACKERS)
def test_round_trip(name: str) -> None:
    packed = PACKERS[name](CONTENT)
    assert compression_of(packed[:6]) == name
    assert unpacked(io.BytesIO(packed), name)[0] == CONTENT
    assert unpacked(Dribble(packed, 777), name, 5000)[0] == CONTENT


@pytest.mark.parametrize("name", PACKERS)
def test_several_streams_and_padding(name: str) -> None:
    packed = PACKERS[name](CONTENT) + PACKERS[name](b"") + PACKERS[name](b"end") + bytes(1024)
    out, account = unpacked(Dribble(packed, 4099), name)
    assert out == CONTENT + b"end"
    assert not account.has_rest


@pytest.mark.parametrize("name", PACKERS)
def test_what_follows_is_noticed(name: str) -> None:
    out, account = unpacked(io.BytesIO(PACKERS[name](CONTENT) + bytes(7) + b"something else"), name)
    assert out == CONTENT
    assert account.has_rest


@pytest.mark.parametrize("name", PACKERS)
def test_every_early_end_is_noticed(name: str) -> None:
    packed = PACKERS[name](ramp(3000))
    for end in range(6, len(packed)):
        with pytest.raises(SourceProblem, match="is damaged"):
            unpacked(io.BytesIO(packed[:end]), name)


def test_skippable_frames_of_zstd(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    compress(tmp_path / "plain", tmp_path / "packed")
    assert unpacked(io.BytesIO((tmp_path / "packed").read_bytes()), "zstd")[0] == CONTENT
    skippable = bytes.fromhex("502a4d18 04000000 61626364")
    assert compression_of(skippable[:6]) == "zstd"
    assert unpacked(io.BytesIO(skippable + PACKERS["zstd"](b"abc")), "zstd")[0] == b"abc"


def test_what_is_no_compression() -> None:
    for beginning in (b"", b"PK\x03\x04", b"ustar", b"\x1f", b"\x50\x2a\x4d\x17"):
        assert compression_of(beginning) is None
