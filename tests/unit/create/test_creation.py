"""Creations of real and odd folders, compared with what the store holds afterwards (create/creation.py)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_keys import version_key
from gridfs.config import Paths
from gridfs.create import folder as folder_module
from gridfs.create.source import Found, Outcome
from gridfs.create.workplace import incomplete
from gridfs.errors import Busy, InvalidInput, NotFound, SourceProblem, StoreUnavailable
from gridfs.model import Buffer, Kind
from gridfs.store.directory import DirectoryStore
from tests.support.creations import BLOCK, PACK, Failing, Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.sources import Tampered, make_oddities
from tests.support.versions import folder_tree


@on_trio
async def test_oddities_are_kept_or_reported(place: Place) -> None:
    reported = make_oddities(place.folder)
    result = await place.create()
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert tree.reasons() == reported
    assert {problem.reason: problem.count for problem in result.problems} == dict.fromkeys(reported, 1)
    assert (result.version.name, result.version.version) == ("set", 1)
    assert result.version.source == str(place.folder)


@on_trio
async def test_a_first_version_of_a_folder_holds_nothing_of_the_store_and_the_journal_in_it(
    tmp_path: Path, private_dirs: Paths
) -> None:
    place = Place(tmp_path, private_dirs, DirectoryStore(tmp_path / "folder" / "store"))
    place.folder = tmp_path
    (tmp_path / "file").write_bytes(ramp(100))
    await place.create()
    tree = await place.tree()
    assert [path for path, node in tree.nodes.items() if node.kind is Kind.FILE] == [b"file"]
    assert b"folder/store" in tree.reasons()["own-directory"]


@on_trio
async def test_the_damaged_record_of_a_version_before_stops_no_creation(place: Place) -> None:
    """Without a backup of it there would never be another version of that name."""
    place.fill({"file": ramp(100)})
    for _ in range(2):
        await place.create()
    await place.store.put(version_key("set", 2), b"{half")
    result = await place.create()
    assert (result.version.version, result.sent_bytes, result.reused_files) == (3, 0, 1)
    assert (await place.tree(3)).nodes == folder_tree(place.folder)


@on_trio
async def test_an_interruption_while_it_commits_is_too_late(tmp_path: Path, private_dirs: Paths) -> None:
    """There is a version: who is told of an interruption would make it once more."""

    class Late(DirectoryStore):
        async def put_if_absent(self, key: str, data: Buffer) -> None:
            await super().put_if_absent(key, data)
            if "/versions/" in key:
                scope.cancel()

    place = Place(tmp_path, private_dirs, Late(tmp_path / "store"))
    place.fill({"file": ramp(100)})
    with trio.CancelScope() as scope:
        result = await place.create()
        assert result.version.version == 1
    assert incomplete(private_dirs) == []
    assert [head.key async for head in place.store.list("datastores/set/leases/")] == []


@on_trio
async def test_files_of_all_sizes_round_the_limits(place: Place) -> None:
    sizes = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, PACK // 2 - 1, PACK // 2, PACK // 2 + 1, PACK, PACK + 1, 3 * PACK + 7}
    place.fill({f"d{size % 3}/{size}": ramp(size, size) for size in sizes})
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
async def test_a_file_of_many_pieces(place: Place) -> None:
    place.fill({"large": ramp(40 << 20), "small": ramp(10)})
    await place.create(small=False)
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert len(tree.object_keys) == 2


@on_trio
async def test_times_that_no_manifest_can_hold_are_clamped(place: Place) -> None:
    place.fill({"file": ramp(100), "directory/other": ramp(5)})
    (place.folder / "link").symlink_to("file")
    names = ("file", "directory/other", "directory", "link", "")
    for name in names:  # 2400; ext4 ends in 2446
        os.utime(place.folder / name, ns=(0, 13_569_465_600_000_000_000), follow_symlinks=False)
    await place.create()
    nodes = (await place.tree()).nodes
    assert {nodes[name.encode()].mtime_ns for name in names} == {(1 << 63) - 1}
    assert nodes.keys() == folder_tree(place.folder).keys()
    (place.folder / "file").write_bytes(ramp(100, 7))
    os.utime(place.folder / "file", ns=(0, 13_600_000_000_000_000_000))
    await place.create(checksum=True)
    assert (await place.tree()).nodes[b"file"].content == folder_tree(place.folder)[b"file"].content


@on_trio
async def test_equal_content_is_stored_once(place: Place) -> None:
    content, large = ramp(5000), ramp(PACK)
    place.fill({"a/one": content, "b/two": content, "c/large": large, "d/large": large})
    os.link(place.folder / "a/one", place.folder / "hard")
    result = await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)
    assert result.sent_bytes == len(content) + len(large)
    assert result.version.total_bytes == 3 * len(content) + 2 * len(large)


@on_trio
async def test_hard_links_are_read_once(place: Place, tamper: Callable[..., list[Tampered]]) -> None:
    place.fill({"m": ramp(5000)})
    for name in ("a", "z"):
        os.link(place.folder / "m", place.folder / name)
    made = tamper(lambda file: None)
    await place.create()
    assert made[0].read_paths == [b"a"]
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
@pytest.mark.parametrize("first_scanned", ["a", "z"])
async def test_hard_links_that_were_scanned_before_and_after_a_change(
    place: Place, monkeypatch: pytest.MonkeyPatch, first_scanned: str
) -> None:
    place.fill({"a/one": ramp(9000), "b": ramp(100), "z/two": b""})
    (place.folder / "z/two").unlink()
    os.link(place.folder / "a/one", place.folder / "z/two")
    scan = folder_module._Scan._directory

    def scan_and_change(self: folder_module._Scan, path: bytes) -> None:
        scan(self, path)
        if not path:
            self._pending.sort(reverse=first_scanned == "a")
        elif path == os.fsencode(first_scanned):
            (place.folder / "a/one").write_bytes(ramp(1000))

    monkeypatch.setattr(folder_module._Scan, "_directory", scan_and_change)
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
async def test_hard_links_to_a_file_that_changes_while_it_is_read(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({"a": ramp(5000)})
    names = ["m", "y", "z"]
    for name in names:
        os.link(place.folder / "a", place.folder / name)
    changes = [b"a"]

    def grow(file: Found) -> None:
        if file.path in changes:
            changes.remove(file.path)
            with open(place.folder / "a", "ab") as log:
                log.write(b"more")

    made = tamper(grow)
    await place.create()
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert tree.reasons() == {"changed": [b"a", b"m", b"y", b"z"]}
    assert made[0].read_paths == [b"a", b"a"]


@on_trio
async def test_a_hard_link_that_goes_does_not_take_the_other_names_along(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({"a": ramp(5000)})
    names = [b"m", b"y", b"z"]
    for name in names:
        os.link(place.folder / "a", place.folder / os.fsdecode(name))
    tamper(lambda file: os.unlink(place.folder / "a") if (place.folder / "a").exists() else None)
    await place.create(skip_unreadable=True)
    tree = await place.tree()
    assert {path: node.content for path, node in tree.nodes.items() if path} == dict.fromkeys(
        names, sha256(ramp(5000)).digest()
    )
    assert tree.reasons() == {"unreadable": [b"a"], "changed": names}


@on_trio
async def test_packs_follow_the_tree_order(place: Place) -> None:
    names = [f"{directory}/{number:02}" for directory in ("a", "a-b", "b") for number in range(30)]
    place.fill({name: ramp(5000, index) for index, name in enumerate(names)})
    await place.create()
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert len(tree.object_keys) >= len(names) * 5000 // PACK


@on_trio
async def test_the_next_creation_makes_the_next_version(place: Place) -> None:
    place.fill({"a": b"1"})
    assert (await place.create()).version.version == 1
    place.fill({"b": b"2"})
    assert (await place.create()).version.version == 2
    assert set((await place.tree(1)).nodes) == {b"", b"a"}
    assert set((await place.tree(2)).nodes) == {b"", b"a", b"b"}


@on_trio
async def test_two_creations_at_once_make_two_versions(place: Place) -> None:
    place.fill({f"{number}": ramp(3000, number) for number in range(100)})
    versions = []

    async def one() -> None:
        versions.append((await place.create()).version.version)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(one)
    assert sorted(versions) == [1, 2]
    for version in versions:
        assert (await place.tree(version)).nodes == folder_tree(place.folder)
    assert incomplete(place.paths) == []


@on_trio
async def test_a_file_that_changes_once_is_read_again_and_reported(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({"log": ramp(3000), "other": ramp(2000), "huge log": ramp(2 * PACK)})
    changes = {b"log": 1, b"huge log": 1}

    def grow(file: Found) -> None:
        if changes.get(file.path, 0):
            changes[file.path] -= 1
            with open(place.folder / os.fsdecode(file.path), "ab") as log:
                log.write(b"more")

    tamper(grow)
    await place.create()
    tree = await place.tree()
    assert tree.nodes == folder_tree(place.folder)
    assert tree.reasons() == {"changed": [b"huge log", b"log"]}


@on_trio
async def test_a_file_that_becomes_empty_while_it_is_read(place: Place, tamper: Callable[..., list[Tampered]]) -> None:
    place.fill({"log": ramp(3000), "other": ramp(2000)})
    tamper(lambda file: os.truncate(place.folder / "log", 0) if file.path == b"log" else None)
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
async def test_a_file_that_never_holds_still_ends_the_creation(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({"log": ramp(3000), "other": ramp(2000)})
    tamper(lambda file: Outcome.CHANGED if file.path == b"log" else None)
    with pytest.raises(SourceProblem, match="log can't be read: it changed"):
        await place.create()
    assert await Catalog(place.store).versions("set") == []
    await place.create(skip_unreadable=True)
    tree = await place.tree()
    assert set(tree.nodes) == {b"", b"other"}
    assert tree.reasons()["unreadable"] == [b"log"]


@on_trio
async def test_a_file_that_can_t_be_read_ends_the_creation_and_is_named(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({"broken": ramp(3000), "huge broken": ramp(PACK), "other": ramp(2000)})
    os.link(place.folder / "broken", place.folder / "broken too")
    tamper(lambda file: Outcome.UNREADABLE if b"broken" in file.path else None)
    with pytest.raises(SourceProblem, match=r"broken can't be read: on command; .*--skip-unreadable"):
        await place.create()
    assert await Catalog(place.store).versions("set") == []
    await place.create(skip_unreadable=True)
    tree = await place.tree()
    assert set(tree.nodes) == {b"", b"other"}
    assert tree.reasons() == {"unreadable": [b"broken", b"broken too", b"huge broken"]}


@on_trio
async def test_no_such_folder_leaves_nothing(place: Place) -> None:
    with pytest.raises(NotFound, match="folder"):
        await place.create()
    assert incomplete(place.paths) == []
    assert not place.store.root.exists()


@on_trio
async def test_an_empty_folder_is_refused_and_leaves_nothing(place: Place) -> None:
    place.folder.mkdir()
    with pytest.raises(InvalidInput, match=f"{place.folder} is empty"):
        await place.create()
    assert incomplete(place.paths) == []
    assert await Catalog(place.store).names() == []


@on_trio
async def test_a_folder_of_empty_directories_is_a_datastore(place: Place) -> None:
    (place.folder / "a" / "b").mkdir(parents=True)
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)


@on_trio
async def test_one_file(place: Place) -> None:
    place.fill({"data.zip": ramp(5000), "beside": b"b"})
    await place.create(place.folder / "data.zip")
    tree = await place.tree()
    assert tree.nodes[b"data.zip"] == folder_tree(place.folder)[b"data.zip"]
    assert [node.kind for node in tree.nodes.values()] == [Kind.DIRECTORY, Kind.FILE]


@on_trio
async def test_a_store_inside_of_the_folder_is_not_part_of_it(tmp_path: Path, place: Place) -> None:
    place.fill({"a": ramp(100)})
    for _ in range(2):
        await place.create(tmp_path)
    nodes = (await place.tree()).nodes
    assert {path.split(b"/")[0] for path in nodes} == {b"", b"folder", b"home"}
    assert not any(b"creations" in path for path in nodes)


@on_trio
async def test_a_lost_store_leaves_no_version_and_the_same_request_goes_on(
    tmp_path: Path, place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    place.fill({f"{number:03}": ramp(5000, number) for number in range(100)})
    made = tamper(lambda file: None)
    place.store = Failing(tmp_path / "store", 3)
    with pytest.raises(StoreUnavailable, match="the network is gone"):
        await place.create()
    assert await Catalog(place.store).versions("set") == []
    assert [creation.request.source for creation in incomplete(place.paths)] == [str(place.folder)]

    place.store = DirectoryStore(tmp_path / "store")
    result = await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)
    assert result.reused_files == 3 * 12, "three packs of twelve files were durable"
    assert len(set(made[1].read_paths)) == 100 - 36
    assert incomplete(place.paths) == []


@on_trio
async def test_data_is_synced_before_the_manifest_and_the_manifest_before_the_record(
    tmp_path: Path, private_dirs: Paths
) -> None:
    """Invariant 1: what a power cut leaves of a manifest names only what it leaves of the data."""

    class Recording(DirectoryStore):
        async def put(self, key: str, data: object) -> None:
            await super().put(key, data)  # type: ignore[arg-type]
            done.append(key.split("/")[2])

        async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
            written = await super().put_stream(key, chunks, size_hint_bytes=size_hint_bytes)
            done.append(key.split("/")[2])
            return written

        async def put_if_absent(self, key: str, data: object) -> None:
            await super().put_if_absent(key, data)  # type: ignore[arg-type]
            done.append(key.split("/")[2] if "/" in key else "probe")

        async def sync(self) -> None:
            await super().sync()
            done.append("sync")

    done: list[str] = []
    place = Place(tmp_path, private_dirs, Recording(tmp_path / "store"))
    place.fill({"small": ramp(100), "large": ramp(2 * PACK)})
    await place.create()
    steps = [step for step in done if step not in ("probe", "leases")]
    assert steps == ["objects", "objects", "sync", "manifests", "sync", "versions", "sync"]


@on_trio
async def test_a_creation_whose_lease_was_collected_makes_no_version(
    place: Place, tamper: Callable[..., list[Tampered]]
) -> None:
    """Invariant 1: what it has put may have been collected with the lease. The same request looks, and goes on."""
    place.fill({"a": ramp(100)})

    def lose_the_lease(file: Found) -> None:
        for lease in (place.store.root / "datastores/set/leases").iterdir():  # type: ignore[attr-defined]
            lease.unlink()

    made = tamper(lose_the_lease)
    with pytest.raises(Busy, match="may have been collected"):
        await place.create()
    assert made[0].read_paths == [b"a"]
    assert await Catalog(place.store).versions("set") == []
    tamper(lambda file: None)
    assert (await place.create()).version.version == 1


@on_trio
async def test_a_continued_creation_sees_what_changed_meanwhile(tmp_path: Path, place: Place) -> None:
    place.fill({f"{number:03}": ramp(5000, number) for number in range(100)})
    place.store = Failing(tmp_path / "store", 4)
    with pytest.raises(StoreUnavailable):
        await place.create()
    place.fill({"000": ramp(5000, 99), "001": b"shorter", "new": b"n"})
    (place.folder / "002").unlink()
    (place.folder / "003").unlink()
    (place.folder / "003").mkdir()
    place.store = DirectoryStore(tmp_path / "store")
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)
