"""The image of a version: an independent reader of the format finds in it what is in the manifest."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gridfs import erofs
from gridfs.config import MountOptions
from gridfs.errors import IntegrityError
from gridfs.image import Image
from gridfs.image_addresses import LARGEST_MEAN_FILE_BYTES, SMALL_BYTES, Addresses, nid_of, pays
from gridfs.manifest.reader import Manifest
from gridfs.model import Buffer, ByteRange, Kind, ObjectRecord
from gridfs.vfs import FileSystem, View, Volume
from tests.support import erofs as oracle
from tests.support.data import ramp
from tests.support.manifests import BLOCK_SIZE_BYTES, Node, write_tree

NAMES = st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
SIZES = st.sampled_from([0, 1, 4095, 4096, 4097, 110_000, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, 600_000])


class Objects:
    """Objects whose bytes are a ramp of their own; what was asked for is kept."""

    def __init__(self, *, in_memory: bool = True) -> None:
        self.in_memory = in_memory
        self.reads: list[tuple[ByteRange, ByteRange | None]] = []

    def read_nowait(self, obj: ObjectRecord, byte_range: ByteRange, /) -> Buffer | None:
        return ramp(byte_range.size_bytes, byte_range.start + 7 * obj.number) if self.in_memory else None

    async def read(self, obj: ObjectRecord, byte_range: ByteRange, reach: ByteRange | None = None, /) -> Buffer:
        await trio.lowlevel.checkpoint()
        self.reads.append((byte_range, reach))
        return ramp(byte_range.size_bytes, byte_range.start + 7 * obj.number)


def placed(names: list[bytes], sizes: list[int], gap: int) -> tuple[list[Node], list[int]]:
    """Files of *sizes*, put into objects of some each, *gap* bytes apart and so rarely at the beginning of a block."""
    nodes, objects, end = [], [], 0
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        if not size:
            nodes.append(Node(name, mode=0o755))
            continue
        if not objects or index % 5 == 0:
            objects.append(0)
            end = 0
        nodes.append(Node(name, size=size, object=len(objects), offset=end, mtime_ns=index * 10**9 - 3))
        end += size + gap
        objects[-1] = end
    return nodes, objects


OPENED: list[Manifest] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def image_of(path: Path, reader: Objects | None = None, options: MountOptions | None = None) -> tuple[Image, Manifest]:
    manifest = Manifest.open(path)
    OPENED.append(manifest)
    info = manifest.info
    view = View.of(options or MountOptions(), uid=7, gid=8)
    volume = Volume.of(total_bytes=info.total_bytes, entry_count=info.entry_count)
    return Image(manifest, FileSystem(manifest, reader or Objects(), view, volume), "gridfs:a@1"), manifest


def read(image: Image, offset: int, size_bytes: int) -> bytes:
    """As the kernel gets it."""
    return bytes(trio.run(image.read, offset, size_bytes)).ljust(size_bytes, b"\0")


def look(image: Image) -> oracle.Image:
    return oracle.Image(lambda offset, size: read(image, offset, size))


def assert_same(image: Image, manifest: Manifest) -> None:
    """Names, attributes and bytes are the manifest's, names can be found by bisection, and no two contents meet."""
    seen = look(image)
    found = dict(seen.walk())
    entries = dict(manifest.walk())
    assert sorted(found) == sorted(entries)
    used: set[int] = set()
    for path, entry in entries.items():
        inode = found[path]
        assert inode.nid == nid_of(entry.inode)
        assert (inode.uid, inode.gid, inode.mtime_ns, inode.links) == (7, 8, entry.mtime_ns, 1)
        assert inode.mode == View.of(MountOptions(), uid=7, gid=8).mode_of(entry)
        if entry.kind == Kind.DIRECTORY:
            listing = seen.listing(inode)
            names = [name for name, _, _ in listing]
            assert names == sorted(set(names))
            nids = {name: nid for name, nid, _ in listing}
            assert (nids[b"."], nids[b".."]) == (nid_of(entry.inode), nid_of(entry.parent))
            assert all(kind == seen_kind(seen.inode(nid).mode) for _, nid, kind in listing)
        else:
            assert inode.size == entry.size
            wanted = entry.target or ramp(entry.size, (entry.offset or 0) + 7 * (entry.object or 0))
            assert seen.content(inode) == wanted
        if inode.size:
            blocks = set(range(inode.block, inode.block - (-inode.size // erofs.BLOCK_BYTES)))
            assert not used & blocks
            assert max(blocks) < image.addresses.end
            used |= blocks


def seen_kind(mode: int) -> int:
    return {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFLNK: 7}[stat.S_IFMT(mode)]


@given(
    names=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=30),
    sizes=st.lists(SIZES, min_size=30, max_size=30),
    gap=st.sampled_from([0, 1, 5000]),
)
@hypothesis_settings(deadline=None, max_examples=60)
def test_whatever_the_tree_it_is_read_as_it_is(names: list[list[bytes]], sizes: list[int], gap: int) -> None:
    # A name that begins a file's path can't be a file too; `.` and `..` are no names.
    paths = {b"/".join(b"d" + part for part in parts[:-1]) + b"/" * (len(parts) > 1) + parts[-1] for parts in names}
    paths = {path for path in paths if path.rpartition(b"/")[2] not in (b".", b"..")}
    directories = {path[:end] for path in paths for end in range(len(path)) if path[end : end + 1] == b"/"}
    files = sorted(paths - directories)
    nodes, objects = placed(files, sizes[: len(files)], gap)
    with tempfile.TemporaryDirectory() as directory:
        write_tree(Path(directory, "manifest"), nodes, objects)
        image, manifest = image_of(Path(directory, "manifest"))
        with manifest:
            assert_same(image, manifest)


def test_names_on_both_sides_of_the_dots(tmp_path: Path) -> None:
    """Records lie in byte order, and `.` is not the lowest byte of a name: `!`, `+` and `-` come before it."""
    names = [b"!", b"+a", b"-", b"-dash", b".-", b"..a", b".a", b"/".join((b"-d", b"!x")), b"a", b"\xff"]
    write_tree(tmp_path / "manifest", [Node(name) for name in names])
    image, manifest = image_of(tmp_path / "manifest")
    assert_same(image, manifest)
    root = look(image).listing(look(image).inode(nid_of(1)))
    assert [name for name, _, _ in root][:7] == [b"!", b"+a", b"-", b"-d", b"-dash", b".", b".-"]


@pytest.mark.parametrize("before_the_dots", [b"", b"!"])
@pytest.mark.parametrize("count", [0, 1, 13, 14, 15, 98, 99, 100, 101, 1000])
def test_directories_of_any_length(tmp_path: Path, count: int, before_the_dots: bytes) -> None:
    names = [b"below/%s%03d" % (before_the_dots, number) for number in range(count)]
    write_tree(tmp_path / "manifest", [Node(b"below", Kind.DIRECTORY), *map(Node, names)])
    image, manifest = image_of(tmp_path / "manifest")
    assert_same(image, manifest)


def test_links_and_long_names(tmp_path: Path) -> None:
    nodes = [
        Node(b"link", Kind.SYMLINK, size=4000, target=b"x" * 4000),
        *(Node(b"%c" % n * 255) for n in range(65, 99)),
    ]
    write_tree(tmp_path / "manifest", nodes)
    image, manifest = image_of(tmp_path / "manifest")
    assert image.addresses.per_block == 15
    assert_same(image, manifest)


def test_a_manifest_that_does_not_say_its_longest_name_gets_room_for_any(tmp_path: Path) -> None:
    info = write_tree(tmp_path / "manifest", [Node(b"file")])
    assert info.longest_name_bytes == 4
    assert Addresses(info).per_block == 256
    assert Addresses(replace(info, longest_name_bytes=None)).per_block == 15


def test_a_version_of_8_tib_has_no_image(tmp_path: Path) -> None:
    info = write_tree(tmp_path / "manifest", [Node(b"file")])
    for tib, fits in (7, True), (8, False):
        large = replace(info, block_count=(tib << 40) // BLOCK_SIZE_BYTES)
        assert Addresses(large).fits == fits


def test_a_version_of_large_files_has_no_image(tmp_path: Path) -> None:
    info = write_tree(tmp_path / "manifest", [Node(b"a"), Node(b"b")])
    assert pays(replace(info, total_bytes=2 * LARGEST_MEAN_FILE_BYTES))
    assert not pays(replace(info, total_bytes=2 * LARGEST_MEAN_FILE_BYTES + 2))


def test_a_look_for_signatures_finds_zeros_and_fetches_nothing(tmp_path: Path) -> None:
    """What udev does with a new block device: its first and last megabytes."""
    write_tree(tmp_path / "manifest", [Node(b"file", size=1000, object=1, offset=0)], [1000])
    objects = Objects(in_memory=False)
    image, _ = image_of(tmp_path / "manifest", objects)
    image.has_two_devices = True
    beginning, end = read(image, 0, 1 << 20), read(image, image.size_bytes - (1 << 20), 1 << 20)
    assert not any(beginning[8 * erofs.BLOCK_BYTES :])
    assert not any(end)
    content = image.addresses.metadata_bytes  # the end of one device, and the beginning of the next
    assert not any(read(image, content - (1 << 20), 1 << 20))
    assert not any(read(image, content, 1 << 20))
    assert objects.reads == []


def test_metadata_and_content_can_lie_on_a_device_each(tmp_path: Path) -> None:
    nodes = [Node(b"d/%d" % number, size=size, object=1, offset=0) for number, size in enumerate([1000, 600_000])]
    nodes.append(Node(b"link", Kind.SYMLINK, size=3, target=b"d/0"))
    write_tree(tmp_path / "manifest", nodes, [600_000])
    image, manifest = image_of(tmp_path / "manifest")
    image.has_two_devices = True
    begin = image.addresses.metadata_bytes
    seen = oracle.Image(lambda offset, size: read(image, offset, size), begin)
    assert seen.blocks == -(-manifest.info.total_bytes // erofs.BLOCK_BYTES)
    found = dict(seen.walk())
    assert {path: inode.device for path, inode in found.items() if not stat.S_ISDIR(inode.mode)} == {
        b"d/0": 1, b"d/1": 1, b"link": 0
    }  # fmt: skip
    assert seen.content(found[b"d/1"]) == ramp(600_000, 7)
    assert all(inode.block < begin // erofs.BLOCK_BYTES for inode in found.values() if not inode.device)


def test_who_reads_the_beginning_of_a_small_file_gets_all_of_it_fetched(tmp_path: Path) -> None:
    """The kernel asks for a file of 110 KiB by two requests at once when its pages are scattered."""
    write_tree(tmp_path / "manifest", [Node(b"file", size=110_000, object=1, offset=50)], [200_000])
    objects = Objects(in_memory=False)
    image, _ = image_of(tmp_path / "manifest", objects)
    offset = look(image).inode(nid_of(2)).block * erofs.BLOCK_BYTES
    read(image, offset, 65536)
    read(image, offset + 65536, 45056)
    assert objects.reads == [
        (ByteRange(50, 65586), ByteRange(50, 110_050)),
        (ByteRange(65586, 110_050), None),
    ]


def test_who_reads_all_inodes_is_read_ahead_of(tmp_path: Path) -> None:
    write_tree(tmp_path / "manifest", [Node(b"%04d" % number) for number in range(42 * 50)])
    image, _ = image_of(tmp_path / "manifest")
    asked: list[tuple[int, int]] = []
    image.on_scan = lambda offset, size: asked.append((offset // 4096, size // 4096))
    for block in (5, 20, 7, 30, 31, 9):  # here and there
        read(image, block * 4096, 4096)
    assert asked == []
    for block in (1, 2, 3):
        read(image, block * 4096, 4096)
    assert asked == [(4, 32)]
    read(image, 4 * 4096, 32 * 4096)  # as it was asked
    assert asked[1:] == [(36, image.addresses.directories - 36)]
    read(image, 36 * 4096, (image.addresses.directories - 36) * 4096)
    assert len(asked) == 2


def test_reads_go_across_blocks_and_beginnings_of_metadata(tmp_path: Path) -> None:
    write_tree(tmp_path / "manifest", [Node(b"%03d" % number) for number in range(200)])
    image, _ = image_of(tmp_path / "manifest")
    whole = read(image, 0, 8 * erofs.BLOCK_BYTES)
    assert read(image, 5000, 10_000) == whole[5000:15_000]
    assert len(whole) == 8 * erofs.BLOCK_BYTES


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_read_across_files_has_the_bytes_of_all(tmp_path: Path, in_memory: bool) -> None:
    """Neighbours, of whose requests the block layer makes one; so are the last small and the first large file."""
    sizes = [SMALL_BYTES + 1, 600_000, SMALL_BYTES, SMALL_BYTES - 1, SMALL_BYTES - 4095, 5000, 0, SMALL_BYTES]
    nodes = [
        Node(b"%d" % number, size=size, object=1, offset=sum(sizes[:number])) if size else Node(b"%d" % number)
        for number, size in enumerate(sizes)
    ]
    write_tree(tmp_path / "manifest", nodes, [sum(sizes)])
    image, _ = image_of(tmp_path / "manifest", Objects(in_memory=in_memory))
    seen = look(image)
    inodes = [inode for inode in dict(seen.walk()).values() if stat.S_ISREG(inode.mode) and inode.size]
    begin = min(inode.block for inode in inodes) * erofs.BLOCK_BYTES
    end = max(inode.block * erofs.BLOCK_BYTES + inode.size for inode in inodes)
    whole = bytearray(end - begin)
    for inode in inodes:
        place = inode.block * erofs.BLOCK_BYTES - begin
        whole[place : place + inode.size] = seen.content(inode)
    assert read(image, begin, end - begin) == whole
    for offset in range(0, len(whole) - SMALL_BYTES, 5 * erofs.BLOCK_BYTES):
        for size in (2 * erofs.BLOCK_BYTES, SMALL_BYTES):
            assert read(image, begin + offset, size) == whole[offset : offset + size]


def test_an_address_that_no_file_has_is_an_error_and_no_bytes(tmp_path: Path) -> None:
    write_tree(tmp_path / "manifest", [Node(b"file", size=1000, object=1, offset=0)], [1000])
    image, _ = image_of(tmp_path / "manifest")
    with pytest.raises(IntegrityError):
        read(image, image.addresses.large * erofs.BLOCK_BYTES, 4096)


def test_a_block_that_would_not_hold_its_records_is_refused() -> None:
    with pytest.raises(ValueError, match="16 entries need"):
        erofs.directory_block([(b"x" * 250 + b"%03d" % number, number, 1) for number in range(16)])
