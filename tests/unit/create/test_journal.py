"""The journal of a creation: what it keeps, and what the next run makes of it (create/journal.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridfs.create.journal import Journal
from gridfs.create.journal_schema import FILES_AT_ONCE
from gridfs.create.source import IMPLIED_MODE, Found, SourceTotals
from gridfs.manifest.order import place_of
from gridfs.model import Kind, Problem

HASH = bytes(32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    journal.begin_scan()
    yield journal
    journal.close()


def file(path: bytes, size: int = 10, stamp: bytes = b"1", **more: object) -> Found:
    return Found(path, Kind.FILE, 0o644, size, 5, stamp=stamp, **more)  # type: ignore[arg-type]


def directory(path: bytes) -> Found:
    return Found(path, Kind.DIRECTORY, 0o700, 0, 7)


def paths(journal: Journal) -> list[bytes]:
    return [row.path for row in journal.rows()]


def store(journal: Journal, number: int, *found: Found) -> None:
    """All of *found* in one durable object."""
    key = f"{number:032x}"
    numbered = journal.begin_object(key)
    for index, each in enumerate(found):
        sha256 = (number << 16 | index).to_bytes(32, "big")
        journal.set_content(each.path, journal.add_content(sha256, each.size, numbered, index * 10))
    journal.finish_object(numbered, 10 * len(found), b"checksums")


names = st.lists(st.sampled_from([b"a", b"b", b"a-", b"a.b", b"\xff"]), min_size=1, max_size=4).map(b"/".join)


@given(st.sets(names, max_size=20))
def test_rows_come_in_the_manifest_s_order_whatever_order_they_were_found_in(found: set[bytes]) -> None:
    journal = Journal(Path(":memory:"))
    journal.begin_scan()
    for path in found:
        journal.add(file(path))
    rows = [(row.directory, row.name) for row in journal.rows()]
    assert rows == sorted(rows)
    named = {row.path: row.kind for row in journal.rows()}
    for path in found:
        above = path.rpartition(b"/")[0]
        assert not above or named[above] == Kind.DIRECTORY
    journal.close()


def test_directories_that_nobody_found_are_implied(journal: Journal) -> None:
    journal.add(file(b"a/b/c"))
    rows = {row.path: row for row in journal.rows()}
    assert set(rows) == {b"a", b"a/b", b"a/b/c"}
    assert (rows[b"a/b"].kind, rows[b"a/b"].mode) == (Kind.DIRECTORY, IMPLIED_MODE)
    journal.add(directory(b"a/b"))
    assert {row.path: row for row in journal.rows()}[b"a/b"].mode == 0o700


@pytest.mark.parametrize("first", [b"a", b"a/b"])
def test_a_directory_wins_over_a_file_of_its_name_and_that_is_reported(journal: Journal, first: bytes) -> None:
    for path in sorted([b"a", b"a/b"], reverse=first == b"a/b"):
        journal.add(file(path))
    assert {row.path: row.kind for row in journal.rows()} == {b"a": Kind.DIRECTORY, b"a/b": Kind.FILE}
    assert [problem[:2] for problem in journal.problems()] == [("shadowed", b"a")]


@pytest.mark.parametrize("first", [b"d/a", b"d/a/b"])
def test_many_files_at_once_are_taken_as_one_by_one(journal: Journal, first: bytes) -> None:
    many = [file(b"d/%d/%d" % (number % 7, number), number) for number in range(2 * FILES_AT_ONCE + 3)]
    clashing = sorted([file(b"d/a"), file(b"d/a/b")], key=lambda each: each.path != first)
    journal.add_files([*many[:100], clashing[0], *many[100:600], clashing[1], *many[600:], many[5]])
    one_by_one = Journal(Path(":memory:"))
    one_by_one.begin_scan()
    for each in [*many, *clashing]:
        one_by_one.add(each)
    assert list(journal.rows()) == list(one_by_one.rows())
    assert journal.found_files == len(many) + 3
    assert journal.found_bytes == sum(each.size for each in many) + 5 + 20
    assert [problem[:2] for problem in journal.problems()] == [("shadowed", b"d/a")]
    one_by_one.close()


def test_content_stays_with_what_is_found_again_at_once(journal: Journal, path: Path) -> None:
    many = [file(b"%04d" % number) for number in range(FILES_AT_ONCE)]
    journal.add_files(many)
    store(journal, 1, *many)
    journal.begin_scan()
    journal.add_files([many[0]._replace(stamp=b"2"), *many[1:]])
    journal.end_scan()
    assert [found.path for found in journal.unread()] == [b"0000"]


def test_a_clash_may_be_refused(path: Path) -> None:
    clashes = []
    journal = Journal(path, on_clash=clashes.append)
    journal.begin_scan()
    journal.add(file(b"a"))
    journal.add(directory(b"a"))
    journal.add(file(b"a"))
    assert clashes == [b"a", b"a"]
    journal.close()


def test_the_last_file_of_a_path_counts(journal: Journal) -> None:
    journal.add(file(b"a", 10))
    journal.add(file(b"a", 20, b"2"))
    journal.end_scan()
    assert journal.totals(False) == SourceTotals(1, 20)


def test_what_is_durable_is_kept_by_the_next_run_if_its_stamp_is(journal: Journal, path: Path) -> None:
    for name in (b"same", b"other", b"gone", b"kind", b"unstamped"):
        journal.add(file(name, stamp=b"" if name == b"unstamped" else b"1"))
    journal.end_scan()
    store(journal, 1, *journal.unread())
    assert list(journal.unread()) == []
    journal.close()

    again = Journal(path)
    again.begin_scan()
    for found in (file(b"same"), file(b"other", stamp=b"2"), directory(b"kind"), file(b"unstamped", stamp=b"")):
        again.add(found)
    again.end_scan()
    assert paths(again) == [b"kind", b"other", b"same", b"unstamped"]
    assert [found.path for found in again.unread()] == [b"other", b"unstamped"]
    assert again.totals(True) == SourceTotals(1, 10)
    assert again.has_durable()
    again.close()


def test_what_was_on_its_way_is_forgotten(journal: Journal, path: Path) -> None:
    journal.add(file(b"a"))
    journal.end_scan()
    number = journal.begin_object("0" * 32)
    journal.set_content(b"a", journal.add_content(HASH, 10, number, 0))
    journal.commit()
    journal.close()
    again = Journal(path)
    assert not again.has_durable()
    assert again.find_content(HASH) is None
    assert [found.path for found in again.unread()] == [b"a"]
    again.close()


def test_what_was_not_committed_is_not_there(journal: Journal, path: Path) -> None:
    journal.put("kept", "1")
    journal.commit()
    journal.put("lost", "2")
    journal.close()
    again = Journal(path)
    assert (again.get("kept"), again.get("lost")) == ("1", None)
    again.close()


def test_hard_links_are_read_once_and_share(journal: Journal) -> None:
    for name in (b"a", b"b", b"c"):
        journal.add(file(name, same_as=b"inode 1"))
    journal.add(file(b"d"))
    journal.end_scan()
    assert [found.path for found in journal.unread()] == [b"a", b"d"]
    store(journal, 1, file(b"a"))
    assert [found.path for found in journal.names_of(file(b"b", same_as=b"inode 1"))] == [b"a", b"b", b"c"]
    journal.share_hard_links()
    assert [found.path for found in journal.unread()] == [b"d"]
    assert len({row.content for row in journal.rows()} - {None}) == 1


def test_unread_may_be_written_to_meanwhile(journal: Journal) -> None:
    count = 10_000  # more than a page
    for number in range(count):
        journal.add(file(b"%05d" % number))
    journal.end_scan()
    seen = []
    for found in journal.unread():
        seen.append(found.path)
        journal.drop(found.path, Problem("unreadable", found.path))
    assert seen == [b"%05d" % number for number in range(count)]
    assert journal.problem_counts() == [("unreadable", count)]
    assert not journal.has_entries()


def test_problems_of_an_earlier_scan_are_gone(journal: Journal) -> None:
    journal.add_problem(Problem("socket", b"a"))
    journal.end_scan()
    journal.begin_scan()
    journal.add_problem(Problem("fifo", b"b"))
    journal.end_scan()
    assert [problem.reason for problem in journal.problems()] == ["fifo"]


def test_a_problem_whose_detail_is_no_utf8(journal: Journal) -> None:
    """As the name of an extended attribute may be."""
    problem = Problem("xattr", b"a", "user.\udcff, user.\n")
    journal.add_problem(problem)
    journal.end_scan()
    assert list(journal.problems()) == [problem]


def test_objects_that_are_gone_take_their_contents_with_them(journal: Journal) -> None:
    files = [file(b"a"), file(b"b")]
    for each in files:
        journal.add(each)
    journal.end_scan()
    store(journal, 1, files[0])
    store(journal, 2, files[1])
    journal.forget_objects([number for number, _, _ in journal.durable_objects()][:1])
    assert [found.path for found in journal.unread()] == [b"a"]
    assert len(journal.durable_objects()) == 1


def test_places_are_the_manifest_s() -> None:
    assert place_of(b"a/b/c") == (b"a\0b", b"c")


def test_what_is_written_after_a_rollback_is_not_taken_for_another_objects(journal: Journal, path: Path) -> None:
    """A commit finds no room and is rolled back; the source's thread goes on with the pack that it has open."""
    journal.commit()
    number = journal.begin_object("one")
    journal._connection.execute("ROLLBACK")  # as SQLite does it for SQLITE_FULL
    journal.add(file(b"a"), journal.add_content(b"A" * 32, 10, number, 1000))
    journal.close()
    again = Journal(path)
    again.begin_scan()
    assert again.begin_object("two") == number, "which is why it matters"
    assert again.find_content(b"A" * 32) is None
    assert again.totals(have_content=True) == SourceTotals(0, 0)
    again.close()
