"""What `download` makes, continues, refuses. Compared with the tree that the version was made of."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gridfs.catalog import Catalog
from gridfs.catalog_contents import Contents, open_contents
from gridfs.catalog_keys import objects_prefix
from gridfs.config import StoreSettings
from gridfs.errors import AccessDenied, Busy, FormatError, GridfsError, IntegrityError, InvalidInput, Unsupported
from gridfs.life.download import Amount, Outlook, download
from gridfs.life.target import Target
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Entry, Kind, Mode, SourceBucket
from gridfs.store.simulated import SimulatedStore
from tests.support.data import ramp
from tests.support.made_versions import MTIME_NS, Link, Program, Tree, make_version
from tests.support.manifests import settings
from tests.support.on_trio import on_trio

MIB = 1 << 20
TREE: Tree = {
    b"a": ramp(3000),
    b"a-b": Program(ramp(70, 1)),
    b"dir": None,
    b"dir/b": ramp(5000, 2),
    b"dir/deep/er/c": ramp(50, 3),
    b"large": ramp(20 * MIB + 17, 4),
    b"link": Link(b"dir/b"),
    b"none": None,
    b"odd \xff\nname": ramp(1, 5),
    b"out": Link(b"/etc/passwd"),
    b"zero": b"",
}


@asynccontextmanager
async def opened(store: SimulatedStore, scratch: Path, tree: Tree = TREE) -> AsyncIterator[Contents]:
    catalog = Catalog(store)
    version = await make_version(catalog, scratch, tree)
    async with open_contents(catalog, version, scratch / "cache", StoreSettings("simulated://")) as contents:
        yield contents


def entry_at(contents: Contents, path: bytes) -> Entry:
    entry = contents.manifest.resolve(path)
    assert entry is not None
    return entry


def found_in(directory: Path) -> dict[bytes, bytes | Link | Program | None]:
    """The tree below *directory*, as TREE has it; asserts every mtime but those of directories that a tree implies."""
    found: dict[bytes, bytes | Link | Program | None] = {}
    for path in sorted(directory.rglob("*")):
        name = os.fsencode(path.relative_to(directory))
        if name.startswith(b".gridfs-partial"):
            continue  # of a download that failed
        status = path.lstat()
        if path.is_symlink():
            found[name] = Link(os.fsencode(os.readlink(path)))
        elif path.is_dir():
            found[name] = None
            continue
        else:
            data = path.read_bytes()
            found[name] = Program(data) if status.st_mode & 0o111 == 0o111 else data
        assert status.st_mtime_ns == MTIME_NS
    return found


def with_directories(tree: Tree) -> dict[bytes, object]:
    return dict(tree) | {b"dir/deep": None, b"dir/deep/er": None}


def fetched(store: SimulatedStore) -> int:
    return sum(request.sent_bytes for request in store.requests if request.key.startswith(objects_prefix("set")))


@on_trio
async def test_a_whole_version(tmp_path: Path) -> None:
    store = SimulatedStore()
    seen: list[tuple[int, int]] = []
    async with opened(store, tmp_path) as contents:
        outlook = await download(
            contents, entry_at(contents, b""), tmp_path / "new/dir", on_advance=lambda *so_far: seen.append(so_far)
        )
    assert found_in(tmp_path / "new/dir") == with_directories(TREE)
    assert not (tmp_path / "new/dir/.gridfs-partial").exists()
    assert (tmp_path / "new/dir/none").stat().st_mtime_ns == MTIME_NS
    assert outlook == Outlook(Amount(), Amount(7, 20 * MIB + 17 + 8121))
    assert seen == sorted(seen)
    assert seen[-1] == (7, 20 * MIB + 17 + 8121)


@on_trio
async def test_again_fetches_nothing(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        await download(contents, entry_at(contents, b""), tmp_path / "to")
        before = fetched(store)
        outlook = await download(contents, entry_at(contents, b""), tmp_path / "to")
        assert fetched(store) == before
        (tmp_path / "to/dir/b").unlink()
        await download(contents, entry_at(contents, b""), tmp_path / "to")
        assert before < fetched(store) <= before + 3 * 4096
    assert outlook == Outlook(Amount(7, 20 * MIB + 17 + 8121), Amount())
    assert found_in(tmp_path / "to") == with_directories(TREE)


@pytest.mark.parametrize("after", [1, 2, 3])
@on_trio
async def test_an_interrupted_one_goes_on_in_the_middle_of_a_file(tmp_path: Path, after: int) -> None:
    store = SimulatedStore()
    tree = {b"large": ramp(32 * MIB), b"small": ramp(10)}
    async with opened(store, tmp_path, tree) as contents:
        advanced = 0

        def interrupt(files: int, size_bytes: int) -> None:
            nonlocal advanced
            advanced += 1
            if advanced == after:
                raise KeyboardInterrupt

        with pytest.raises(BaseExceptionGroup):
            await download(contents, entry_at(contents, b""), tmp_path / "to", on_advance=interrupt)
        assert not (tmp_path / "to/large").exists()
        written = sum(path.stat().st_blocks * 512 for path in (tmp_path / "to").glob(".gridfs-partial/*"))
        assert written >= (after - 1) * 8 * MIB
        before = fetched(store)
        await download(contents, entry_at(contents, b""), tmp_path / "to")
        assert fetched(store) - before <= 32 * MIB - (after - 1) * 8 * MIB + 4096
    assert found_in(tmp_path / "to") == tree


@on_trio
async def test_what_an_earlier_run_wrote_is_verified(tmp_path: Path) -> None:
    tree = {b"large": ramp(20 * MIB)}
    async with opened(SimulatedStore(), tmp_path, tree) as contents:
        target = Target(tmp_path / "to", contents.version.manifest_sha256)
        assert target.lock()
        target.write(entry_at(contents, b"large"), 0, ramp(12 * MIB, 1))
        target.close()
        await download(contents, entry_at(contents, b""), tmp_path / "to")
    assert found_in(tmp_path / "to") == tree


@on_trio
async def test_two_at_once_into_one_directory(tmp_path: Path) -> None:
    """The one that ends first clears what is not whole; the other's large file had a hole then."""
    tree = {b"large": ramp(32 * MIB), b"small": ramp(10)}
    phases: list[str] = []
    async with opened(SimulatedStore(), tmp_path, tree) as contents, trio.open_nursery() as nursery:
        begun = trio.Event()

        async def copy(path: bytes, on_advance: Callable[[int, int], None] = lambda files, size_bytes: None) -> None:
            top = entry_at(contents, path)
            await download(contents, top, tmp_path / "to", on_phase=phases.append, on_advance=on_advance)

        nursery.start_soon(copy, b"large", lambda files, size_bytes: begun.set())
        await begun.wait()
        nursery.start_soon(copy, b"small")
        nursery.start_soon(copy, b"")
    assert found_in(tmp_path / "to") == tree
    assert sorted(os.listdir(tmp_path / "to")) == ["large", "small"]
    assert phases.count(f"waiting for another download into {tmp_path / 'to'}") == 2


def test_a_lock_that_its_holder_removes_is_not_taken_for_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before the holder's end and locked after it: whoever comes next makes a new one."""
    holder, waiting, third = (Target(tmp_path / "to", "0" * 64) for _ in range(3))
    assert holder.lock()
    flock = fcntl.flock

    def after_the_holder_s_end(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        holder.close()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_holder_s_end)
    assert not waiting.lock()
    assert third.lock()
    assert not waiting.lock()
    third.close()
    assert waiting.lock()
    waiting.close()
    assert os.listdir(tmp_path / "to") == []


@pytest.mark.parametrize("locks", [True, False])
def test_what_somebody_removed_is_never_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # Lustre

    file = Entry(2, 1, b"x", Kind.FILE, 0o644, 2, 0, 1, 0, None, None, None, None)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", flock)
    for found in (False, True):
        target = Target(tmp_path / "to", "0" * 64)
        assert target.lock()
        target.write(file, 0, b"1")
        if found:  # by a run that goes on where that one ended
            target.close()
            target = Target(tmp_path / "to", "0" * 64)
            assert target.lock()
            assert target.read_partial(file, 0, 1) == b"1"
        (tmp_path / "to/.gridfs-partial" / f"{'0' * 16}-2").unlink()
        with pytest.raises(Busy, match=r"gridfs-partial was emptied .*one download at a time"):
            target.write(file, 1, b"2")
        with pytest.raises(Busy):
            target.finish(b"x", file)
        target.close()
    assert os.listdir(tmp_path / "to") == []


@on_trio
async def test_a_part_of_the_tree(tmp_path: Path) -> None:
    async with opened(SimulatedStore(), tmp_path) as contents:
        await download(contents, entry_at(contents, b"dir"), tmp_path / "dir")
        await download(contents, entry_at(contents, b"dir/b"), tmp_path / "file")
        await download(contents, entry_at(contents, b"link"), tmp_path / "link")
    assert found_in(tmp_path / "dir") == {
        b"b": ramp(5000, 2), b"deep": None, b"deep/er": None, b"deep/er/c": ramp(50, 3),
    }  # fmt: skip
    assert found_in(tmp_path / "file") == {b"b": ramp(5000, 2)}
    assert found_in(tmp_path / "link") == {b"link": Link(b"dir/b")}


@on_trio
async def test_what_is_in_the_way_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    to = tmp_path / "to"
    (to / "large").mkdir(parents=True)
    (to / "a").write_bytes(b"somebody's own")
    async with opened(SimulatedStore(), tmp_path) as contents:
        with pytest.raises(InvalidInput, match=r"something else where these would go: 'a', 'large'; remove"):
            await download(contents, entry_at(contents, b""), to)
    assert sorted(os.listdir(to)) == ["a", "large"]
    assert (to / "a").read_bytes() == b"somebody's own"


@pytest.mark.parametrize("moment", ["looked", "written", "written, no links"])
@pytest.mark.parametrize("name", ["a", "large", "link", "zero"])
@on_trio
async def test_what_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    """Also the second of two names that the file system takes for one: the first is at its place then."""
    place, finish = tmp_path / "to" / name, Target.finish

    def appear(*_: object) -> None:
        place.write_bytes(b"somebody's own")

    def finish_late(target: Target, path: bytes, entry: Entry) -> None:
        if path == (b"zero" if name == "link" else os.fsencode(name)):  # links come last
            appear()
        finish(target, path, entry)

    def link(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))  # FAT

    async with opened(SimulatedStore(), tmp_path) as contents:
        with monkeypatch.context() as patched:
            if moment != "looked":
                patched.setattr(Target, "finish", finish_late)
            if moment == "written, no links":
                patched.setattr(os, "link", link)
            with pytest.raises(InvalidInput, match=f"to/{name} was not there .*remove it"):
                await download(
                    contents,
                    entry_at(contents, b""),
                    tmp_path / "to",
                    on_outlook=appear if moment == "looked" else lambda outlook: None,
                )
        assert place.read_bytes() == b"somebody's own"
        place.unlink()
        await download(contents, entry_at(contents, b""), tmp_path / "to")
    assert found_in(tmp_path / "to") == with_directories(TREE)


@pytest.mark.parametrize("other", [ramp(4, 1), None, Link(b"a")])
@on_trio
async def test_names_that_differ_by_case_where_case_does_not_count(tmp_path: Path, other: bytes | Link | None) -> None:
    """Such a file system can't be had everywhere: here a lock file by both names stands for it."""
    tree: Tree = {b"a/readme": ramp(1), b"b": None, b"b/README": ramp(3), b"b/one": b"", b"b/readme": other}
    partials = tmp_path / "to/.gridfs-partial"
    async with opened(SimulatedStore(), tmp_path, tree) as contents:
        await download(contents, entry_at(contents, b""), tmp_path / "apart")
        partials.mkdir(parents=True)
        (partials / "lock").touch()
        (partials / "LOCK").hardlink_to(partials / "lock")
        with pytest.raises(InvalidInput, match=r"to can't hold both 'b/README' and 'b/readme': .*; choose"):
            await download(contents, entry_at(contents, b""), tmp_path / "to")
        assert os.listdir(tmp_path / "to") == [".gridfs-partial"]
        await download(contents, entry_at(contents, b"a"), tmp_path / "to")
    assert (tmp_path / "to/readme").read_bytes() == ramp(1)


@on_trio
async def test_a_link_in_the_target_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for link in ("dir", "dir/deep"):
        to = tmp_path / link.replace("/", "-")
        (to / link).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(outside, to / link)
        async with opened(SimulatedStore(), tmp_path) as contents:
            with pytest.raises(InvalidInput):
                await download(contents, entry_at(contents, b""), to)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [b"..", b"../x", b"/etc/x", b"a/../../x", b".", b"", b"x\0y", b"a//b"])
def test_names_that_would_leave_the_target_are_refused(tmp_path: Path, name: bytes) -> None:
    """A manifest that somebody forged by hand; the writer refuses to make it."""
    file = Entry(2, 1, name, Kind.FILE, 0o644, 1, 0, 1, 0, None, None, None, None)
    target = Target(tmp_path / "to", "0" * 64)
    assert target.lock()
    target.write(file, 0, b"x")
    for act in (target.state, target.finish, target.make_link, target.set_directory_time):
        with pytest.raises((FormatError, InvalidInput)):
            act(name, file)
    with pytest.raises((FormatError, InvalidInput)):
        target.make_directory(name)
    target.close()
    assert sorted(os.listdir(tmp_path)) == ["to"]


@on_trio
async def test_wrong_bytes_are_never_written(tmp_path: Path) -> None:
    store = SimulatedStore()
    async with opened(store, tmp_path) as contents:
        for key in [key for key in store.contents() if key.startswith(objects_prefix("set"))]:
            data = bytearray(store.contents()[key])
            data[10] ^= 1
            store.place(key, data)
        with pytest.raises(IntegrityError, match="not those that were stored"):
            await download(contents, entry_at(contents, b""), tmp_path / "to")
    assert {b"a", b"large"}.isdisjoint(found_in(tmp_path / "to"))


@on_trio
async def test_a_no_copy_version_comes_from_its_bucket_in_the_generation_that_was_listed(tmp_path: Path) -> None:
    source = SimulatedStore()
    head = source.place("set/f", ramp(100))
    bucket = SourceBucket("bucket", None, None, "set/", signed=False)
    with ManifestWriter(tmp_path / "m", settings(mode=Mode.NO_COPY, bucket=bucket)) as writer:
        number = writer.add_object("set/f", 100, etag=head.etag)
        writer.add_entry(b"", b"f", Kind.FILE, 0o644, 100, MTIME_NS, object=number, offset=0)
        writer.finish()
    async with opened(SimulatedStore(), tmp_path, {b"x": b"y"}) as other:
        from gridfs.manifest.reader import Manifest

        with Manifest.open(tmp_path / "m") as manifest:
            contents = Contents(other.version, manifest, source, lambda record: record.key)
            await download(contents, entry_at(contents, b""), tmp_path / "to")
            assert found_in(tmp_path / "to") == {b"f": ramp(100)}
            source.place("set/f", ramp(100, 1))
            with pytest.raises(GridfsError):
                await download(contents, entry_at(contents, b""), tmp_path / "again")
    assert found_in(tmp_path / "again") == {}


@on_trio
async def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Target, entry: Entry, offset: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with opened(SimulatedStore(), tmp_path) as contents:
        with monkeypatch.context() as patched, pytest.raises(Unsupported, match=r"No space left.* then continues"):
            patched.setattr(Target, "write", write)
            await download(contents, entry_at(contents, b""), tmp_path / "to")
        await download(contents, entry_at(contents, b""), tmp_path / "to")
    assert found_in(tmp_path / "to") == with_directories(TREE)


@on_trio
async def test_a_place_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with opened(SimulatedStore(), tmp_path, {b"x": b"y"}) as contents:
        for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc/nothing")):
            with pytest.raises((GridfsError, AccessDenied), match=str(place)):
                await download(contents, entry_at(contents, b""), place)
    await trio.lowlevel.checkpoint()
