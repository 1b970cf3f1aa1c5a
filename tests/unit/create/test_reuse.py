"""What a version takes over from the one before it (create/reuse.py)."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridfs.catalog import Catalog
from gridfs.catalog_keys import object_key
from gridfs.create.creation import CreateResult
from gridfs.create.reuse import MAX_STREAMS, MIN_RUN_BYTES, ObjectUse, interleaved, measure, to_repack
from gridfs.model import VersionSpec
from gridfs.store.directory import DirectoryStore
from tests.support.creations import BLOCK, PACK, Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.sources import Tampered
from tests.support.versions import folder_tree

FILES = 60
SIZE = 4000


def fill(place: Place) -> None:
    place.fill({f"d{number % 3}/{number:02}": ramp(SIZE, number) for number in range(FILES)})


@on_trio
async def test_an_unchanged_folder_is_neither_read_nor_sent(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    fill(place)
    made = tamper(lambda file: None)
    first = await place.create()
    assert first.reused_files == 0
    second = await place.create()
    assert (second.version.version, second.sent_bytes, second.reused_files) == (2, 0, FILES)
    assert second.reused_bytes == FILES * SIZE
    assert made[1].read_paths == []
    assert (await place.tree(2)).nodes == folder_tree(place.folder)
    assert (await place.tree(2)).object_keys == (await place.tree(1)).object_keys


@on_trio
async def test_only_what_changed_is_read_and_sent(place: Place, tamper: Callable[..., list[Tampered]]) -> None:
    fill(place)
    made = tamper(lambda file: None)
    await place.create()
    place.fill({"d0/00": ramp(SIZE + 1, 5), "d1/new": ramp(SIZE, 1000)})
    (place.folder / "d2/02").unlink()
    second = await place.create()
    assert sorted(made[1].read_paths) == [b"d0/00", b"d1/new"]
    assert 2 * SIZE + 1 <= second.sent_bytes < 2 * SIZE + BLOCK, "with at most a gap between them"
    assert (await place.tree(2)).nodes == folder_tree(place.folder)
    assert b"d2/02" in (await place.tree(1)).nodes


@on_trio
async def test_moved_and_touched_files_are_read_and_not_sent(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    fill(place)
    place.fill({"large": ramp(PACK)})
    made = tamper(lambda file: None)
    await place.create()
    (place.folder / "d0").rename(place.folder / "moved")
    (place.folder / "large").rename(place.folder / "large too")
    os.utime(place.folder / "d1/01")
    second = await place.create()
    assert len(set(made[1].read_paths)) == FILES // 3 + 2
    assert second.sent_bytes == 0
    assert (await place.tree(2)).nodes == folder_tree(place.folder)


@on_trio
async def test_files_of_another_source_are_read_and_not_sent_again(place: Place) -> None:
    moment = 1_500_000_000_000_000_000
    place.fill({"label": b"cat", "image": ramp(SIZE)})
    other = place.folder.with_name("other")
    shutil.copytree(place.folder, other)
    (other / "label").write_bytes(b"dog")
    for name in ("label", "image"):  # as if both had been unpacked from archives with one date for all
        os.utime(place.folder / name, ns=(moment, moment))
        os.utime(other / name, ns=(moment, moment))
    await place.create()
    second = await place.create(other)
    assert (await place.tree()).nodes == folder_tree(other)
    assert (second.reused_files, second.sent_bytes) == (0, 3)
    assert (await place.create(other)).reused_files == 2


@on_trio
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_the_store_has_lost_is_stored_anew(place: Place, is_streamed: bool, tmp_path: Path) -> None:
    fill(place)
    place.fill({"large": ramp(PACK)})

    async def create() -> CreateResult:
        if not is_streamed:
            return await place.create()
        archive = tmp_path / "set.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(place.folder, arcname=".")
        return await place.create(archive, extract=True)

    await create()
    first = await place.tree(1)
    assert isinstance(place.store, DirectoryStore)
    lost, short = [place.store.root / object_key("set", key) for key in first.object_keys[:2]]
    lost.unlink()
    os.truncate(short, short.stat().st_size - 1)
    second = await create()
    assert second.notes[0].startswith("2 of the objects of set@1 are gone from the store or were cut short")
    assert (await place.tree(2)).nodes == first.nodes
    assert (await create()).notes == ()


@on_trio
async def test_checksum_reads_what_hides_behind_its_mtime(place: Place) -> None:
    fill(place)
    await place.create()
    file = place.folder / "d0/00"
    status = file.stat()
    file.write_bytes(ramp(SIZE, 77))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    trusting = await place.create()
    assert trusting.sent_bytes == 0
    assert (await place.tree()).nodes != folder_tree(place.folder)
    reading = await place.create(checksum=True)
    assert reading.sent_bytes == SIZE
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
async def test_a_pack_of_which_less_than_half_lives_is_packed_anew(place: Place) -> None:
    fill(place)
    await place.create()
    before = (await place.tree()).object_keys
    for number in range(FILES):
        if number % 3 == 0 and number % 4:
            (place.folder / f"d0/{number:02}").unlink()
    await place.create()
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert before[0] not in tree.object_keys, "of d0 a quarter is left"
    assert set(before[2:]) <= set(tree.object_keys)


@on_trio
async def test_after_many_versions_the_thin_packs_are_packed_together(place: Place) -> None:
    fill(place)
    await place.create()
    counts = []
    for change in range(MAX_STREAMS + 2):
        for position in (1, FILES // 2, FILES - 1):
            number = (position + change) % FILES
            (place.folder / f"d{number % 3}/{number:02}").write_bytes(ramp(SIZE, 100 + change * FILES + number))
        await place.create()
        tree = await place.tree()
        assert tree.nodes == folder_tree(place.folder)
        counts.append(len(tree.object_keys))
    assert max(counts) <= 4 + MAX_STREAMS + 1
    assert counts[-1] < max(counts)


@on_trio
async def test_a_deleted_version_is_no_base(place: Place, tamper: Callable[..., list[Tampered]]) -> None:
    fill(place)
    made = tamper(lambda file: None)
    await place.create()
    catalog = Catalog(place.store)
    await catalog.delete(await catalog.resolve(VersionSpec("set", 1)))
    second = await place.create()
    assert second.version.version == 2
    assert second.reused_files == 0
    assert len(made[1].read_paths) == FILES


@on_trio
async def test_a_base_of_other_blocks_is_not_used(place: Place) -> None:
    fill(place)
    await place.create()
    second = await place.create(small=False)
    assert second.reused_files == 0
    assert (await place.tree()).nodes == folder_tree(place.folder)


def test_measure() -> None:
    sizes = {1: 100, 2: 50}
    extents = [(0, 1, 0, 10), (1, 1, 10, 10), (2, 2, 0, 50), (3, 1, 30, 10), (4, 3, 0, 9), (5, 1, 0, 10)]
    assert measure(extents, sizes) == {
        1: ObjectUse(100, live_bytes=30, runs=3, first=0, last=5, end=40),
        2: ObjectUse(50, live_bytes=50, runs=1, first=2, last=2, end=50),
    }


def test_half_alive_is_kept_and_less_is_not() -> None:
    uses = {1: ObjectUse(100, 50, 1), 2: ObjectUse(100, 49, 1), 3: ObjectUse(100, 0, 0)}
    assert to_repack(uses) == {2, 3}


def thin(count: int, *, apart: bool = False) -> dict[int, ObjectUse]:
    return {
        number: ObjectUse(1000, 1000, runs=10, first=number * 100 if apart else number, last=number * 100 + 90)
        for number in range(1, count + 1)
    }


def test_thin_packs_are_kept_while_they_are_few_or_lie_apart() -> None:
    assert to_repack(thin(MAX_STREAMS)) == set()
    assert to_repack(thin(50, apart=True)) == set()


def test_thin_packs_are_packed_anew_when_they_are_many_and_thick_ones_are_not() -> None:
    uses = thin(MAX_STREAMS + 1)
    uses[100] = ObjectUse(64 * MIN_RUN_BYTES, 64 * MIN_RUN_BYTES, runs=64, first=0, last=10_000)
    uses[101] = ObjectUse(64 * MIN_RUN_BYTES, 64 * MIN_RUN_BYTES, runs=65, first=0, last=10_000)
    assert to_repack(uses) == set(range(1, MAX_STREAMS + 2)) | {101}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda pair: (pair[0], sum(pair))), max_size=20))
def test_interleaved(stretches: list[tuple[int, int]]) -> None:
    depths = [sum(first <= position <= last for first, last in stretches) for position in range(45)]
    assert interleaved(stretches) == max(depths)
