"""The file system without a kernel."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest
import trio

from gridfs.config import MountOptions
from gridfs.errors import IntegrityError, InvalidInput, NotFound
from gridfs.model import Buffer, ByteRange, Entry, Kind, ObjectRecord
from gridfs.vfs import FileSystem, View, Volume
from tests.support.data import ramp

OBJECT = ObjectRecord(1, "0" * 32, 1000, 0, "0" * 32)


def entry(inode: int, name: bytes, kind: Kind, parent: int = 1, mode: int = 0o644, size: int = 0, **more) -> Entry:
    fields = {"object": None, "offset": None, "sha256": None, "target": None, "first_child": None, "child_count": None}
    return Entry(inode, parent, name, kind, mode, size, 1_500_000_000_123_456_789, **fields | more)


TREE = {
    row.inode: row
    for row in [
        entry(1, b"", Kind.DIRECTORY, first_child=2, child_count=5),
        entry(2, b"empty", Kind.FILE),
        entry(3, b"file", Kind.FILE, size=300, object=1, offset=100, sha256=b"\x12" * 32),
        entry(4, b"link", Kind.SYMLINK, size=4, target=b"file"),
        entry(5, b"lost", Kind.FILE, size=10),
        entry(6, b"run", Kind.FILE, mode=0o700, size=5, object=1, offset=400),
    ]
}


class Metadata:
    def entry(self, inode: int) -> Entry | None:
        return TREE.get(inode)

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        return next((e for e in TREE.values() if e.parent == parent and e.name == name and e.inode > 1), None)

    def children(self, directory: Entry, after: int = 0) -> Iterator[Entry]:
        return (e for e in TREE.values() if e.parent == directory.inode and e.inode > max(after, 1))

    def object(self, number: int) -> ObjectRecord:
        assert number == 1
        return OBJECT


class Bytes:
    """The ramp; from memory, or after a wait; or too little of it."""

    def __init__(self, *, in_memory: bool = True, short_by: int = 0) -> None:
        self.in_memory = in_memory
        self.short_by = short_by

    def read_nowait(self, obj: ObjectRecord, byte_range: ByteRange, /) -> Buffer | None:
        return self._bytes(byte_range) if self.in_memory else None

    async def read(self, obj: ObjectRecord, byte_range: ByteRange, reach: ByteRange | None = None, /) -> Buffer:
        await trio.lowlevel.checkpoint()
        return self._bytes(byte_range)

    def _bytes(self, byte_range: ByteRange) -> bytes:
        return ramp(byte_range.size_bytes - self.short_by, byte_range.start)


def files(reader: Bytes | None = None) -> FileSystem:
    view = View.of(MountOptions(), uid=7, gid=8)
    return FileSystem(Metadata(), reader or Bytes(), view, Volume.of(total_bytes=315, entry_count=6))


def read(inode: int, offset: int, size: int, reader: Bytes | None = None) -> bytes:
    return bytes(trio.run(files(reader).read, inode, offset, size))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("offset", "size", "start", "stop"),
    [(0, 300, 100, 400), (0, 1, 100, 101), (299, 1, 399, 400), (10, 1000, 110, 400), (300, 10, 0, 0), (5000, 1, 0, 0)],
)
def test_read_is_clipped_to_the_file(in_memory: bool, offset: int, size: int, start: int, stop: int) -> None:
    assert read(3, offset, size, Bytes(in_memory=in_memory)) == ramp(stop - start, start)


def test_empty_file_reads_as_nothing() -> None:
    assert read(2, 0, 4096) == b""


@pytest.mark.parametrize("in_memory", [True, False])
def test_short_answer_of_a_reader_is_never_handed_on(in_memory: bool) -> None:
    """Invariant 3: the kernel would fill the rest of the page with zeros."""
    with pytest.raises(IntegrityError, match="gave 299 bytes"):
        read(3, 0, 300, Bytes(in_memory=in_memory, short_by=1))


def test_bytes_without_an_object_are_an_error() -> None:
    with pytest.raises(IntegrityError):
        read(5, 0, 10)


@pytest.mark.parametrize("inode", [1, 4])
def test_only_files_are_read(inode: int) -> None:
    with pytest.raises(InvalidInput):
        read(inode, 0, 10)


def test_unknown_inodes() -> None:
    for ask in (files().entry, files().readlink, lambda inode: list(files().listing(inode))):
        with pytest.raises(NotFound):
            ask(99)
    assert files().lookup(1, b"none") is None


def test_listing_goes_on_after_any_cookie() -> None:
    whole = list(files().listing(1))
    assert [line.name for line in whole] == [b".", b"..", b"empty", b"file", b"link", b"lost", b"run"]
    assert len({line.cookie for line in whole}) == len(whole)
    for position, line in enumerate(whole):
        assert list(files().listing(1, line.cookie)) == whole[position + 1 :]


def test_listing_of_a_file() -> None:
    with pytest.raises(InvalidInput):
        list(files().listing(3))


def test_readlink() -> None:
    assert files().readlink(4) == b"file"
    with pytest.raises(InvalidInput):
        files().readlink(3)


@pytest.mark.parametrize(
    ("options", "directory", "file", "executable"),
    [
        (MountOptions(), 0o555, 0o444, 0o555),
        (MountOptions(umask=0o027), 0o550, 0o440, 0o550),
        (MountOptions(file_mode=0o400, dir_mode=0o700), 0o700, 0o400, 0o500),
        (MountOptions(file_mode=0o640, umask=0o077), 0o500, 0o600, 0o700),
    ],
)
def test_modes(options: MountOptions, directory: int, file: int, executable: int) -> None:
    view = View.of(options, uid=1, gid=2)
    assert view.mode_of(TREE[1]) == stat.S_IFDIR | directory
    assert view.mode_of(TREE[3]) == stat.S_IFREG | file
    assert view.mode_of(TREE[6]) == stat.S_IFREG | executable
    assert view.mode_of(TREE[4]) == stat.S_IFLNK | 0o777


def test_owner_is_the_mounter_unless_options_name_another() -> None:
    view = View.of(MountOptions(), uid=1, gid=2)
    assert (view.uid, view.gid) == (1, 2)
    view = View.of(MountOptions(uid=0, gid=5), uid=1, gid=2)
    assert (view.uid, view.gid) == (0, 5)


def test_volume_rounds_up() -> None:
    assert Volume.of(total_bytes=4097, entry_count=3) == Volume(2, 3)
    assert Volume.of(total_bytes=0, entry_count=1).block_count == 0


def test_attributes_of_origin() -> None:
    assert files().attributes_of_origin(3) == {
        b"user.gridfs.inode": b"3",
        b"user.gridfs.object": b"0" * 32,
        b"user.gridfs.offset": b"100",
        b"user.gridfs.sha256": b"12" * 32,
    }
    assert files().attributes_of_origin(1) == {b"user.gridfs.inode": b"1"}
