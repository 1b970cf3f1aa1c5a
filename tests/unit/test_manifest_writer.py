"""What the writer makes: numbering, and what it refuses. Compared with a tree that is held whole and sorted naively."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridfs.manifest.order import directories_above, path_of, place_of
from gridfs.manifest.reader import Manifest
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode, Problem, SourceBucket
from tests.support.manifests import BLOCK_SIZE_BYTES, Node, add_tree, settings, write_tree

D, F, L = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK

names = st.binary(min_size=1, max_size=3).filter(
    lambda name: b"/" not in name and b"\0" not in name and name.strip(b".")
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)


def naive_numbering(tree: dict[bytes, Kind]) -> list[bytes]:
    """Paths in the order of their inodes, by the definition: preorder of directories, all children of each at once."""
    order = [b""]

    def visit(directory: bytes) -> None:
        prefix = directory + b"/" if directory else b""
        children = sorted(p[len(prefix) :] for p in tree if p.startswith(prefix) and b"/" not in p[len(prefix) :])
        order.extend(prefix + name for name in children)
        for name in children:
            if tree[prefix + name] is D:
                visit(prefix + name)

    visit(b"")
    return order


@given(st.dictionaries(paths, st.sampled_from([D, F, L]), max_size=25))
def test_numbering_is_that_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, found: dict[bytes, Kind]
) -> None:
    for path in list(found):
        for directory in directories_above(path):
            found[directory] = D
    manifest_file = tmp_path_factory.getbasetemp() / uuid4().hex
    info = write_tree(manifest_file, [Node(path, kind) for path, kind in found.items()])
    with Manifest.open(manifest_file) as manifest:
        walked = list(manifest.walk())
        assert [entry.inode for _, entry in walked] == list(range(1, len(found) + 2))
        assert [path for path, _ in walked] == naive_numbering(found)
        for path, entry in walked[1:]:
            assert entry.kind == found[path]
            assert manifest.resolve(path) == entry
    kinds = list(found.values())
    assert (info.directory_count, info.file_count, info.symlink_count) == tuple(map(kinds.count, (D, F, L)))
    assert info.entry_count == len(found) + 1


@given(st.lists(paths, max_size=20))
def test_places_sort_in_the_order_of_numbering(found: list[bytes]) -> None:
    tree = dict.fromkeys(found, F) | {above: D for path in found for above in directories_above(path)}
    assert sorted(tree, key=place_of) == naive_numbering(tree)[1:]
    assert all(path_of(*place_of(path)) == path for path in tree)


def test_a_hyphen_does_not_come_between_a_directory_and_its_children(tmp_path: Path) -> None:
    write_tree(tmp_path / "m", [Node(b"a/x"), Node(b"a-b"), Node(b"a.c"), Node(b"b")])
    with Manifest.open(tmp_path / "m") as manifest:
        assert [path for path, _ in manifest.walk()] == [b"", b"a", b"a-b", b"a.c", b"b", b"a/x"]


def test_deep_and_wide(tmp_path: Path) -> None:
    deep = b"/".join(b"%d" % level for level in range(600))
    wide = [Node(b"wide/%06d" % number, D if number % 2 else F) for number in range(25_000)]
    write_tree(tmp_path / "m", [Node(deep), *wide, Node(b"wide/000001/x"), Node(b"wide/024999/y")])
    with Manifest.open(tmp_path / "m") as manifest:
        for path in (deep, b"wide/000001/x", b"wide/024999/y", b"wide/012345"):
            assert manifest.resolve(path) is not None
        directory = manifest.resolve(b"wide")
        assert directory is not None
        assert [entry.name for entry in manifest.children(directory)] == [b"%06d" % n for n in range(25_000)]


def test_how_much_of_an_object_is_live(tmp_path: Path) -> None:
    sizes = [10_000, 10_000, 10_000, 5]
    write_tree(
        tmp_path / "m",
        [
            Node(b"a", size=100, object=1, offset=0),
            Node(b"b", size=200, object=1, offset=300),
            Node(b"c", size=50, object=2, offset=5000),  # out of order, and one content under two names
            Node(b"d", size=70, object=2, offset=0),
            Node(b"e", size=50, object=2, offset=5000),
            Node(b"f", size=5, object=4, offset=0),
        ],
        sizes,
    )
    with Manifest.open(tmp_path / "m") as manifest:
        assert [record.live_bytes for record in manifest.objects()] == [300, 120, None, 5]
        assert [entry.name for entry in manifest.entries_of_object(1)] == [b"a", b"b"]
        assert [entry.name for entry in manifest.entries_of_object(2)] == [b"d", b"c", b"e"]
        assert list(manifest.entries_of_object(3)) == []
        for number in range(1, 5):
            entries = manifest.entries_of_object(number)
            assert manifest.extents_of_object(number) == [(e.offset, e.size, e.inode) for e in entries]


def test_the_tape_is_the_objects_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    sizes = [1, BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES + 1, 5 * BLOCK_SIZE_BYTES]
    info = write_tree(tmp_path / "m", [], sizes)
    assert (info.block_count, info.object_count) == (9, 4)
    with Manifest.open(tmp_path / "m") as manifest:
        assert [record.first_block for record in manifest.objects()] == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ([b"b", b"a"], "can't follow"),
        ([b"a", b"a"], "can't follow"),
        ([b"a/x"], "no directory that was added"),
        ([b"f", b"f/x"], "no directory that was added"),
        ([b"d/", b"e/", b"e/x", b"d/x"], "can't follow"),
        ([b"d/", b"d/x", b"b"], "can't follow"),
        ([b".."], "can't follow"),
        ([b"."], "can't follow"),
        ([b"nul\0"], "can't follow"),
    ],
)
def test_what_is_no_tree_in_order_is_refused(tmp_path: Path, paths: list[bytes], reason: str) -> None:
    with ManifestWriter(tmp_path / "m", settings()) as writer:

        def add() -> None:
            for path in paths:
                writer.add_entry(*place_of(path.rstrip(b"/")), D if path.endswith(b"/") else F, 0o644, 0, 0)

        with pytest.raises(ValueError, match=reason):
            add()


def test_bytes_without_an_object_are_refused(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path / "m", settings()) as writer, pytest.raises(ValueError, match="no object"):
        writer.add_entry(b"", b"a", F, 0o644, 1, 0)


def test_objects_need_what_their_mode_verifies_by(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path / "m", settings()) as writer:
        with pytest.raises(ValueError, match="checksum"):
            writer.add_object("key", BLOCK_SIZE_BYTES + 1, bytes(8))
        with pytest.raises(ValueError, match="empty"):
            writer.add_object("key", 0, b"")
    bucket = SourceBucket("bucket", None, "us-east-1", "", signed=False)
    with ManifestWriter(tmp_path / "n", settings(mode=Mode.NO_COPY, bucket=bucket)) as writer:
        with pytest.raises(ValueError, match="ETag"):
            writer.add_object("key", 5)
        assert writer.add_object("key", 5, etag='"e"', last_modified_ns=7) == 1
    with pytest.raises(ValueError, match="bucket"):
        ManifestWriter(tmp_path / "o", settings(bucket=bucket))


def test_a_manifest_is_never_written_over_another(tmp_path: Path) -> None:
    write_tree(tmp_path / "m", [])
    with pytest.raises(FileExistsError):
        ManifestWriter(tmp_path / "m", settings())


def test_problems_and_the_root_are_kept(tmp_path: Path) -> None:
    problems = [Problem("socket", b"run/\xff.sock"), Problem("xattr", b"", "12 files")]
    with ManifestWriter(tmp_path / "m", settings()) as writer:
        writer.set_root(0o700, 123_456_789_123_456_789)
        writer.add_problem(problems[0])
        add_tree(writer, [Node(b"a")])
        writer.add_problem(problems[1])
        assert writer.finish().problem_count == 2
    with Manifest.open(tmp_path / "m") as manifest:
        assert list(manifest.problems()) == problems
        root = manifest.entry(1)
        assert root is not None
        assert (root.mode, root.mtime_ns, root.child_count, root.first_child) == (0o700, 123_456_789_123_456_789, 1, 2)


def test_texts_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    """A source folder is named by bytes, as everything below it."""
    source = os.fsdecode(b"/data/\xff/d\xc3\xa9j\xc3\xa0")
    with ManifestWriter(tmp_path / "m", settings(source=source)) as writer:
        writer.add_problem(Problem("changed", b"a", source))
        writer.finish()
    with Manifest.open(tmp_path / "m") as manifest:
        assert manifest.info.source == source
        assert list(manifest.problems()) == [Problem("changed", b"a", source)]


def test_anyone_can_look_inside_with_sqlite(tmp_path: Path) -> None:
    write_tree(tmp_path / "m", [Node(b"a/b")])
    connection = sqlite3.connect(tmp_path / "m")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA application_id").fetchone() == (0x67726466,)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
