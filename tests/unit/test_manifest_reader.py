"""What the reader answers, and that damage of any kind is a FormatError and never a crash."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridfs.errors import FormatError
from gridfs.manifest import reader
from gridfs.manifest.reader import Manifest
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Entry, Kind, Mode, ObjectRecord, SourceBucket, no_copy_identity
from tests.support.manifests import BLOCK_SIZE_BYTES, Node, settings, write_tree

TREE = [
    Node(b"dir/one", size=100, object=1, offset=0, sha256=b"\1" * 32, mtime_ns=1_600_000_000_123_456_789),
    Node(b"dir/two", size=9000, object=2, offset=0, sha256=b"\2" * 32, mode=0o755),
    Node(b"empty"),
    Node(b"link", Kind.SYMLINK, size=9, target=b"../\xff\xfe no"),
    Node(b"none", Kind.DIRECTORY, mode=0o755),
]
SIZES = [100, 9000]


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    write_tree(tmp_path / "manifest", TREE, SIZES)
    return tmp_path / "manifest"


def test_entries_are_whole(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        one = Entry(6, 2, b"one", 2, 0o644, 100, 1_600_000_000_123_456_789, 1, 0, b"\1" * 32, None, None, None)
        assert manifest.entry(6) == one
        assert type(manifest.entry(6)) is Entry
        assert manifest.lookup(2, b"one") == one
        assert manifest.resolve(b"dir/one") == one
        assert manifest.resolve(b"/dir//one/") == one
        assert manifest.resolve(b"") == manifest.entry(1)
        directory = Entry(2, 1, b"dir", 1, 0o755, 0, 0, None, None, None, None, 6, 2)
        assert manifest.entry(2) == directory
        assert [entry.name for entry in manifest.children(directory)] == [b"one", b"two"]
        assert [entry.name for entry in manifest.children(directory, after=6)] == [b"two"]
        assert list(manifest.children(directory, after=7)) == []
        assert manifest.entry(4) == Entry(
            4, 1, b"link", 3, 0o644, 9, 0, None, None, None, b"../\xff\xfe no", None, None
        )
        none = manifest.entry(5)
        assert none is not None
        assert (none.first_child, none.child_count, list(manifest.children(none))) == (None, 0, [])


def test_what_is_not_there_is_none(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        assert manifest.entry(0) is None
        assert manifest.entry(99) is None
        assert manifest.lookup(2, b"three") is None
        assert manifest.lookup(3, b"one") is None
        assert manifest.resolve(b"dir/one/below") is None
        assert manifest.resolve(b"other/one") is None
        assert list(manifest.walk(99)) == []
        with pytest.raises(FormatError, match="object 3"):
            manifest.object(3)


def test_walk_of_a_part_has_paths_relative_to_it(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        assert [path for path, _ in manifest.walk(2)] == [b"", b"one", b"two"]
        assert [path for path, _ in manifest.walk(3)] == [b""]


def test_objects_and_blocks(manifest_file: Path) -> None:
    with Manifest.open(manifest_file) as manifest:
        first = ObjectRecord(1, f"{1:032x}", 100, 0, f"{1:032x}", live_bytes=100)
        second = ObjectRecord(2, f"{2:032x}", 9000, 1, f"{2:032x}", live_bytes=9000)
        assert list(manifest.objects()) == [first, second]
        assert manifest.object(2) == second
        assert [manifest.object_at_block(block).number for block in range(4)] == [1, 2, 2, 2]
        for outside in (-1, 4):
            with pytest.raises(IndexError):
                manifest.object_at_block(outside)


@pytest.mark.parametrize("kept_bytes", [0, 8, 1024])
def test_checksums_of_a_range(manifest_file: Path, kept_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an object whose checksums are kept after the first question, and of one that has too many."""
    monkeypatch.setattr(reader, "_KEPT_CHECKSUMS_BYTES", kept_bytes)
    with Manifest.open(manifest_file) as manifest:
        assert manifest.checksums(1, 0, 1) == (1000,)
        assert manifest.checksums(2, 0, 3) == (2000, 2001, 2002)
        assert manifest.checksums(2, 1, 3) == (2001, 2002)
        assert manifest.checksums(2, 1, 1) == ()
        for number, start, stop in ((2, 2, 4), (3, 0, 1)):
            with pytest.raises(FormatError):
                manifest.checksums(number, start, stop)


def test_a_no_copy_version_names_its_bucket_and_generations(tmp_path: Path) -> None:
    bucket = SourceBucket("Bucket", "http://s3.lab:9000", None, "set/", signed=False, requester_pays=True)
    with ManifestWriter(tmp_path / "m", settings(mode=Mode.NO_COPY, bucket=bucket)) as writer:
        number = writer.add_object("set/a//b", 5, etag='"abc-2"', last_modified_ns=17)
        writer.add_entry(b"", b"a", Kind.FILE, 0o644, 5, 17, object=number, offset=0)
        info = writer.finish()
    with Manifest.open(tmp_path / "m") as manifest:
        assert manifest.info == info
        assert manifest.info.bucket == bucket
        identity = no_copy_identity("http://s3.lab:9000", "Bucket", "set/a//b", '"abc-2"', 5)
        assert manifest.object(1) == ObjectRecord(1, "set/a//b", 5, 0, identity, '"abc-2"', 17, 5)
        assert manifest.checksums(1, 0, 1) is None


def test_a_newer_format_says_what_reads_it(manifest_file: Path) -> None:
    connection = sqlite3.connect(manifest_file)
    connection.executescript(
        "PRAGMA user_version=2; DROP TABLE entry; UPDATE meta SET value='0.9.4' WHERE key='readable_since'"
    )
    connection.close()
    with pytest.raises(FormatError, match=r"format 2.*install gridfs 0\.9\.4 or newer"):
        Manifest.open(manifest_file)


def test_another_program_s_file_is_no_manifest(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("CREATE TABLE meta(key, value)")
    connection.close()
    (tmp_path / "text").write_text("no database at all\n" * 20)
    (tmp_path / "empty").touch()
    for name in ("db", "text", "empty", "missing"):
        with pytest.raises(FormatError):
            Manifest.open(tmp_path / name)


def test_a_lack_in_the_meta_table_is_named(manifest_file: Path) -> None:
    connection = sqlite3.connect(manifest_file)
    connection.execute("DELETE FROM meta WHERE key = 'block_size_bytes'")
    connection.commit()
    connection.close()
    with pytest.raises(FormatError, match="block_size_bytes"):
        Manifest.open(manifest_file)


def test_every_truncation_is_noticed_at_once(manifest_file: Path, tmp_path: Path) -> None:
    whole = manifest_file.read_bytes()
    for length in [*range(0, 120, 7), *range(4000, len(whole), 1111), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            Manifest.open(tmp_path / "cut")


@pytest.mark.parametrize("name", [b"parent", b"first_block", b"detail"])
def test_a_damaged_name_of_a_column_is_a_format_error(manifest_file: Path, name: bytes) -> None:
    """SQLite says it in its message, which then is no text."""
    raw = manifest_file.read_bytes()
    manifest_file.write_bytes(raw.replace(name, b"\xff" + name[1:], 1))
    with pytest.raises(FormatError, match="is damaged"), Manifest.open(manifest_file) as manifest:
        manifest.lookup(2, b"one")
        list(manifest.objects())
        list(manifest.problems())


def test_checksums_of_large_objects_are_read_in_any_order(tmp_path: Path) -> None:
    """More than are kept whole, of more objects than stay open."""
    counts = [2000 + number for number in range(20)]
    tree = [
        Node(b"%02d" % number, size=count * BLOCK_SIZE_BYTES, object=number + 1, offset=0)
        for number, count in enumerate(counts)
    ]
    write_tree(tmp_path / "large", tree, [count * BLOCK_SIZE_BYTES for count in counts])
    with Manifest.open(tmp_path / "large") as manifest:
        for number, count in [*enumerate(counts, 1), (1, counts[0]), (20, counts[-1])]:
            expected = range(number * 1000, number * 1000 + count)
            assert manifest.checksums(number, 1500, 1502) == tuple(expected[1500:1502])
            assert manifest.checksums(number, 3, 4) == tuple(expected[3:4])
            assert manifest.checksums(number, 0, count) == tuple(expected)


@given(st.data())
def test_damage_anywhere_is_a_format_error_or_an_answer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Only the hash can tell that a name is another one; but nothing else than FormatError is ever raised."""
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    write_tree(path, TREE, SIZES)
    raw = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(raw) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=64))
    raw[start : start + len(noise)] = noise[: len(raw) - start]
    path.write_bytes(raw)
    try:
        with Manifest.open(path) as manifest:
            list(manifest.problems())
            manifest.lookup(2, b"one")
            for inode in range(8):
                manifest.entry(inode)
            list(manifest.walk())
            manifest.checksums(2, 0, -(-9000 // BLOCK_SIZE_BYTES))
            list(manifest.objects())
    except FormatError:
        pass
