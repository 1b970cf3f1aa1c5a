"""A run's view of the machine, with ordinary directories in place of datastores: real namespaces, real exec."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gridfs.config import Paths
from gridfs.errors import Busy
from gridfs.mount import namespace
from gridfs.mount.mounts import current, top_at
from gridfs.mount.view import Placement
from tests.support.user import OrdinaryUser

ENTER = ["-m", "tests.support.enter"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("content\n")
    return directory


@pytest.fixture
def in_root() -> Iterator[str]:
    """A path directly below / that does not exist, before and after the test."""
    path = f"/gridfs-test-{uuid4().hex[:8]}"
    yield path
    assert not os.path.lexists(path)


def enter(runtime: Path, *arguments: str) -> list[str]:
    return [sys.executable, *ENTER, str(runtime), *arguments]


def wait_for_janitors(runtime: Path) -> None:
    """Returns when they have removed all that runs made; the records of it go last."""
    while any((runtime / "made").iterdir()):
        select.select([], [], [], 0.01)


def test_a_run_sees_its_datastore_and_the_host_does_not(private_dirs: Paths, source: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        enter(private_dirs.runtime, f"{place}={source}", "--", "cat", f"{place}/file"),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "content\n"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("is_image", [True, False])
def test_what_is_unmounted_while_a_run_begins_is_no_empty_directory_in_it(tmp_path: Path, is_image: bool) -> None:
    """The job ran to its end without a file, and with exit code 0."""
    unmounted, empty, place = (tmp_path / name for name in ("unmounted", "empty", "place"))
    for directory in unmounted, empty, place:
        directory.mkdir()
    with pytest.raises(Busy, match="data@1 was unmounted while the run began; start it again"):
        namespace._attach(Placement("data@1", str(place), str(unmounted), is_image), str(empty), veil=True)
    assert top_at(place, current()) is None


def test_two_runs_see_different_sources_at_one_path(private_dirs: Paths, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    runs = []
    for number in "1", "2":
        directory = tmp_path / f"v{number}"
        directory.mkdir()
        (directory / "file").write_text(number)
        command = enter(private_dirs.runtime, f"{place}={directory}", "--", "sh", "-c", f"read go; cat {place}/file")
        runs.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert [run.communicate("go\n")[0] for run in runs] == ["1", "2"]


def test_a_missing_directory_is_made_and_removed_after_its_last_user(
    private_dirs: Paths, source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "made" / "here"

    def start() -> subprocess.Popen[str]:
        command = f"cat {place}/file; read go; cat {place}/file"
        return subprocess.Popen(
            enter(private_dirs.runtime, f"{place}={source}", "--", "sh", "-c", command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    first = start()
    assert first.stdout is not None
    assert first.stdout.readline() == "content\n"
    second = start()
    assert second.stdout is not None
    assert second.stdout.readline() == "content\n"
    first.communicate("go\n")
    assert place.is_dir()
    assert second.communicate("go\n")[0] == "content\n"  # the end of the first run took nothing away from the second
    wait_for_janitors(private_dirs.runtime)
    assert not (tmp_path / "made").exists()


def test_a_killed_run_leaves_no_directory(private_dirs: Paths, source: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    run = subprocess.Popen(
        enter(private_dirs.runtime, f"{place}={source}", "--", "sh", "-c", "echo up; read never"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    run.kill()
    run.communicate()
    wait_for_janitors(private_dirs.runtime)
    assert not place.exists()


def test_the_command_replaces_the_process(private_dirs: Paths, source: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    run = subprocess.Popen(
        enter(private_dirs.runtime, f"{tmp_path}/p={source}", "--", "sh", "-c", "echo $$ $PPID; kill -TERM $$"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.communicate()[0].split() == [str(run.pid), str(os.getpid())]
    assert run.returncode == -signal.SIGTERM


def test_exit_status_working_directory_and_environment_are_the_commands_own(
    private_dirs: Paths, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "p").mkdir()
    done = subprocess.run(
        enter(private_dirs.runtime, f"{tmp_path}/p={source}", "--", "sh", "-c", "pwd; echo $MINE; exit 7"),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MINE": "kept"},
    )
    assert done.stdout.splitlines() == [os.getcwd(), "kept"]
    assert done.returncode == 7


def test_an_unknown_command_is_named(private_dirs: Paths, source: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    done = subprocess.run(
        enter(private_dirs.runtime, f"{tmp_path}/p={source}", "--", "no-such-command"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no such command: no-such-command" in done.stderr


USER_PROGRAM = r"""
set -e
id -u; id -g; pwd
cat "$1/file"
ls / | grep -v "^$(basename "$(dirname "$1")")$" | sort | sha256sum
readlink /proc/self/exe > /dev/null
touch "$HOME/output"
if touch "$1/file" 2>/dev/null; then echo writable; fi
if mkdir /never 2>/dev/null; then echo made; fi
"""


def test_an_ordinary_user_gets_a_path_that_can_not_be_made(an_ordinary_user: OrdinaryUser, in_root: str) -> None:
    """The root is rebuilt: the path is there, everything else is as before, output goes where it always went."""
    user = an_ordinary_user
    source = user.home / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    for made in source, source / "file":
        os.chown(made, user.uid, user.gid)
    outside = user.run(["sh", "-c", "ls / | sort | sha256sum"])
    done = user.run(
        [
            user.python,
            *ENTER,
            f"{user.home}/run",
            f"{in_root}/data={source}",
            "--",
            "sh",
            "-c",
            USER_PROGRAM,
            "sh",
            f"{in_root}/data",
        ],
        environment={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(user.uid),
        str(user.gid),
        str(user.home),
        "content",
        outside.stdout.strip(),
    ]
    assert (user.home / "output").exists()


def test_a_run_inside_a_run_works_for_an_ordinary_user(an_ordinary_user: OrdinaryUser, in_root: str) -> None:
    user = an_ordinary_user
    source = user.home / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    for made in source, source / "file":
        os.chown(made, user.uid, user.gid)
    inner = [str(user.python), *ENTER, f"{user.home}/run", f"{in_root}/b={source}", "--", "cat"]
    done = user.run(
        [
            user.python,
            *ENTER,
            f"{user.home}/run",
            f"{in_root}/a={source}",
            "--",
            *inner,
            f"{in_root}/a/file",
            f"{in_root}/b/file",
        ],
        environment={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    assert done.stdout == "content\ncontent\n"


def test_a_run_inside_another_takes_no_directory_from_a_third(an_ordinary_user: OrdinaryUser, in_root: str) -> None:
    """Their user namespaces are siblings, and from one of them nobody may see which mount namespace the other has."""
    user = an_ordinary_user
    source, made = user.home / "source", user.home / "made"
    source.mkdir()
    (source / "file").write_text("content\n")
    for path in source, source / "file":
        os.chown(path, user.uid, user.gid)
    run = [str(user.python), *ENTER, f"{user.home}/run"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    third = subprocess.Popen(
        user.command([*run, f"{made}={source}", "--", "sh", "-c", f"echo up; read go; cat {made}/file"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=user.home,
        env=user.environment(environment),
        text=True,
    )
    assert third.stdout is not None
    assert third.stdout.readline() == "up\n"
    inner = [*run, f"{in_root}/b={source}", "--", "true"]  # which begins with a sweep
    nested = user.run([*run, f"{in_root}/a={source}", "--", *inner], environment=environment)
    assert (nested.returncode, nested.stderr) == (0, "")
    assert third.communicate("go\n")[0] == "content\n"
    wait_for_janitors(user.home / "run")


FOREIGN_MOUNTS = """
import os, sys
from gridfs.mount import syscalls
for place, options in (sys.argv[1], ""), (sys.argv[2], ",allow_other"):
    os.makedirs(place)
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0{options}"
    syscalls.mount("foreign", place, "fuse", syscalls.MountFlag.NOSUID | syscalls.MountFlag.NODEV, data)
"""


def test_mounts_that_answer_nothing_are_left_as_they_are_or_mounted_over(an_ordinary_user: OrdinaryUser) -> None:
    """One of another user, who lets nobody else in, and one whose daemon is dead, in a directory that is rebuilt."""
    user, environment = an_ordinary_user, {"PYTHONPATH": str(Path(__file__).parents[2])}
    source, shared = user.home / "source", user.home.parent / "shared"
    source.mkdir()
    (source / "file").write_text("content\n")
    for path in source, source / "file":
        os.chown(path, user.uid, user.gid)
    private, dead = shared / "private", shared / "dead"
    enter_only = user.prefix[: user.prefix.index("setpriv")]
    mounting = [*enter_only, user.python, "-c", FOREIGN_MOUNTS, private, dead]
    subprocess.run(mounting, check=True, env=user.environment(environment))
    for place, kept in (shared / "data", {private, dead}), (private, {dead}), (dead, {private}):
        run = [user.python, *ENTER, f"{user.home}/run", f"{place}={source}", "--"]
        done = user.run([*run, "sh", "-c", f"cat {place}/file; ls {private} {dead}"], environment=environment)
        assert done.stdout.startswith("content\n"), done.stderr
        said = {private: f"{private}': Permission denied", dead: f"{dead}': Transport endpoint is not connected"}
        assert {path for path, text in said.items() if text in done.stderr} == kept
