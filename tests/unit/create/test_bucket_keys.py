"""From keys to paths: every key is either shown or reported."""

from __future__ import annotations

import pytest

from gridfs.create.bucket_keys import ARCHIVED, MARKER, UNREPRESENTABLE, KeyMapping, Selection, file_of
from gridfs.create.source import Found
from gridfs.model import Kind, Problem
from gridfs.store.base import ObjectHead

SECOND_NS = 1_000_000_000


def head(key: str, size_bytes: int = 3, storage_class: str | None = None) -> ObjectHead:
    return ObjectHead(key, size_bytes, '"etag"', SECOND_NS, storage_class)


def mapped(key: str, prefix: str = "", **options: object) -> list[Found | Problem]:
    return list(KeyMapping(prefix, Selection()).of(head(key, **options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a b", "a+b", "a%2Fb", "ä/€", "a\nb", "\x01", "...", "a/.b", "-", "x" * 255, "é" * 127]
)
def test_what_a_path_can_show_is_a_file(key: str) -> None:
    (found,) = mapped(f"p/{key}", "p/")
    assert isinstance(found, Found)
    assert (found.path, found.kind, found.size, found.mtime_ns) == (key.encode(), Kind.FILE, 3, SECOND_NS)
    assert found.locator == f"p/{key}".encode()
    assert found.etag == '"etag"'


def test_without_an_etag_the_moment_tells_one_generation_from_another() -> None:
    stamps = [file_of(ObjectHead("a", 3, None, moment * SECOND_NS), b"a").stamp for moment in (1, 1, 2)]
    assert stamps[0] == stamps[1] != stamps[2]


@pytest.mark.parametrize(
    "key", ["a//b", "/a", "//", "a/./b", "./a", "a/..", "..", "a/../b", "a\0b", "x" * 256, "é" * 128, "a/" + "x" * 256]
)
def test_what_no_path_can_show_is_reported(key: str) -> None:
    (problem,) = mapped(key)
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.name) == (UNREPRESENTABLE, key.encode())
    assert problem.detail


@pytest.mark.parametrize(("key", "prefix", "path"), [("a/", "", b"a"), ("a/b/", "", b"a/b"), ("p/", "p/", b"")])
def test_a_marker_is_a_directory_and_reported(key: str, prefix: str, path: bytes) -> None:
    found, problem = mapped(key, prefix, size_bytes=0)
    assert isinstance(found, Found)
    assert (found.path, found.kind) == (path, Kind.DIRECTORY)
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.detail) == (MARKER, "")
    assert "7 bytes" in mapped(key, prefix, size_bytes=7)[1].detail  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["a//", "//", "../", "./"])
def test_a_marker_of_what_no_path_can_show(key: str) -> None:
    (problem,) = mapped(key, size_bytes=0)
    assert isinstance(problem, Problem)
    assert problem.reason == UNREPRESENTABLE


@pytest.mark.parametrize(
    ("storage_class", "taken"),
    [("GLACIER", False), ("DEEP_ARCHIVE", False), ("GLACIER_IR", True), ("STANDARD", True), (None, True)],
)
def test_archived_classes_are_left_out_and_reported(storage_class: str | None, taken: bool) -> None:
    (result,) = mapped("a", storage_class=storage_class)
    assert isinstance(result, Found) if taken else (isinstance(result, Problem) and result.reason == ARCHIVED)


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ([], [], ["a.jpg", "b/c.jpg", "b/d.txt", "e.txt"]),
        (["*.jpg"], [], ["a.jpg", "b/c.jpg"]),
        (["*.jpg", "e*"], [], ["a.jpg", "b/c.jpg", "e.txt"]),
        ([], ["b/*"], ["a.jpg", "e.txt"]),
        (["b/*"], ["*.txt"], ["b/c.jpg"]),
        (["?.jpg"], [], ["a.jpg"]),
        (["[ae].*"], [], ["a.jpg", "e.txt"]),
    ],
)
def test_patterns_are_of_the_path_below_the_prefix(include: list[str], exclude: list[str], taken: list[str]) -> None:
    mapping = KeyMapping("p/", Selection(tuple(include), tuple(exclude)))
    keys = ["a.jpg", "b/c.jpg", "b/d.txt", "e.txt"]
    found = [
        result.path.decode() for key in keys for result in mapping.of(head(f"p/{key}")) if isinstance(result, Found)
    ]
    assert found == taken
