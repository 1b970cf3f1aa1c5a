"""Fixtures of the creation tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridfs.config import Paths
from gridfs.create import opening as opening_module
from gridfs.create.folder import local_source
from gridfs.create.source import Found, Outcome
from tests.support.creations import Place
from tests.support.sources import Tampered


@pytest.fixture
def place(tmp_path: Path, private_dirs: Paths) -> Place:
    return Place(tmp_path, private_dirs)


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Found], Outcome | None]], list[Tampered]]:
    """Makes every local source act on command; the sources that were made, in a list that grows."""

    def install(before: Callable[[Found], Outcome | None]) -> list[Tampered]:
        made: list[Tampered] = []

        def make(*arguments: object, **options: object) -> Tampered:
            made.append(Tampered(local_source(*arguments, **options), before))  # type: ignore[arg-type]
            return made[-1]

        monkeypatch.setattr(opening_module, "local_source", make)
        return made

    return install
