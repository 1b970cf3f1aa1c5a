"""The plan of a run's view, decided without a mount."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gridfs.errors import InvalidInput
from gridfs.mount.view import Placement, Rebuilt, checked_path, plan_view


@dataclass
class FakeHost:
    directories: set[str]
    files: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()

    def is_directory(self, path: str) -> bool | None:
        if path in self.directories:
            return True
        return False if path in self.files else None

    def is_writable(self, directory: str) -> bool:
        return directory in self.writable


def at(path: str, label: str = "a@1") -> Placement:
    return Placement(label, path, "/run/gridfs/mounts/m")


def test_an_existing_directory_is_mounted_over() -> None:
    plan = plan_view([at("/data")], FakeHost({"/", "/data"}))
    assert (plan.made, plan.rebuilt) == ((), ())
    assert plan.placements == (at("/data"),)


def test_what_is_missing_below_a_writable_directory_is_made() -> None:
    host = FakeHost({"/", "/home/me"}, writable=frozenset({"/home/me"}))
    plan = plan_view([at("/home/me/in/data")], host)
    assert plan.made == ("/home/me/in", "/home/me/in/data")
    assert plan.rebuilt == ()


def test_what_is_missing_below_a_directory_of_others_is_rebuilt() -> None:
    plan = plan_view([at("/datastores/a")], FakeHost({"/", "/opt"}))
    assert plan.made == ()
    assert plan.rebuilt == (Rebuilt("/", ("/datastores", "/datastores/a")),)


def test_two_below_one_missing_directory_rebuild_it_once() -> None:
    plan = plan_view([at("/datastores/a"), at("/datastores/b", "b@1")], FakeHost({"/"}))
    assert plan.rebuilt == (Rebuilt("/", ("/datastores", "/datastores/a", "/datastores/b")),)


def test_two_below_one_made_directory_make_it_once() -> None:
    host = FakeHost({"/", "/w"}, writable=frozenset({"/w"}))
    plan = plan_view([at("/w/d/a"), at("/w/d/b", "b@1")], host)
    assert plan.made == ("/w/d", "/w/d/a", "/w/d/b")


def test_the_root_is_rebuilt_before_what_lies_in_it() -> None:
    plan = plan_view([at("/opt/x"), at("/y", "b@1")], FakeHost({"/", "/opt"}))
    assert [r.directory for r in plan.rebuilt] == ["/", "/opt"]


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["/d", "/d"], "can't both be mounted at /d"),
        (["/d", "/d/e"], "lies inside /d"),
        (["/file"], "is not a directory"),
        (["/file/below"], "/file is not a directory"),
    ],
)
def test_impossible_paths_name_themselves(paths: list[str], says: str) -> None:
    host = FakeHost({"/", "/d"}, files=frozenset({"/file"}))
    with pytest.raises(InvalidInput, match=says):
        plan_view([at(path, f"n{i}@1") for i, path in enumerate(paths)], host)


def test_a_relative_path_is_refused_with_the_absolute_one() -> None:
    with pytest.raises(InvalidInput, match=r"'data' of a@1 is a relative path; give an absolute one, such as /"):
        checked_path("a@1", "data")


def test_the_root_itself_is_refused() -> None:
    with pytest.raises(InvalidInput, match="over /"):
        checked_path("a@1", "//")


def test_a_path_is_normalised() -> None:
    assert checked_path("a@1", "//opt/./data/../data/") == "/opt/data"
