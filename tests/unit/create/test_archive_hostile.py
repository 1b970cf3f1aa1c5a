"""Hostile and damaged archives: each ends in the right outcome, commits nothing it should not, and nothing escapes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from gridfs.catalog import Catalog
from gridfs.config import Paths
from gridfs.create import archive_rules
from gridfs.create.archive_rules import entry_path, link_stays_inside
from gridfs.create.workplace import incomplete
from gridfs.errors import SourceProblem
from gridfs.model import Kind
from gridfs.store.simulated import SimulatedStore
from tests.support.archives import member, tar_of, zip_of
from tests.support.creations import PACK, Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.versions import folder_tree
from tests.support.web_server import Resource, Server, web_server

DIRECTORY, SYMLINK, HARD_LINK, FIFO, CHARACTER, BLOCK_DEVICE = b"5", b"2", b"1", b"6", b"3", b"4"


@pytest.fixture
def place(tmp_path: Path, private_dirs: Paths) -> Place:
    """In memory: what a directory costs is the waiting for the disk."""
    return Place(tmp_path, private_dirs, SimulatedStore())


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as server:
        yield server


async def refused(place: Place, server: Server, content: bytes, match: str) -> None:
    """The creation fails with that message and leaves no version and no journal."""
    with pytest.raises(SourceProblem, match=match):
        await place.create_from(server.serve("/x", Resource(content)))
    assert await Catalog(place.store).versions("set") == []


BAD_NAMES = {
    "../evil": "leads out",
    "a/../../evil": "leads out",
    "a/..": "leads out",
    "/etc/evil": "absolute",
    "//evil": "absolute",
    "C:/evil": "drive letter",
    "c:evil": "drive letter",
    "n" * 256: "more than 255",
    "/".join(["n" * 200] * 21): "more than 4095",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@on_trio
async def test_names_that_leave_the_root_are_refused(place: Place, server: Server, name: str) -> None:
    await refused(place, server, tar_of((member("good"), b"g"), (member(name), b"x")), BAD_NAMES[name])
    await refused(place, server, zip_of(("good", b"g"), (name, b"x")), BAD_NAMES[name])
    assert incomplete(place.paths) == [], "nothing was durable, so there is nothing to go on with"


@on_trio
async def test_a_zip_made_on_dos_leaves_by_backslashes(place: Place, server: Server) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("a\\b")
        info.create_system = 0
        archive.writestr(info, b"x")
    await place.create_from(server.serve("/y", Resource(out.getvalue())))
    assert set((await place.tree()).nodes) == {b"", b"a", b"a/b"}
    evil = out.getvalue().replace(b"a\\b", b"..\\")
    with pytest.raises(SourceProblem, match="leads out"):
        await place.create_from(server.serve("/x", Resource(evil)))


def test_paths() -> None:
    assert entry_path(b"./a//b/./c/", "x") == b"a/b/c"
    assert entry_path(b"./", "x") == b""
    assert entry_path(b"...", "x") == b"..."
    assert entry_path(b"a\\..\\b", "x") == b"a\\..\\b"
    with pytest.raises(SourceProblem, match="NUL"):
        entry_path(b"a\0b", "x")


@pytest.mark.parametrize(
    ("path", "target", "stays"),
    [
        (b"a", b"b", True),
        (b"a", b"./b/c", True),
        (b"d/a", b"../b", True),
        (b"d/e/a", b"../../b", True),
        (b"a", b"..", False),
        (b"d/a", b"../..", False),
        (b"a", b"/etc/passwd", False),
        (b"a", b"b/../..", False),
        (b"a", b"b/..", False),
        (b"d/a", b"../b/../../c", False),
        (b"a", b"", False),
        (b"a", b"b\0c", False),
        (b"a", b"n" * 5000, False),
    ],
)
def test_links_that_stay_inside(path: bytes, target: bytes, stays: bool) -> None:
    assert link_stays_inside(path, target) is stays


@on_trio
async def test_links_that_lead_out_are_left_out_and_reported(place: Place, server: Server) -> None:
    content = tar_of(
        (member("good", SYMLINK, "d/file"), b""),
        (member("absolute", SYMLINK, "/etc/passwd"), b""),
        (member("above", SYMLINK, "../x"), b""),
        (member("d", DIRECTORY), b""),
        (member("d/here", SYMLINK, "."), b""),
        (member("d/chain", SYMLINK, "here/../.."), b""),
        (member("d/file"), b"x"),
    )
    await place.create_from(server.serve("/x", Resource(content)))
    tree = await place.tree()
    assert set(tree.nodes) == {b"", b"good", b"d", b"d/here", b"d/file"}
    assert tree.reasons() == {"link-outside": [b"above", b"absolute", b"d/chain"]}


@on_trio
async def test_nothing_is_written_through_a_link(place: Place, server: Server) -> None:
    content = tar_of((member("d", SYMLINK, "e"), b""), (member("d/evil"), b"x"))
    await refused(place, server, content, "its entry 'd' is a directory in it, and something else too")
    content = tar_of((member("d/good"), b"x"), (member("d", SYMLINK, "e"), b""))
    await refused(place, server, content, "its entry 'd' is a directory in it, and something else too")
    content = tar_of((member("d", DIRECTORY), b""), (member("d"), b"x"))
    await refused(place, server, content, "its entry 'd' is a directory")


@on_trio
async def test_hard_links_to_nothing_are_refused(place: Place, server: Server) -> None:
    await refused(place, server, tar_of((member("a", HARD_LINK, "later"), b""), (member("later"), b"x")), "hard link")
    await refused(place, server, tar_of((member("a", HARD_LINK, "../etc/passwd"), b"")), "leads out")
    await refused(place, server, tar_of((member("a", HARD_LINK, "/etc/passwd"), b"")), "absolute")
    await refused(place, server, tar_of((member("d", DIRECTORY), b""), (member("a", HARD_LINK, "d"), b"")), "hard link")


@on_trio
async def test_further_names_of_links_and_of_what_is_left_out(place: Place, server: Server) -> None:
    """GNU tar writes the second name of a symbolic link as a hard link, and others do so of devices too."""
    content = tar_of(
        (member("d/link", SYMLINK, "../there"), b""),
        (member("d/same", HARD_LINK, "d/link"), b""),
        (member("above", HARD_LINK, "d/link"), b""),
        (member("outside", SYMLINK, "/etc/passwd"), b""),
        (member("too", HARD_LINK, "outside"), b""),
        (member("pipe", FIFO), b""),
        (member("pipe too", HARD_LINK, "pipe"), b""),
    )
    await place.create_from(server.serve("/x", Resource(content)))
    tree = await place.tree()
    assert tree.nodes[b"d/same"] == tree.nodes[b"d/link"]
    assert tree.nodes[b"d/same"].kind is Kind.SYMLINK
    assert tree.reasons() == {"link-outside": [b"above", b"outside", b"too"], "fifo": [b"pipe", b"pipe too"]}


@on_trio
async def test_devices_are_skipped_and_reported(place: Place, server: Server) -> None:
    content = tar_of(
        (member("a"), b"x"),
        (member("null", CHARACTER), b""),
        (member("disk", BLOCK_DEVICE), b""),
        (member("pipe", FIFO), b""),
    )
    await place.create_from(server.serve("/x", Resource(content)))
    tree = await place.tree()
    assert set(tree.nodes) == {b"", b"a"}
    assert tree.reasons() == {"device": [b"disk", b"null"], "fifo": [b"pipe"]}


@on_trio
async def test_an_unknown_kind_is_refused(place: Place, server: Server) -> None:
    evil = member("a", b"Z")
    with pytest.raises(SourceProblem):
        await place.create_from(server.serve("/x", Resource(tar_of((evil, b"")).replace(b"ustar", b"ustar"))))


@on_trio
async def test_of_duplicates_the_last_wins(place: Place, server: Server) -> None:
    one, two = ramp(2000, 1), ramp(3000, 2)
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped = zip_of(("a", one), ("a", two))
    for content in (tar_of((member("a"), one), (member("./a"), two)), zipped):
        await place.create_from(server.serve("/x", Resource(content)))
        tree = await place.tree()
        assert set(tree.nodes) == {b"", b"a"}
        assert tree.version.total_bytes == 3000


@on_trio
async def test_set_uid_and_owners_are_dropped(place: Place, server: Server) -> None:
    info = member("program")
    info.mode, info.uid, info.uname = 0o6755, 0, "root"
    await place.create_from(server.serve("/x", Resource(tar_of((info, b"x")))))
    assert (await place.tree()).nodes[b"program"].mode == 0o755


@on_trio
async def test_strange_times_are_clamped(place: Place, server: Server) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mtime in (("late", "99999999999999"), ("early", "-99999999999999"), ("odd", "nan")):
            info = member(name)
            info.pax_headers = {"mtime": mtime}
            tar.addfile(info)
    await place.create_from(server.serve("/x", Resource(out.getvalue())))
    nodes = (await place.tree()).nodes
    assert (nodes[b"late"].mtime_ns, nodes[b"early"].mtime_ns) == ((1 << 63) - 1, -(1 << 63))


GOOD_TAR = tar_of(*((member(f"{number:03}"), ramp(3000, number)) for number in range(20)))
PACKERS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.mark.parametrize("packer", PACKERS)
@on_trio
async def test_truncated_tars_are_refused_at_every_place(place: Place, server: Server, packer: str) -> None:
    whole = PACKERS[packer](GOOD_TAR)
    ends = {1, 100, 511, 512, 513, 600, len(whole) // 2, len(whole) // 2 // 512 * 512, len(whole) - 1}
    if packer == "plain":  # after the first block of the end mark it is whole
        ends = {end for end in ends if end < 20 * (512 + 3072)} | {20 * (512 + 3072)}
    for end in ends:
        await refused(place, server, whole[:end], "is damaged|is no archive")


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
@on_trio
async def test_flipped_bits_in_compressed_data_are_noticed(place: Place, server: Server, packer: str) -> None:
    whole = bytearray(PACKERS[packer](GOOD_TAR))
    whole[len(whole) // 2] ^= 0x10
    await refused(place, server, bytes(whole), "is damaged|is no archive")


@on_trio
async def test_a_wrong_crc_at_the_very_end_is_noticed(place: Place, server: Server) -> None:
    whole = bytearray(gzip.compress(GOOD_TAR))
    whole[-6] ^= 1
    await refused(place, server, bytes(whole), "is damaged")


@on_trio
async def test_a_broken_header_in_the_middle_is_no_end(place: Place, server: Server) -> None:
    broken = bytearray(GOOD_TAR)
    broken[10 * (512 + 3072) + 150] ^= 1  # in the checksum field of the eleventh header
    await refused(place, server, bytes(broken), "is damaged")
    cut_out = GOOD_TAR[: 10 * (512 + 3072)] + ramp(512) + GOOD_TAR[10 * (512 + 3072) :]
    await refused(place, server, cut_out, "is damaged")


@on_trio
async def test_a_damaged_archive_commits_nothing_after_packs_were_sent(place: Place, server: Server) -> None:
    members = [(member(f"{number:03}"), ramp(3000, number)) for number in range(400)]
    whole = tar_of(*members)
    half = whole[: len(whole) // 2 // 512 * 512]  # nine packs, of which those that are being sent may come to nothing
    await refused(place, server, half, "is damaged")
    assert len(incomplete(place.paths)) == 1
    result = await place.create_from(server.serve("/x", Resource(whole)))
    assert result.reused_bytes > PACK, "what was durable is not sent again"
    assert (await place.tree()).version.file_count == 400


def corrupt_zip(change: str) -> bytes:
    data = bytearray(zip_of(("a", ramp(3000)), ("b", ramp(2000, 5))))
    central = data.index(b"PK\x01\x02")
    if change == "crc":
        struct.pack_into("<I", data, central + 16, 12345)
    elif change == "size":
        struct.pack_into("<I", data, central + 24, 2999)
    elif change == "larger":
        struct.pack_into("<I", data, central + 24, 3001)
    elif change == "name":
        data[30] = ord("z")
    elif change == "encrypted":
        data[central + 8] |= 1
    elif change == "method":
        struct.pack_into("<H", data, central + 10, 97)
    elif change == "deflate64":
        struct.pack_into("<H", data, central + 10, 9)
    elif change == "offset":
        struct.pack_into("<I", data, central + 42, 0x7FFF0000)
    elif change == "local method":
        struct.pack_into("<H", data, 8, 0)
    elif change == "local size":
        struct.pack_into("<I", data, 22, 2999)
    elif change == "count":
        struct.pack_into("<H", data, len(data) - 12, 3)
    elif change == "disk":
        struct.pack_into("<H", data, len(data) - 18, 1)
    elif change == "overlap":
        second = data.index(b"PK\x01\x02", central + 4)
        struct.pack_into("<I", data, second + 42, 1)
    elif change == "truncated":
        del data[len(data) // 2 :]
    elif change == "no end":
        del data[-10:]
    return bytes(data)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("crc", "is damaged: 'a' has another CRC-32"),
        ("size", "is damaged"),
        ("larger", "is damaged"),
        ("name", "is damaged: 'a' has another name in its own header"),
        ("encrypted", "is encrypted .'a'."),
        ("method", "method 97, which is not supported"),
        ("deflate64", "Deflate64, which is not supported"),
        ("offset", "is damaged"),
        ("local method", "is described otherwise by its own header"),
        ("local size", "is described otherwise by its own header"),
        ("count", "its directory has 2 entries and not 3"),
        ("disk", "is one of several files"),
        ("overlap", "overlaps"),
        ("truncated", "is damaged"),
        ("no end", "is damaged"),
    ],
)
@on_trio
async def test_damaged_zips(place: Place, server: Server, change: str, match: str) -> None:
    await refused(place, server, corrupt_zip(change), match)


@on_trio
async def test_the_central_directory_decides_what_a_zip_holds(place: Place, server: Server) -> None:
    hidden, shown = zip_of(("hidden", b"h")), zip_of(("shown", b"s"))
    await place.create_from(server.serve("/x", Resource(hidden[: hidden.index(b"PK\x01\x02")] + shown)))
    assert set((await place.tree()).nodes) == {b"", b"shown"}


@on_trio
async def test_zips_with_links(place: Place, server: Server) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, target in (("good", "d/x"), ("bad", "../x"), ("long", "n" * 10_000)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    await place.create_from(server.serve("/x", Resource(out.getvalue())))
    tree = await place.tree()
    assert tree.nodes[b"good"].kind is Kind.SYMLINK
    assert tree.reasons() == {"link-outside": [b"bad", b"long"]}


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit at 1 MiB, so that a bomb of some MiB is one."""
    monkeypatch.setattr(archive_rules, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr("gridfs.create.archive_zip.FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archive_rules, "MAX_RATIO", 100)
    monkeypatch.setattr("gridfs.create.archive_zip.MAX_RATIO", 100)


@pytest.mark.usefixtures("small_bombs")
@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
@on_trio
async def test_compressed_bombs_are_stopped_by_what_comes_out(place: Place, server: Server, packer: str) -> None:
    bomb = PACKERS[packer](tar_of((member("zeros"), bytes(20 << 20))))
    await refused(place, server, bomb, "decompression bomb")


@pytest.mark.usefixtures("small_bombs")
@on_trio
async def test_zip_bombs_are_stopped_by_what_comes_out(place: Place, server: Server) -> None:
    await refused(place, server, zip_of(("zeros", bytes(20 << 20))), "decompression bomb")


@pytest.mark.usefixtures("small_bombs")
@on_trio
async def test_a_sparse_bomb_is_stopped(place: Place, server: Server) -> None:
    info = member("sparse")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": f"{(1 << 40) - 1},1",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    await refused(place, server, out.getvalue(), "decompression bomb")


@on_trio
async def test_sparse_members_get_their_holes(place: Place, server: Server) -> None:
    import subprocess

    place.folder.mkdir()
    with (place.folder / "sparse").open("wb") as file:
        file.write(ramp(5000))
        file.seek(300_000)
        file.write(ramp(5000, 3))
        file.truncate(500_000)
    expected = (place.folder / "sparse").read_bytes()
    for form in ("gnu", "posix"):
        command = ["tar", "-C", str(place.folder), "-S", f"--format={form}", "-c", "sparse"]
        tar = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        assert len(tar) < len(expected)
        await place.create_from(server.serve(f"/{form}", Resource(tar)))
        tree = await place.tree()
        import hashlib

        assert tree.nodes[b"sparse"].content == hashlib.sha256(expected).digest()


def sealed(header: bytearray) -> bytes:
    """A tar header with the checksum that it should have."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def with_size_record(tar: bytes, *, first: bool) -> bytes:
    """The PAX *tar* as it is written of a first member of over 8 GiB: its size in a record, and 0 in its header."""
    length = int(tar[124:135], 8)
    end = 512 + -(-length // 512) * 512
    size = int(tar[end + 124 : end + 135], 8)
    record = b"%d size=%d\n" % (len(b"00 size=%d\n" % size), size)
    records = record + tar[512 : 512 + length] if first else tar[512 : 512 + length] + record
    extended, own = bytearray(tar[:512]), bytearray(tar[end : end + 512])
    extended[124:136], own[124:136] = b"%011o\0" % len(records), bytes(12)
    padding = bytes(-len(records) % 512)
    return sealed(extended) + records + padding + sealed(own) + tar[end + 512 :]


def sparse_tar(folder: Path, version: str) -> bytes:
    """By GNU tar: a sparse file, an empty one, and another file."""
    import subprocess

    folder.mkdir(exist_ok=True)
    with (folder / "sparse").open("wb") as file:
        file.write(ramp(5000))
        file.seek(300_000)
        file.write(ramp(5000, 3))
        file.truncate(500_000)
    (folder / "empty").touch()
    (folder / "next").write_bytes(ramp(700, 5))
    command = ["tar", "-C", str(folder), "-S", "--format=posix", f"--sparse-version={version}", "-c"]
    return subprocess.run([*command, "sparse", "empty", "next"], check=True, stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
@on_trio
async def test_a_sparse_member_whose_stored_size_is_in_a_record_is_not_cut_off(
    place: Place, server: Server, version: str, first: bool
) -> None:
    tar = with_size_record(sparse_tar(place.folder, version), first=first)
    await place.create_from(server.serve("/x", Resource(tar)))
    expected = folder_tree(place.folder)
    assert {path: node.content for path, node in (await place.tree()).nodes.items()} == {
        path: node.content for path, node in expected.items()
    }


@on_trio
async def test_a_sparse_member_that_does_not_say_how_long_it_is_is_refused(place: Place, server: Server) -> None:
    tar = sparse_tar(place.folder, "1.0").replace(b"GNU.sparse.realsize", b"GNU.sparse.otherkey")
    await refused(place, server, with_size_record(tar, first=False), "'sparse' does not say how long it is")
    tar = sparse_tar(place.folder, "0.1").replace(b"GNU.sparse.size=500000", b"GNU.sparse.size=300000")
    await refused(place, server, tar, "'sparse' has data behind its end")


@on_trio
async def test_too_many_entries(place: Place, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_rules, "MAX_ENTRIES", 10)
    await refused(place, server, GOOD_TAR, "more than 10 entries")


@on_trio
async def test_windows_that_need_too_much_memory_are_refused(place: Place, server: Server) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20}]
    await refused(place, server, lzma.compress(GOOD_TAR, filters=filters), "more than 128 MiB of memory")
    parameters = zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(GOOD_TAR) + compressor.flush()
    await refused(place, server, data, "more than 128 MiB of memory")


@on_trio
async def test_an_empty_archive_is_refused_as_empty(place: Place, server: Server) -> None:
    from gridfs.errors import InvalidInput

    for content in (tar_of(), zip_of(), gzip.compress(tar_of())):
        with pytest.raises(InvalidInput, match="is empty"):
            await place.create_from(server.serve("/x", Resource(content)))


@on_trio
async def test_a_server_that_lies_about_the_length_commits_nothing(place: Place, server: Server) -> None:
    with pytest.raises(SourceProblem, match="is damaged"):
        await place.create_from(server.serve("/x", Resource(GOOD_TAR, announced=len(GOOD_TAR) // 2)))
    assert await Catalog(place.store).versions("set") == []


def test_deflate_reaches_the_ratio_only_with_nothing_in_it() -> None:
    """What MAX_RATIO stands on."""
    zeros = bytes(10 << 20)
    assert archive_rules.MAX_RATIO < len(zeros) / len(zlib.compress(zeros, 9)) < 1032
