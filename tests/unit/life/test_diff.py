"""Differences of two trees: every kind by itself, and all of them against a naive comparison."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridfs.life.diff import Change, differences
from gridfs.manifest.order import directories_above, place_of
from gridfs.manifest.reader import Manifest
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode, SourceBucket
from tests.support.manifests import Node, settings, write_tree

D, F, L = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK


def changes(scratch: Path, old: list[Node], new: list[Node]) -> list[tuple[bytes, Change]]:
    files = scratch / uuid4().hex, scratch / uuid4().hex
    for path, tree in zip(files, (old, new), strict=True):
        write_tree(path, tree, [100])
    with Manifest.open(files[0]) as before, Manifest.open(files[1]) as after:
        return [(found.path, found.change) for found in differences(before, after)]


def file(path: bytes, content: int = 0, **attributes: int) -> Node:
    return Node(path, F, 9, 1, 0, sha256=bytes([content]) * 32, **attributes)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [], []),
        ([file(b"a")], [file(b"a")], []),
        ([], [file(b"a")], [(b"a", "added")]),
        ([file(b"a")], [], [(b"a", "removed")]),
        ([file(b"a")], [file(b"a", 1)], [(b"a", "content")]),
        ([file(b"a")], [file(b"a", mtime_ns=1)], [(b"a", "attributes")]),
        ([file(b"a")], [file(b"a", mode=0o755)], [(b"a", "attributes")]),
        ([file(b"a")], [Node(b"a", L, 1, target=b"b")], [(b"a", "kind")]),
        ([Node(b"a", L, 1, target=b"b")], [Node(b"a", L, 1, target=b"b", mtime_ns=7)], []),
        ([Node(b"a", L, 1, target=b"b")], [Node(b"a", L, 1, target=b"c")], [(b"a", "content")]),
        ([Node(b"d", D)], [Node(b"d", D, mtime_ns=5)], []),
        ([Node(b"d", D)], [Node(b"d", D, mode=0o700)], [(b"d", "attributes")]),
        ([file(b"a")], [file(b"a/b")], [(b"a", "kind"), (b"a/b", "added")]),
        ([file(b"d/a"), file(b"d-b")], [file(b"d-b")], [(b"d", "removed"), (b"d/a", "removed")]),
        ([Node(b"z")], [Node(b"z")], []),
    ],
)
def test_each_kind(tmp_path: Path, old: list[Node], new: list[Node], expected: list[tuple[bytes, str]]) -> None:
    assert changes(tmp_path, old, new) == expected


paths = st.lists(st.sampled_from([b"a", b"b", b"a-b", b"c"]), min_size=1, max_size=3).map(b"/".join)
trees = st.dictionaries(paths, st.integers(0, 2), max_size=8)


def complete(tree: dict[bytes, int]) -> dict[bytes, int | None]:
    """With the directories that it implies, which are None."""
    whole: dict[bytes, int | None] = dict(tree)
    for path in tree:
        whole |= dict.fromkeys(directories_above(path))
    return whole


@given(trees, trees)
def test_all_differences_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, old: dict[bytes, int], new: dict[bytes, int]
) -> None:
    before, after = complete(old), complete(new)
    expected = dict.fromkeys(after.keys() - before.keys(), "added")
    expected |= dict.fromkeys(before.keys() - after.keys(), "removed")
    for path in before.keys() & after.keys():
        if (before[path] is None) != (after[path] is None):
            expected[path] = "kind"
        elif before[path] != after[path]:
            expected[path] = "content"
    nodes = [
        [Node(path, D, mode=0o755) if content is None else file(path, content) for path, content in tree.items()]
        for tree in (before, after)
    ]
    found = changes(tmp_path_factory.getbasetemp(), *nodes)
    assert dict(found) == expected
    directories = [place_of(path).directory for path, _ in found]
    assert len(found) == len(expected)
    assert directories == sorted(directories)


def no_copy(path: Path, etag: str, size: int = 9, mtime_ns: int = 5) -> Manifest:
    bucket = SourceBucket("bucket", None, None, "", signed=False)
    with ManifestWriter(path, settings(mode=Mode.NO_COPY, bucket=bucket)) as writer:
        writer.add_object("f", size, etag=etag)
        writer.add_entry(b"", b"f", F, 0o644, size, mtime_ns, object=1, offset=0)
        writer.finish()
    return Manifest.open(path)


def test_generations_of_a_bucket_are_compared_by_etag(tmp_path: Path) -> None:
    with no_copy(tmp_path / "1", "x") as old, no_copy(tmp_path / "2", "x") as same, no_copy(tmp_path / "3", "y") as new:
        assert list(differences(old, same)) == []
        assert [found.change for found in differences(old, new)] == [Change.CONTENT]


def test_between_a_copy_and_a_bucket_size_and_mtime_decide(tmp_path: Path) -> None:
    write_tree(tmp_path / "copy", [file(b"f", mtime_ns=5)], [100])
    with Manifest.open(tmp_path / "copy") as old:
        for at, mtime_ns, size, expected in ((1, 5, 9, []), (2, 6, 9, ["content"]), (3, 5, 8, ["content"])):
            with no_copy(tmp_path / str(at), "x", size, mtime_ns) as new:
                assert [found.change for found in differences(old, new)] == expected
