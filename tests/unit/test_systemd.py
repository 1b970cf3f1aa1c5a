"""The unit files are ones that systemd takes without a remark, and start what this gridfs has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"


@pytest.mark.parametrize("unit", ["gridfs@.service", "gridfs.target"])
def test_systemd_takes_the_unit(unit: str) -> None:
    answer = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", SYSTEMD / unit], check=False, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


def test_tmpfiles_makes_the_directories_of_mounts(tmp_path: Path) -> None:
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", SYSTEMD / "gridfs.tmpfiles.conf"], check=True)
    made = [tmp_path / "datastores", tmp_path / "etc/gridfs"]
    assert [oct(directory.stat().st_mode) for directory in made] == ["0o40755", "0o40755"]


def test_the_unit_names_only_options_that_there_are() -> None:
    commands = re.findall(r"^Exec\w+=-?/usr/bin/env grid (\w+) (.*)$", (SYSTEMD / "gridfs@.service").read_text(), re.M)
    assert [command for command, _ in commands] == ["mount", "unmount"]
    for command, arguments in commands:
        help_text = subprocess.run(
            [sys.executable, "-m", "gridfs", command, "--help"], check=True, capture_output=True, text=True
        ).stdout
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in help_text, f"grid {command} has no {option}"
