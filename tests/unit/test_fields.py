"""The fields that a run and a daemon send to each other."""

from __future__ import annotations

import pytest

from gridfs.mount.fields import END, packed, unpacked


@pytest.mark.parametrize(
    "fields",
    [{}, {"a": "b"}, {"a": ""}, {"a": "b=c\n\nd", "e": "\udcff ü"}, {"config": "[stores]\n"}],
)
def test_what_is_packed_comes_out(fields: dict[str, str]) -> None:
    block = packed(fields)
    assert block.count(END) == 1
    assert block.endswith(END)
    assert unpacked(block) == fields


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        packed({"a": "b\0c"})


@pytest.mark.parametrize("block", [b"", b"\n", b"x", b"\0\0\n", b"no field\0=\0\n"])
def test_what_is_no_field_is_left_out(block: bytes) -> None:
    assert set(unpacked(block)) <= {""}
