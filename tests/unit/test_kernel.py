"""Limits of the kernel, and the honest report of what was not permitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.mount.kernel import Limit, abort, set_limit, set_max_background, set_read_ahead


@pytest.mark.parametrize(("device", "before", "wanted"), [("0:39", 128, 2048), ("7:0", 4096, 128)])
def test_read_ahead_is_raised_and_what_a_loop_device_has_kept_is_lowered(
    tmp_path: Path, device: str, before: int, wanted: int
) -> None:
    file = tmp_path / "class/bdi" / device / "read_ahead_kb"
    file.parent.mkdir(parents=True)
    file.write_text(f"{before}\n")
    assert str(set_read_ahead(device, wanted, tmp_path)) == str(wanted)
    assert file.read_text() == str(wanted)


def test_limit_that_is_higher_stays(tmp_path: Path) -> None:
    file = tmp_path / "fs/fuse/connections/39/max_background"
    file.parent.mkdir(parents=True)
    file.write_text("2000\n")
    assert str(set_max_background("0:39", tmp_path / "unused", tmp_path)) == "2000"


def test_missing_file_is_said(tmp_path: Path) -> None:
    assert str(set_limit(tmp_path / "none", 5)) == "unknown (No such file or directory)"


def test_refusal_is_said() -> None:
    assert str(Limit(4096, 128, "Permission denied")) == "128, not 4096 (Permission denied)"
    assert str(Limit(4096, 4096, None)) == "4096"


def test_a_connection_is_ended_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "fs/fuse/connections/39/abort"
    file.parent.mkdir(parents=True)
    file.touch()
    assert abort("0:39", tmp_path)
    assert file.read_text() == "1"
    assert not abort("0:40", tmp_path)
