"""An error that may come of a changed manifest has its file hashed, now and then, and if it changed that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from gridfs.errors import FormatError, IntegrityError, NotFound, ObjectChanged, ReadTimeout
from gridfs.manifest.reader import Manifest
from gridfs.model import Mode, Version
from gridfs.mount.manifest_check import CHECK_AGAIN_S, ManifestCheck
from tests.support.manifests import Node, write_tree
from tests.support.on_trio import on_mock_clock


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    write_tree(tmp_path / "manifest", [Node(b"one")])
    return tmp_path / "manifest"


def check_of(manifest: Manifest) -> ManifestCheck:
    version = Version("set", 1, "", "/data/set", Mode.COPY, 1, 0, 0, 0, "key", manifest.sha256(), 4096)
    return ManifestCheck(manifest, version)


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xee")


@on_mock_clock
async def test_what_is_behind_an_error(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        check = check_of(manifest)
        defect = TypeError("an integer is required")
        assert await check.cause_of(defect) is defect
        change(manifest_file)
        assert await check.cause_of(defect) is defect, "hashed a moment ago"
        await trio.sleep(CHECK_AGAIN_S)
        for of_the_store in (ReadTimeout("too late"), ObjectChanged("another ETag")):
            assert await check.cause_of(of_the_store) is of_the_store
        assert not check.is_damaged
        for symptom in (defect, IntegrityError("a block"), NotFound("an inode"), FormatError("malformed")):
            cause = await check.cause_of(symptom)
            assert isinstance(cause, FormatError)
            assert "was changed while set@1 is mounted" in str(cause)


@on_mock_clock
async def test_a_copy_that_was_removed_or_replaced_is_still_the_one_that_was_opened(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        check = check_of(manifest)
        manifest_file.unlink()
        manifest_file.write_bytes(b"of somebody else")
        await check.cause_of(TypeError("a defect"))
        assert not check.is_damaged
