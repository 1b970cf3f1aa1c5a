"""The folder source: what it finds, and what it says of a file that is not as it was (create/folder.py)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gridfs.create.folder import local_source
from gridfs.create.source import Found, Outcome, Wanted
from gridfs.errors import InvalidInput, NotFound, SourceProblem
from gridfs.model import Kind, Problem
from tests.support.data import ramp
from tests.support.on_trio import on_trio


class Collected:
    """A Listing that keeps everything."""

    def __init__(self) -> None:
        self.found: dict[bytes, Found] = {}
        self.problems: list[Problem] = []

    def add(self, found: Found) -> None:
        assert found.path not in self.found, "a folder names nothing twice"
        self.found[found.path] = found

    def add_files(self, files: Sequence[Found]) -> None:
        for file in files:
            self.add(file)

    def add_problem(self, problem: Problem) -> None:
        self.problems.append(problem)


async def scanned(path: Path) -> Collected:
    collected = Collected()
    await local_source(path).scan(collected)
    return collected


@on_trio
async def test_a_link_to_a_directory_is_a_link_and_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_bytes(b"s")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "other")
    found = (await scanned(tmp_path / "folder")).found
    assert list(found) == [b"", b"link"]
    assert found[b"link"].kind is Kind.SYMLINK
    assert found[b"link"].target == os.fsencode(tmp_path / "other")


@on_trio
async def test_a_link_to_a_folder_may_be_the_source(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"f")
    (tmp_path / "link").symlink_to("folder")
    assert list((await scanned(tmp_path / "link")).found) == [b"", b"file"]


@on_trio
async def test_a_directory_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(b"mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"hers")
    source, collected = local_source(folder), Collected()
    await source.scan(collected)
    (folder / "sub").rename(tmp_path / "gone")
    (folder / "sub").symlink_to(tmp_path / "other")
    buffer = memoryview(bytearray(4))
    readings = await source.read([Wanted(collected.found[b"sub/file"], 0, buffer)])
    assert readings[0].outcome is Outcome.UNREADABLE
    assert bytes(buffer) == bytes(4)
    assert await source.look_again(collected.found[b"sub/file"]) is None


@on_trio
async def test_one_file_is_a_datastore_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(ramp(1000))
    (tmp_path / "beside").write_bytes(b"b")
    source, collected = local_source(tmp_path / "data.zip"), Collected()
    await source.scan(collected)
    assert list(collected.found) == [b"", b"data.zip"]
    buffer = memoryview(bytearray(1000))
    assert (await source.read([Wanted(collected.found[b"data.zip"], 0, buffer)]))[0].outcome is Outcome.READ
    assert bytes(buffer) == ramp(1000)


@on_trio
async def test_a_link_to_a_file_gives_the_file_the_name_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "blob-0815").write_bytes(ramp(10))
    (tmp_path / "data.bin").symlink_to("blob-0815")
    source, collected = local_source(tmp_path / "data.bin"), Collected()
    await source.scan(collected)
    buffer = memoryview(bytearray(10))
    assert (await source.read([Wanted(collected.found[b"data.bin"], 0, buffer)]))[0].outcome is Outcome.READ
    assert bytes(buffer) == ramp(10)


@on_trio
async def test_ranges_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(ramp(10_000))
    source, collected = local_source(tmp_path), Collected()
    await source.scan(collected)
    parts = [memoryview(bytearray(4000)) for _ in range(2)]
    file = collected.found[b"file"]
    readings = await source.read([Wanted(file, 100, parts[0]), Wanted(file, 5000, parts[1])])
    assert [reading.outcome for reading in readings] == [Outcome.READ] * 2
    assert [bytes(part) for part in parts] == [ramp(4000, 100), ramp(4000, 5000)]


@pytest.mark.parametrize("change", ["append", "truncate", "rewrite", "replace", "touch"])
@on_trio
async def test_another_generation_is_never_called_read(tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(ramp(1000))
    before = file.stat()
    source, collected = local_source(tmp_path), Collected()
    await source.scan(collected)
    if change == "append":
        with file.open("ab") as more:
            more.write(b"x")
    elif change == "truncate":
        os.truncate(file, 999)
    elif change == "replace":
        (tmp_path / "new").write_bytes(ramp(1000, 7))
        (tmp_path / "new").rename(file)
    elif change == "touch":
        os.utime(file, ns=(0, 0))
    else:
        file.write_bytes(ramp(1000, 3))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # hides from mtime; the ctime tells
    buffer = memoryview(bytearray(1000))
    assert (await source.read([Wanted(collected.found[b"file"], 0, buffer)]))[0].outcome is Outcome.CHANGED
    again = await source.look_again(collected.found[b"file"])
    assert again is not None
    buffer = memoryview(bytearray(again.size))
    assert (await source.read([Wanted(again, 0, buffer)]))[0].outcome is Outcome.READ
    assert bytes(buffer) == file.read_bytes()


@on_trio
async def test_a_file_that_is_gone_is_unreadable_and_disturbs_no_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(ramp(10))
    source, collected = local_source(tmp_path), Collected()
    await source.scan(collected)
    (tmp_path / "a").unlink()
    buffers = [memoryview(bytearray(10)) for _ in range(2)]
    a, b = collected.found[b"a"], collected.found[b"b"]
    readings = await source.read([Wanted(a, 0, buffers[0]), Wanted(b, 0, buffers[1])])
    assert [reading.outcome for reading in readings] == [Outcome.UNREADABLE, Outcome.READ]
    assert "gone" in readings[0].detail


@on_trio
async def test_a_fifo_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(ramp(10))
    source, collected = local_source(tmp_path), Collected()
    await source.scan(collected)
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    readings = await source.read([Wanted(collected.found[b"file"], 0, memoryview(bytearray(10)))])
    assert readings[0].outcome is Outcome.CHANGED
    assert await source.look_again(collected.found[b"file"]) is None


@on_trio
async def test_directories_of_gridfs_itself_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "object").write_bytes(b"o")
    collected = Collected()
    await local_source(tmp_path, leave_out=[tmp_path / "store", tmp_path / "absent"]).scan(collected)
    assert list(collected.found) == [b""]
    assert [problem.reason for problem in collected.problems] == ["own-directory"]


@on_trio
async def test_directories_of_gridfs_that_are_made_after_the_source_was_opened(tmp_path: Path) -> None:
    source = local_source(tmp_path, leave_out=[tmp_path / "store"])
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "lease").write_bytes(b"l")
    collected = Collected()
    await source.scan(collected)
    assert list(collected.found) == [b""]
    assert [problem.reason for problem in collected.problems] == ["own-directory"]


@on_trio
async def test_a_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 250
    for _ in range(20):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(file, ramp(50))
    os.close(file)
    os.close(here)
    source, collected = local_source(tmp_path), Collected()
    await source.scan(collected)
    path = b"/".join([name.encode()] * 20 + [b"file"])
    buffer = memoryview(bytearray(50))
    assert (await source.read([Wanted(collected.found[path], 0, buffer)]))[0].outcome is Outcome.READ
    assert bytes(buffer) == ramp(50)


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        local_source(tmp_path / "absent")


def test_a_source_that_is_neither_folder_nor_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe"):
        local_source(tmp_path / "pipe")


@on_trio
async def test_a_change_among_times_that_are_clamped_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    stamps = []
    for year_ns in (9_400_000_000_000_000_000, 13_500_000_000_000_000_000, -2_000_000_000_000_000_000):
        os.utime(file, ns=(0, year_ns))
        first, again = [(await scanned(tmp_path)).found[b"file"] for _ in range(2)]
        assert first == again
        assert first.stamp[8:16] == (year_ns % (1 << 64)).to_bytes(8, "little")
        stamps.append(first.stamp)
    assert len(set(stamps)) == 3
    buffer = memoryview(bytearray(3))
    source, found = local_source(tmp_path), (await scanned(tmp_path)).found[b"file"]
    assert [reading.outcome for reading in await source.read([Wanted(found, 0, buffer)])] == [Outcome.READ]


@on_trio
async def test_a_listing_that_breaks_off_is_a_problem_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    class Broken:
        def __init__(self, descriptor: int) -> None:
            self._listing = scandir(descriptor)

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            self._listing.close()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            yield from self._listing
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Broken)
    with pytest.raises(SourceProblem, match="can't be read: Input/output error"):
        await scanned(tmp_path)
    collected = Collected()
    await local_source(tmp_path, skip_unreadable=True).scan(collected)
    assert list(collected.found) == [b"", b"file"]
    assert collected.problems == [Problem("unreadable", b"", "Input/output error")]
