"""Archives by the programs that people use become the tree that they were made of (create/archive*.py)."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.catalog import Catalog
from gridfs.config import Paths
from gridfs.create.request import CreateRequest
from gridfs.create.zip_directory import ZipEntry
from gridfs.errors import SourceProblem
from gridfs.model import Buffer, Kind
from gridfs.store.simulated import SimulatedStore
from tests.support.archives import TARS, ZIPS, make_tree, member, tar_of, zip_of
from tests.support.creations import PACK, Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.versions import Node, folder_tree
from tests.support.web_server import Resource, Server, web_server

LARGE = 3 * PACK + 17


@pytest.fixture
def place(tmp_path: Path, private_dirs: Paths) -> Place:
    """In memory: what a directory costs is the waiting for the disk."""
    return Place(tmp_path, private_dirs, SimulatedStore())


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as server:
        yield server


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    make_tree(root, LARGE)
    return root


async def nodes(place: Place) -> dict[bytes, Node]:
    return (await place.tree()).nodes


def without_times(tree: dict[bytes, Node]) -> dict[bytes, Node]:
    return {path: node._replace(mtime_ns=0) for path, node in tree.items()}


def without_root(tree: dict[bytes, Node]) -> dict[bytes, Node]:
    return {path: node for path, node in tree.items() if path}


@pytest.mark.parametrize("name", TARS)
@on_trio
async def test_tars_of_all_kinds(place: Place, server: Server, tree: Path, tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    TARS[name](tree, archive)
    await place.create_from(server.serve("/archive", Resource(archive.read_bytes())))
    assert await nodes(place) == folder_tree(tree)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", ZIPS)
@on_trio
async def test_zips_of_all_kinds(
    place: Place, server: Server, tree: Path, tmp_path: Path, name: str, ranges: bool
) -> None:
    archive = tmp_path / name
    ZIPS[name](tree, archive)
    await place.create_from(server.serve("/archive", Resource(archive.read_bytes(), ranges=ranges)))
    expected = folder_tree(tree)
    if name == "python.zip":
        expected = {path: node for path, node in expected.items() if node.kind is not Kind.SYMLINK}
    stored = await nodes(place)
    assert without_root(without_times(stored)) == without_root(without_times(expected))
    if name in ("info-zip.zip", "bsd.zip", "python.zip"):
        files = {path for path, node in expected.items() if node.kind is Kind.FILE}
        assert {stored[path].mtime_ns for path in files} == {expected[path].mtime_ns for path in files}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@on_trio
async def test_a_local_archive_is_taken_apart_only_when_asked(place: Place, tree: Path, suffix: str) -> None:
    archive = place.folder.parent / f"set{suffix}"
    (ZIPS["info-zip.zip"] if suffix == ".zip" else TARS["bsd.tgz"])(tree, archive)
    await place.create(archive)
    assert set(await nodes(place)) == {b"", archive.name.encode()}
    await place.create(archive, extract=True)
    assert without_root(without_times(await nodes(place))) == without_root(without_times(folder_tree(tree)))


@on_trio
async def test_a_local_archive_that_is_written_to_while_it_is_read_makes_no_version(
    place: Place, tmp_path: Path
) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar_of(*((member(f"{number:02}"), ramp(20_000, number)) for number in range(50))))

    class Writing(SimulatedStore):
        async def put(self, key: str, data: Buffer) -> None:
            await super().put(key, data)
            if "/objects/" in key:
                with archive.open("r+b") as file:
                    file.seek(48 * 20_992 + 9_000)
                    file.write(b"other content")

    changing = Place(tmp_path, place.paths, Writing())
    with pytest.raises(SourceProblem, match=r"x.tar changed while it was read.*same command again"):
        await changing.create(archive, extract=True)
    assert await Catalog(changing.store).versions("set") == []
    await place.create(archive, extract=True)


@on_trio
async def test_real_wheels_are_zips(place: Place, server: Server, tmp_path: Path) -> None:
    import ensurepip

    wheels = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("*.whl"))
    wheels += sorted(Path("/usr/share/python-wheels").glob("*.whl"))
    assert wheels, "python3 brings pip as a wheel"
    import zipfile

    for wheel in wheels[:2]:
        await place.create_from(server.serve("/wheel", Resource(wheel.read_bytes())))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / wheel.stem)
        stored, expected = await nodes(place), folder_tree(tmp_path / wheel.stem)
        assert {path: node.content for path, node in stored.items()} == {
            path: node.content for path, node in expected.items()
        }


@on_trio
async def test_a_zip_of_more_entries_than_its_old_fields_can_count(place: Place, server: Server) -> None:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"d/{number}"), b"")
    result = await place.create_from(server.serve("/x", Resource(out.getvalue())))
    assert result.version.file_count == 66_000


@on_trio
async def test_a_zip_from_a_pipe_has_its_sizes_behind_the_data(place: Place, server: Server, tree: Path) -> None:
    import subprocess

    zipped = subprocess.run(["zip", "-q", "-", "-"], input=ramp(50_000), check=True, stdout=subprocess.PIPE).stdout
    await place.create_from(server.serve("/x", Resource(zipped)))
    assert (await place.tree()).version.total_bytes == 50_000


def test_names_in_zips() -> None:
    import zlib

    def name(raw: bytes, flags: int = 0, extra: bytes = b"") -> bytes:
        return ZipEntry(raw, 3, flags, 0, 0, 0, 0, 0, 0, 0, 0, extra).name

    assert name("grün".encode()) == "grün".encode()
    assert name("grün".encode(), 0x800) == "grün".encode()
    assert name("grün".encode("cp437")) == "grün".encode()
    field = b"\x01" + zlib.crc32(b"gr?n").to_bytes(4, "little") + "grün".encode()
    extra = b"\x75\x70" + len(field).to_bytes(2, "little") + field
    assert name(b"gr?n", extra=extra) == "grün".encode()
    assert name(b"gr!n", extra=extra) == b"gr!n", "the field is of another name"


@on_trio
async def test_hard_links_share_their_content(place: Place, server: Server) -> None:
    content = tar_of((member("a"), ramp(5000)), (member("d/b", b"1", "a"), b""), (member("c", b"1", "./d/b"), b""))
    result = await place.create_from(server.serve("/x", Resource(content)))
    assert {path: node.content for path, node in (await nodes(place)).items() if node.kind is Kind.FILE}.keys() == {
        b"a",
        b"d/b",
        b"c",
    }
    assert result.sent_bytes == 5000
    assert result.version.total_bytes == 15_000


@on_trio
async def test_concatenated_streams_and_what_follows_them(place: Place, server: Server) -> None:
    tar = tar_of((member("a"), ramp(5000)))
    content = gzip.compress(tar[:3000]) + gzip.compress(tar[3000:]) + bytes(100)
    await place.create_from(server.serve("/x", Resource(content)))
    assert set(await nodes(place)) == {b"", b"a"}
    await place.create_from(server.serve("/y", Resource(content + b"rest")))
    assert (await place.tree()).reasons() == {"trailing-bytes": [b""]}


@pytest.mark.parametrize("padding", [0, 100_000, 1_000_000])
@on_trio
async def test_a_second_tar_behind_the_first_is_reported_and_padding_is_not(
    place: Place, server: Server, padding: int
) -> None:
    one, two = tar_of((member("a"), ramp(5000))) + bytes(padding), tar_of((member("b"), ramp(7000)))
    for content in (one, gzip.compress(one)):
        await place.create_from(server.serve("/x", Resource(content)), strict=True)
        assert (await place.tree()).reasons() == {}
    for content in (one + two, gzip.compress(one) + gzip.compress(two), one + bytes(2_000_000) + b"x"):
        await place.create_from(server.serve("/x", Resource(content)))
        tree = await place.tree()
        assert set(tree.nodes) == {b"", b"a"}
        assert tree.reasons() == {"trailing-bytes": [b""]}
        with pytest.raises(SourceProblem, match=r"1 trailing-bytes; the first is '' \(something else follows"):
            await place.create_from(server.serve("/x", Resource(content)), strict=True)


@on_trio
async def test_a_tar_is_continued_when_its_connection_breaks(place: Place, server: Server, tree: Path) -> None:
    archive = place.folder.parent / "set.tar"
    TARS["gnu.tar"](tree, archive)
    resource = Resource(archive.read_bytes(), break_after=[50_000, 100_000])
    await place.create_from(server.serve("/x", resource))
    assert await nodes(place) == folder_tree(tree)
    assert len(resource.requests) == 3


@on_trio
async def test_the_same_archive_again_sends_nothing(place: Place, server: Server, tree: Path) -> None:
    archive = place.folder.parent / "set.tgz"
    TARS["bsd.tgz"](tree, archive)
    url = server.serve("/x", Resource(archive.read_bytes()))
    await place.create_from(url)
    second = await place.create_from(url)
    assert (second.version.version, second.sent_bytes) == (2, 0)
    assert second.reused_bytes == second.version.total_bytes
    assert await nodes(place) == folder_tree(tree)


@on_trio
async def test_what_is_no_archive_is_refused(place: Place, server: Server) -> None:
    for content in (b"", b"<html>please log in</html>", ramp(2000), gzip.compress(ramp(2000)), b"PK"):
        with pytest.raises(SourceProblem, match=r"/x is no archive"):
            await place.create_from(server.serve("/x", Resource(content)))


@on_trio
async def test_an_archive_is_told_by_its_content(place: Place, server: Server) -> None:
    await place.create_from(server.serve("/data.tar.gz", Resource(zip_of(("a", ramp(100))))))
    await place.create_from(server.serve("/data.zip", Resource(tar_of((member("a"), ramp(100))))))
    assert (await place.tree()).version.version == 2


@on_trio
async def test_the_address_is_kept_without_its_secrets(place: Place, server: Server) -> None:
    server.serve("/set.tar", Resource(tar_of((member("a"), b"x"))))
    url = server.address.replace("http://", "http://user:word@") + "/set.tar?token=secret"
    result = await place.create_from(url)
    assert result.version.source == f"{server.address}/set.tar"


@on_trio
async def test_many_small_members_fill_many_packs(place: Place, server: Server) -> None:
    members = [(member(f"d{number % 7}/{number:04}"), ramp(900, number)) for number in range(1000)]
    await place.create_from(server.serve("/x", Resource(tar_of(*members))))
    tree = await place.tree()
    assert tree.version.file_count == 1000
    assert len(tree.object_keys) > 2  # contents of a ramp repeat after 251
    assert sys.getsizeof(tree.nodes)


def test_requests_of_archives_are_kept_as_json() -> None:
    request = CreateRequest("set", "https://host/x.zip", extract=True)
    assert CreateRequest.from_json(request.to_json()) == request
