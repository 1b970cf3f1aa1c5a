"""Creations of large and real trees, compared with what the store holds afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from gridfs.create.creation import create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.model import Buffer, VersionSpec
from gridfs.store.directory import DirectoryStore
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.versions import StoredTree, folder_tree, stored_tree


async def created(source: Path, tmp_path: Path, paths: Paths) -> StoredTree:
    store = DirectoryStore(tmp_path / "store")
    await create_datastore(CreateRequest("set", str(source)), store, paths, Silent())
    return await stored_tree(store, paths, VersionSpec("set"))


@on_trio
async def test_the_standard_library(tmp_path: Path, private_dirs: Paths) -> None:
    without = shutil.ignore_patterns("site-packages", "test", "config-*")
    source = shutil.copytree(sysconfig.get_path("stdlib"), tmp_path / "lib", symlinks=True, ignore=without)
    assert (await created(source, tmp_path, private_dirs)).nodes == folder_tree(source)


@pytest.mark.long
@on_trio
async def test_usr_share_of_this_machine(tmp_path: Path, private_dirs: Paths) -> None:
    source = Path("/usr/share")
    tree = await created(source, tmp_path, private_dirs)
    assert tree.nodes == folder_tree(source)
    assert len(tree.nodes) > 20_000


@pytest.mark.parametrize("count", [5000, pytest.param(100_000, marks=pytest.mark.long)])
@on_trio
async def test_many_files_in_one_directory(count: int, tmp_path: Path, private_dirs: Paths) -> None:
    source = tmp_path / "folder"
    source.mkdir()
    for number in range(count):
        (source / f"{number:06}").write_bytes(b"%d" % number)
    assert (await created(source, tmp_path, private_dirs)).nodes == folder_tree(source)


WITHOUT_ROOT_S_EYES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
"""Root whom permissions bind as anyone else; who still owns the virtual environment."""


def test_an_unreadable_file_is_named_before_anything_is_stored(tmp_path: Path, private_dirs: Paths) -> None:
    source = tmp_path / "folder"
    (source / "locked").mkdir(parents=True)
    (source / "good").write_bytes(ramp(1000))
    (source / "secret").write_bytes(ramp(1000))
    (source / "secret").chmod(0)
    (source / "locked").chmod(0)
    store = tmp_path / "store"
    command = [*WITHOUT_ROOT_S_EYES, sys.executable, "-m", "tests.support.killed", str(store), str(source), "0"]
    failed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "can't be read: Permission denied (and 1 more); make it readable" in failed.stderr
    assert not list(store.rglob("objects"))
    done = subprocess.run([*command, "--skip-unreadable"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@on_trio
async def test_what_was_left_out_as_unreadable_is_reported(tmp_path: Path, private_dirs: Paths) -> None:
    source, store = tmp_path / "folder", tmp_path / "store"
    (source / "locked").mkdir(parents=True)
    (source / "good").write_bytes(ramp(1000))
    (source / "secret").write_bytes(ramp(1000))
    (source / "secret").chmod(0)
    (source / "locked").chmod(0)
    arguments = [str(store), str(source), "0", "--skip-unreadable"]
    subprocess.run([*WITHOUT_ROOT_S_EYES, sys.executable, "-m", "tests.support.killed", *arguments], check=True)
    tree = await stored_tree(DirectoryStore(store), private_dirs, VersionSpec("set"))
    assert set(tree.nodes) == {b"", b"good", b"locked"}
    assert tree.reasons() == {"unreadable": [b"locked", b"secret"]}


SPARSE_SIZE_BYTES = 4 << 30


class Discarding(DirectoryStore):
    """Counts the bytes of large objects and keeps none of them: four gigabytes of zeros fill the disks of small
    machines."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.streamed: list[int] = []

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        if "/objects/" not in key:
            return await super().put_stream(key, chunks, size_hint_bytes=size_hint_bytes)
        size = 0
        async for chunk in chunks:
            assert not any(memoryview(chunk)[:: 1 << 16])
            size += len(chunk)
        self.streamed.append(size)
        return size


@on_trio
async def test_a_sparse_file_of_four_gigabytes(tmp_path: Path, private_dirs: Paths) -> None:
    source = tmp_path / "folder"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        os.truncate(file.fileno(), SPARSE_SIZE_BYTES)
    store = Discarding(tmp_path / "store")
    result = await create_datastore(CreateRequest("set", str(source)), store, private_dirs, Silent())
    assert store.streamed == [SPARSE_SIZE_BYTES]
    assert result.version.total_bytes == SPARSE_SIZE_BYTES
