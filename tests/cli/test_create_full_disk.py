"""A state directory whose disk is full, read-only or broken: said as what it is, and continued when there is room."""

from __future__ import annotations

import gc
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridfs.catalog import Catalog
from gridfs.config import Paths, StoreSettings
from gridfs.create.preview import preview
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.create.workplace import incomplete
from gridfs.errors import Unsupported
from gridfs.store.simulated import SimulatedStore
from tests.support.archives import member, tar_of, zip_of
from tests.support.creations import Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.versions import folder_tree

ROOM_KIB = [4, 150, 300, 500, 700, 900, 1400]
"""For the journal and the manifest of 400 files; the last is enough."""


@pytest.fixture
def place(tmp_path: Path, private_dirs: Paths) -> Place:
    """In memory: only the state directory is on a disk that fails."""
    return Place(tmp_path, private_dirs, SimulatedStore())


@pytest.fixture
def disk(private_dirs: Paths) -> Iterator[Callable[[str], None]]:
    """The state directory on a disk of its own; called with options it is mounted anew."""
    state = private_dirs.state
    state.mkdir(parents=True, mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=64m", "gridfs-test", state], check=True)

    def remount(options: str) -> None:
        gc.collect()  # a journal that could not be made is open as long as the exception that says so is there
        subprocess.run(["mount", "-o", f"remount,{options}", state], check=True)

    try:
        yield remount
    finally:
        gc.collect()
        subprocess.run(["umount", state], check=True)


def named(place: Place) -> str:
    return f"can't work in {place.paths.state}: .*; make room there, or choose .* by XDG_STATE_HOME"


@pytest.mark.parametrize("kind", ["folder", "tar"])
@on_trio
async def test_wherever_the_disk_is_full_it_is_said_and_continued(
    place: Place, disk: Callable[[str], None], kind: str
) -> None:
    source, refused, kept = place.folder, list[str](), 0
    for made, room_kib in enumerate(ROOM_KIB):
        files = {f"{number % 20}/{number}": ramp(1500 + number, made + number) for number in range(400)}
        place.fill(files)
        if kind == "tar":
            source = place.folder.with_suffix(".tar")
            source.write_bytes(tar_of(*((member(name), content) for name, content in files.items())))
        disk(f"size={room_kib}k")
        try:
            await place.create(source, extract=kind == "tar")
        except Unsupported as error:
            refused.append(str(error))
            kept += len(incomplete(place.paths))
        if len(await Catalog(place.store).versions("set")) == made:
            disk("size=64m")
            await place.create(source, extract=kind == "tar")
        assert incomplete(place.paths) == []
        expected = {path: node.content for path, node in folder_tree(place.folder).items()}
        assert {path: node.content for path, node in (await place.tree()).nodes.items()} == expected
    assert all(re.search(named(place), message) for message in refused)
    assert 1 < kept < len(refused) < len(ROOM_KIB), "full at once, full when something was durable, and not full"


@on_trio
async def test_the_spool_of_a_zip_is_no_part_of_the_archive(place: Place, disk: Callable[[str], None]) -> None:
    archive = place.folder.with_suffix(".zip")
    archive.write_bytes(zip_of(*((f"{number:0200}", b"") for number in range(2000))))
    disk("size=300k")
    with pytest.raises(Unsupported, match=named(place)):
        await place.create(archive, extract=True)


@on_trio
async def test_a_disk_that_is_read_only(place: Place, disk: Callable[[str], None]) -> None:
    place.fill({"a": b"x"})
    await place.create()
    disk("ro")
    with pytest.raises(Unsupported, match=named(place)):
        await place.create()
    with pytest.raises(Unsupported, match=named(place)):
        await preview(CreateRequest("set", str(place.folder)), StoreSettings(place.store.url), place.paths, Silent())
