"""A stage with its own directories for each test, or for each module where the tree is large."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mount.stage import MODES, Stage, stage


@contextmanager
def _runtime() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="gridfs-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Stage]:
    with _runtime() as runtime, stage(tmp_path, runtime) as made:
        yield made


@pytest.fixture
def cache_elsewhere(staged: Stage) -> Iterator[None]:
    """The cache is on another file system than the store, which is therefore not read in place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gridfs-test-") as other:
        assert os.stat(other).st_dev != os.stat(staged.paths.data).st_dev
        staged.paths = replace(staged.paths, cache=Path(other))
        yield
        staged.unmount_all()


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with _runtime() as runtime, stage(tmp_path_factory.mktemp("stage"), runtime) as made:
        yield made


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    """The ways to mount; the same tests run in each."""
    return request.param
