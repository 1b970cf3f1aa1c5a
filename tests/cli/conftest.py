"""The program as a person uses it: a process with arguments, an environment, a terminal or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gridfs.config import Paths
from tests.support.data import ramp

ENDING_S = 120
"""A command of these tests takes a second or two; a busy machine may need many times that."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def succeeded(self) -> Ended:
        assert self.code == 0, f"exit code {self.code}: {self.err}"
        return self

    def failed(self, code: int, *named: str) -> Ended:
        """It ended with *code* and one line on stderr that names all of *named*; no traceback, no result."""
        assert self.code == code, f"exit code {self.code} and not {code}: {self.err}"
        lines = [line for line in self.err.splitlines() if line.startswith("grid: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        for text in named:
            assert text in lines[0], f"{text!r} is not in: {lines[0]}"
        return self


Grid = Callable[..., Ended]


@pytest.fixture
def grid(private_dirs: Paths) -> Grid:
    """Runs `grid` with the arguments; keyword `env` adds variables, `cwd` is the working directory."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "gridfs", *map(str, arguments)],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=ENDING_S,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_folder(tmp_path)


def small_folder(parent: Path) -> Path:
    """Makes a small folder named `Cats and Dogs` in *parent*: 3 files, 2 directories, 70,000 bytes."""
    root = parent / "Cats and Dogs"
    (root / "cats").mkdir(parents=True)
    (root / "cats" / "1.jpg").write_bytes(ramp(50_000))
    (root / "cats" / "2.jpg").write_bytes(ramp(20_000, 7))
    (root / "empty").write_bytes(b"")
    return root


def files_below(directory: Path) -> set[str]:
    """Every file below *directory*, by its relative path; empty when there is no such directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
