"""The manifest's form in the store: what it decompresses to, what plain zstd makes of it, and what is refused."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gridfs.errors import FormatError
from gridfs.manifest.transport import FRAME_SIZE_BYTES, Packed, Unpacker, compress
from tests.support.data import ramp


def packed(tmp_path: Path, plain: bytes) -> tuple[bytes, Packed]:
    (tmp_path / "plain").write_bytes(plain)
    result = compress(tmp_path / "plain", tmp_path / "packed")
    return (tmp_path / "packed").read_bytes(), result


def unpack(target: Path, raw: bytes, result: Packed, step: int) -> bytes:
    with Unpacker(target, sha256=result.sha256, size_bytes=result.size_bytes) as unpacker:
        for start in range(0, len(raw), step):
            unpacker.feed(memoryview(raw)[start : start + step])
        unpacker.finish()
    return target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, FRAME_SIZE_BYTES - 1, FRAME_SIZE_BYTES, 3 * FRAME_SIZE_BYTES + 17])
def test_round_trip(tmp_path: Path, size: int) -> None:
    plain = ramp(size)
    raw, result = packed(tmp_path, plain)
    assert result == Packed(hashlib.sha256(plain).hexdigest(), size, len(raw))
    for step in (1000, len(raw)):
        assert unpack(tmp_path / "again", raw, result, step) == plain


def test_plain_zstd_reads_it(tmp_path: Path) -> None:
    plain = os.urandom(FRAME_SIZE_BYTES + 5)
    raw, _ = packed(tmp_path, plain)
    assert zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read() == plain


def test_a_single_frame_can_be_fetched_by_the_table(tmp_path: Path) -> None:
    """Decoded by docs/manifest-format.md alone: what a later reader of single pages will do."""
    plain = ramp(2 * FRAME_SIZE_BYTES + 100)
    raw, _ = packed(tmp_path, plain)
    count, descriptor, magic = struct.unpack("<IBI", raw[-9:])
    assert (count, descriptor, magic) == (3, 0, 0x8F92EAB1)
    skippable, rest = struct.unpack("<II", raw[-9 - 8 * count - 8 : -9 - 8 * count])
    assert (skippable, rest) == (0x184D2A5E, 8 * count + 9)
    at = at_plain = 0
    for compressed_bytes, plain_bytes in struct.iter_unpack("<II", raw[-9 - 8 * count : -9]):
        frame = raw[at : at + compressed_bytes]
        assert zstandard.ZstdDecompressor().decompress(frame) == plain[at_plain : at_plain + plain_bytes]
        at, at_plain = at + compressed_bytes, at_plain + plain_bytes
    assert at_plain == len(plain)
    assert at == len(raw) - 9 - 8 * count - 8


def test_a_manifest_that_the_record_does_not_name_is_refused(tmp_path: Path) -> None:
    raw, result = packed(tmp_path, ramp(5000))
    other, _ = packed(tmp_path, ramp(5000, 1))
    with pytest.raises(FormatError, match="commit record"):
        unpack(tmp_path / "again", other, result, 100)
    with pytest.raises(FormatError, match="commit record"):
        unpack(tmp_path / "again", raw[: len(raw) // 2], result, 100)


def test_a_bomb_is_stopped_when_it_is_too_long(tmp_path: Path) -> None:
    raw, _ = packed(tmp_path, bytes(64 * FRAME_SIZE_BYTES))
    small = Packed("0" * 64, FRAME_SIZE_BYTES, 0)
    with pytest.raises(FormatError, match="longer"):
        unpack(tmp_path / "again", raw, small, 10)
    assert (tmp_path / "again").stat().st_size <= FRAME_SIZE_BYTES


@given(st.data())
def test_damage_anywhere_is_a_format_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.getbasetemp()
    plain = ramp(3000)
    raw, result = packed(directory, plain)
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        assert unpack(directory / "again", bytes(changed), result, 50) == plain  # in the table, which a stream ignores
    except FormatError:
        pass
