"""What only a directory store promises: the order in which things reach the disk, and what crashes leave."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gridfs import raw_io
from gridfs.cache.buffers import new_area
from gridfs.errors import AccessDenied, InvalidInput, StoreFull, StoreUnavailable, Unsupported
from gridfs.store import directory, directory_files
from gridfs.store.directory import DirectoryStore
from tests.support.on_trio import on_trio

WRITER = """
import sys, trio
from pathlib import Path
from gridfs.store.directory import DirectoryStore

async def commit() -> None:
    store = DirectoryStore(Path(sys.argv[1]))
    async def chunks():
        yield b"x" * 100
        yield b"y" * 100
    await store.put_stream("datastores/d/objects/ab/pack", chunks())
    await store.put("datastores/d/manifests/hash.sqlite.zst", b"manifest")
    await store.sync()
    await store.put_if_absent("datastores/d/versions/00000001.json", b"record")

trio.run(commit)
"""

TRACED = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2"
CALL = re.compile(r"^(?:\d+ +)?(fsync|fdatasync|link|linkat|rename|renameat|renameat2)\((.*)\) += 0$")
PATH = re.compile(r'<([^>]*)>|"([^"]*)"')


def system_calls(root: Path, trace: Path) -> list[tuple[str, list[str]]]:
    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", TRACED, sys.executable, "-c", WRITER, root],
        check=True,
    )
    calls = []
    for line in trace.read_text().splitlines():
        if match := CALL.match(line):
            paths = [a or b for a, b in PATH.findall(match[2])]
            calls.append((match[1], [path for path in paths if path.startswith(str(root.parent))]))
    return calls


def test_invariant_1_a_commit_record_names_only_what_a_power_cut_leaves(tmp_path: Path) -> None:
    root = tmp_path / "store"
    calls = system_calls(root, tmp_path / "trace")
    version = str(root / "datastores/d/versions/00000001.json")
    linked = next(n for n, (name, paths) in enumerate(calls) if name.startswith("link") and paths[-1] == version)
    synced = [paths[0] for name, paths in calls[:linked] if name == "fsync"]

    for key in ("datastores/d/objects/ab/pack", "datastores/d/manifests/hash.sqlite.zst"):
        placed = next(n for n, (_, paths) in enumerate(calls) if paths[-1] == str(root / key) and len(paths) == 2)
        temporary = calls[placed][1][0]
        assert ("fsync", [temporary]) in calls[:placed], f"{key} was renamed before its data was synced"
        directory_of_key = str((root / key).parent)
        synced_at = next(n for n, call in enumerate(calls) if call == ("fsync", [directory_of_key]))
        assert placed < synced_at < linked, f"the directory of {key} was not synced between its rename and the commit"
    for made in ("", "datastores", "datastores/d", "datastores/d/objects"):
        assert str(root / made).rstrip("/") in synced, f"{made!r} holds a new directory and was not synced"
    assert str(tmp_path) in synced
    assert calls[linked - 1][0] == "fsync", "the record itself was not synced before it was linked"
    assert ("fsync", [str(root / "datastores/d/versions")]) in calls[linked:]


@on_trio
async def test_what_crashed_writers_left_is_removed_after_a_week(tmp_path: Path) -> None:
    temporary = tmp_path / ".tmp"
    temporary.mkdir()
    for name, age_s in (("old", 8 * 86400), ("young", 6 * 86400)):
        (temporary / name).write_bytes(b"partial")
        os.utime(temporary / name, (time.time() - age_s,) * 2)
    await DirectoryStore(tmp_path).put("k", b"x")
    assert sorted(path.name for path in temporary.iterdir()) == ["young"]


def test_a_temporary_that_vanishes_while_others_are_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / ".tmp"
    temporary.mkdir()
    for name in ("a", "b", "c"):
        (temporary / name).touch()
        os.utime(temporary / name, (0, 0))
    listed = list(os.scandir(temporary))
    os.rename(listed[0], tmp_path / "object")  # as its writer does
    monkeypatch.setattr(directory_files.os, "scandir", lambda _: contextlib.nullcontext(listed))
    directory_files.sweep(temporary)
    assert not list(temporary.iterdir())


@on_trio
async def test_what_could_not_be_synced_is_synced_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 1: who asks again after a failure must not be told that all is durable."""
    synced: list[Path] = []

    def sync_directory(path: Path) -> None:
        synced.append(path)
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(directory, "sync_directory", sync_directory)
    store = DirectoryStore(tmp_path)
    await store.put("a/b/object", b"x")
    with pytest.raises(StoreUnavailable):
        await store.sync()
    first, synced[:] = list(synced), [tmp_path, tmp_path]
    await store.sync()
    assert set(synced) >= {tmp_path / "a/b", tmp_path / "a", *first}


@on_trio
async def test_a_file_system_without_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(directory.os, "link", refuse)
    with pytest.raises(Unsupported, match="hard links"):
        await DirectoryStore(tmp_path).verify_create_only()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@on_trio
async def test_a_link_whose_answer_was_lost_is_no_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:  # as NFS does after a timeout
        link(source, target)
        link(source, target)

    monkeypatch.setattr(directory.os, "link", link_twice)
    store = DirectoryStore(tmp_path)
    await store.put_if_absent("k", b"x")
    assert await store.get("k") == b"x"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, AccessDenied),
        (errno.EACCES, AccessDenied),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.ENAMETOOLONG, InvalidInput),
    ],
)
def test_errors_of_the_file_system(code: int, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, directory_files.map_os_error("file:///s"):
        raise OSError(code, os.strerror(code), "/s/k")
    assert type(caught.value) is expected


@on_trio
async def test_a_store_below_a_file_is_named_as_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessDenied, match=r"file/store can't be made in the store .*--store"):
        await DirectoryStore(tmp_path / "file" / "store").put("k", b"x")


@on_trio
async def test_keys_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"secret")
    for key in ("../secret", "a/../../secret", ".tmp/x", "a\0b", "/etc/passwd"):
        with pytest.raises(InvalidInput):
            await store.get(key)
    with pytest.raises(InvalidInput):
        await store.put("x" * 300, b"")


PACK_BYTES = (3 << 20) + 100


def in_pages() -> memoryview:
    """A pack as a creation has it: in a mapping, so that it begins at a page; it ends within one."""
    pack = memoryview(new_area(PACK_BYTES))[:PACK_BYTES]
    pack[:] = os.urandom(PACK_BYTES)
    return pack


class Writes:
    """The calls of pwrite(2) of a store, each with whether it went past the page cache; *fail* may raise instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: Callable[[bool], None] = lambda direct: None) -> None:
        self.made: list[tuple[bool, int]] = []
        self._write = os.pwrite
        self._fail = fail
        monkeypatch.setattr(raw_io.os, "pwrite", self)

    def __call__(self, descriptor: int, data: memoryview, offset: int) -> int:
        direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        self._fail(direct)
        count = self._write(descriptor, data, offset)
        self.made.append((direct, count))
        return count


@on_trio
async def test_a_pack_is_written_past_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, writes = in_pages(), Writes(monkeypatch)
    await DirectoryStore(tmp_path).put("k", pack)
    assert writes.made == [(True, 3 << 20), (False, 100)]
    assert (tmp_path / "k").read_bytes() == pack


@on_trio
async def test_so_are_the_pieces_of_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, writes = [in_pages()[: 2 << 20], in_pages()], Writes(monkeypatch)

    async def chunks() -> AsyncIterator[memoryview]:
        for piece in pieces:
            yield piece

    await DirectoryStore(tmp_path).put_stream("k", chunks())
    assert writes.made == [(True, 2 << 20), (True, 3 << 20), (False, 100)]
    assert (tmp_path / "k").read_bytes() == b"".join(pieces)


@on_trio
async def test_what_lies_across_pages_is_written_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_direct(direct: bool) -> None:  # so do ext4 and XFS; others fall back themselves
        if direct:
            raise OSError(errno.EINVAL, "Invalid argument")

    pack, writes = in_pages()[1:], Writes(monkeypatch, refuse_direct)
    await DirectoryStore(tmp_path).put("k", pack)
    assert writes.made == [(False, PACK_BYTES - 1)]
    assert (tmp_path / "k").read_bytes() == pack


@on_trio
async def test_a_disk_that_is_full_says_so_past_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(direct: bool) -> None:
        assert direct
        raise OSError(errno.ENOSPC, "No space left on device")

    Writes(monkeypatch, fill_up)
    with pytest.raises(StoreFull):
        await DirectoryStore(tmp_path).put("k", in_pages())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
