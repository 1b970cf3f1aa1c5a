"""Mounts of a user who is not root, by fusermount3: the FUSE mount itself is at the path, and there is no veil."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import wait_for_end
from tests.support.data import ramp
from tests.support.user import OrdinaryUser

REPOSITORY = str(Path(__file__).parents[2])


HIDE_FUSE = """
set -e
mode=$1; shift
mount -t tmpfs none /mnt
mkdir /mnt/dev
for name in null zero urandom; do touch /mnt/dev/$name; mount --bind /dev/$name /mnt/dev/$name; done
if [ "$mode" ]; then mknod -m "$mode" /mnt/dev/fuse c 10 229; fi
mount --rbind /mnt/dev /dev
exec "$@"
"""


@pytest.fixture
def user(an_ordinary_user: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """Someone with a datastore `data` and directories to mount it on; their mounts end with the test."""
    source = an_ordinary_user.home / "source"
    for path in (source, an_ordinary_user.home / "first", an_ordinary_user.home / "second"):
        path.mkdir()
        os.chown(path, an_ordinary_user.uid, an_ordinary_user.gid)
    (source / "file").write_bytes(ramp(500_000))
    (source / "file").chmod(0o644)
    (source / "script").write_text("#!/bin/sh\nid -u\n")
    (source / "script").chmod(0o755)
    succeeded(grid(an_ordinary_user, "datastore", "create", source, "--name", "data"))
    yield an_ordinary_user
    pids = [record["pid"] for record in records(an_ordinary_user)]
    for mountpoint in ("first", "second"):
        grid(an_ordinary_user, "unmount", "--lazy", an_ordinary_user.home / mountpoint)
    for pid in pids:
        wait_for_end(pid)


def grid(user: OrdinaryUser, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return grid_under(user, [], *arguments, **variables)


def grid_under(
    user: OrdinaryUser, prefix: list[str], *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """As `grid`, started by the command *prefix*."""
    command = [*prefix, user.python, "-m", "gridfs", *arguments]
    return user.run(command, environment={"PYTHONPATH": REPOSITORY, **variables})


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(user: OrdinaryUser) -> list[dict[str, Any]]:
    """What the user's registry holds, read as root."""
    directory = user.home / "run" / "gridfs" / "mounts"
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*/record.json"))]


def failed(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for text in said:
        assert text in done.stderr


def test_mount_read_execute_and_unmount(user: OrdinaryUser) -> None:
    mount = user.home / "first"
    succeeded(grid(user, "mount", "data", mount))
    (record,) = records(user)
    assert (record["fuse_path"], record["zero_open"], record["veil_device"]) == (str(mount), True, None)
    assert record["veil"] == "off: only root may mount one"
    assert record["read_ahead"].startswith("128, not 512 (")
    assert record["max_background"].startswith("unknown (no fusectl: ")
    assert succeeded(user.run(["cmp", mount / "file", user.home / "source" / "file"])) == ""
    assert succeeded(user.run([mount / "script"])) == f"{user.uid}\n"
    assert succeeded(user.run(["stat", "-c", "%u %g %a", mount / "script"])) == f"{user.uid} {user.gid} 555\n"
    succeeded(grid(user, "unmount", mount))
    wait_for_end(record["pid"])
    assert succeeded(user.run(["ls", mount])) == ""
    assert records(user) == []


def test_second_path_is_a_second_daemon_on_the_same_cache(user: OrdinaryUser) -> None:
    for mountpoint in ("first", "second"):
        succeeded(grid(user, "mount", "data", user.home / mountpoint))
    one, other = records(user)
    assert one["pid"] != other["pid"]
    assert one["cache_directory"] == other["cache_directory"]
    assert {one["target"], other["target"]} == {str(user.home / "first"), str(user.home / "second")}
    succeeded(grid(user, "unmount", "data"))
    assert records(user) == []


def test_datastores_that_can_not_be_made(user: OrdinaryUser) -> None:
    failed(grid(user, "mount", "data"), 5, "/datastores/data", "sudo install -d", "grid mount data DIR")


def test_allow_other_that_is_not_permitted(user: OrdinaryUser) -> None:
    done = grid(user, "mount", "--allow-other", "data", user.home / "first")
    failed(done, 5, "--allow-other is not permitted", "user_allow_other")


def test_mountpoint_of_someone_else(user: OrdinaryUser) -> None:
    failed(grid(user, "mount", "data", "/srv"), 5, "/srv is not yours")


def test_places_behind_a_closed_directory(user: OrdinaryUser) -> None:
    closed = user.home / "closed"
    closed.mkdir()
    os.chown(closed, user.uid, user.gid)
    closed.chmod(0)
    failed(grid(user, "mount", "data", closed / "x"), 5, f"{closed}/x can't be read: Permission denied")
    failed(grid(user, "unmount", closed / "x"), 3, f"nothing is mounted at {closed}/x")
    for command in (["datastore"], ["mount", "data", user.home / "first"], ["run", "--datastore_name", "data", "true"]):
        failed(grid(user, "--store", closed / "store", *command), 5, f"{closed}/store: Permission denied")
    assert "Nothing is mounted" in grid(user, "status", XDG_RUNTIME_DIR=str(closed / "run")).stderr


def test_mount_of_somebody_else(user: OrdinaryUser) -> None:
    mount = user.home / "first"
    succeeded(grid(user, "mount", "data", mount))
    become = user.prefix.index("setpriv")
    as_root = OrdinaryUser("root", 0, 0, user.home, user.python, user.prefix[:become], user.variables)
    environment = {"PYTHONPATH": REPOSITORY, "HOME": "/nonexistent", "XDG_RUNTIME_DIR": str(user.home / "root")}
    (record,) = records(user)
    done = as_root.run([user.python, "-m", "gridfs", "unmount", mount], environment=environment)
    assert (done.returncode, done.stderr) == (0, f"Unmounted {mount}\n")
    wait_for_end(record["pid"])


def test_mount_of_another_runtime_directory(user: OrdinaryUser) -> None:
    """Of cron, or of a login whose end has removed it."""
    mount, other = user.home / "first", str(user.home / "other")
    succeeded(grid(user, "mount", "data", mount))
    (record,) = records(user)
    assert grid(user, "status").stderr == ""
    told = f"{mount} holds data@1, mounted with another XDG_RUNTIME_DIR: grid unmount {mount}\n"
    assert grid(user, "status", XDG_RUNTIME_DIR=other).stderr == told
    done = grid(user, "mount", "data", mount, XDG_RUNTIME_DIR=other)
    failed(done, 4, "data@1 of another user, or another XDG_RUNTIME_DIR", f"grid unmount {mount}")
    succeeded(grid(user, "unmount", mount, XDG_RUNTIME_DIR=other))
    wait_for_end(record["pid"])


def test_a_start_that_runs_out_of_descriptors_leaves_nothing(user: OrdinaryUser) -> None:
    """At each place of the start in turn; at some it can't even run fusermount3 to unmount what it has mounted."""
    assert failed_starts(user, "nofile", range(16, 26), "Too many open files")


def failed_starts(user: OrdinaryUser, resource: str, limits: range, *said: str) -> int:
    """Mounts below each of the *limits*; how many failed, each with a line that has *said* and nothing left."""
    mount, failures = user.home / "first", 0
    for limit in limits:
        done = grid_under(user, ["prlimit", f"--{resource}={limit}"], "mount", "data", mount)
        if done.returncode == 0:
            succeeded(grid(user, "unmount", mount))
            continue
        failures += 1
        failed(done, 10, *said)
        assert succeeded(user.run(["ls", mount])) == ""
    return failures


def test_a_limit_of_threads_is_no_defect(user: OrdinaryUser) -> None:
    failed(grid_under(user, ["prlimit", "--nproc=1"], "datastore"), 10, "threads can be started", "ulimit -u")
    failed_starts(user, "nproc", range(2, 10))


def test_without_what_gives_fusermount_its_privileges(user: OrdinaryUser) -> None:
    done = grid_under(user, ["setpriv", "--no-new-privs"], "mount", "data", user.home / "first")
    failed(done, 10, "setuid bit", "grid datastore download")


def test_what_others_keep_for_themselves_does_not_hide_the_rest(user: OrdinaryUser) -> None:
    succeeded(grid(user, "datastore", "create", user.home / "source", "--name", "data"))
    succeeded(grid(user, "datastore", "create", user.home / "source", "--name", "other"))
    datastores = user.home / "data" / "gridfs" / "store" / "datastores"
    (datastores / "data" / "versions" / "00000001.json").chmod(0)
    (datastores / "other").chmod(0)
    done = grid(user, "datastore", "-o", "json")
    assert [(listed["name"], listed["version"]) for listed in json.loads(done.stdout)] == [("data", 2)]
    assert done.returncode == 5
    assert "data/versions/00000001.json: Permission denied" in done.stderr
    assert "datastores/other/versions: Permission denied" in done.stderr
    done = grid(user, "datastore", "versions", "data")
    assert (done.returncode, len(done.stdout.splitlines())) == (5, 2)
    done = grid(user, "datastore", "gc")
    assert done.returncode == 5
    assert "00000001.json: Permission denied" in done.stderr
    for name in ("data/versions/00000001.json", "other"):
        (datastores / name).chmod(0o755)


def test_busy_and_lazy(user: OrdinaryUser) -> None:
    mount = user.home / "first"
    succeeded(grid(user, "mount", "data", mount))
    (record,) = records(user)
    command = user.command(["sh", "-c", 'exec 3< "$1"; echo; read x; wc -c <&3', "sh", mount / "file"])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=user.environment(), text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        failed(grid(user, "unmount", mount), 4, f"{mount} is in use by sh (pid {reader.pid}", "--lazy")
        succeeded(grid(user, "unmount", "--lazy", mount))
        assert reader.communicate("\n")[0].strip() == "500000"
    wait_for_end(record["pid"])


def test_killed_daemon_is_replaced(user: OrdinaryUser) -> None:
    mount = user.home / "first"
    succeeded(grid(user, "mount", "data", mount))
    (record,) = records(user)
    os.kill(record["pid"], 9)
    wait_for_end(record["pid"])
    assert "not connected" in user.run(["ls", mount]).stderr
    succeeded(grid(user, "mount", "data", mount))
    assert succeeded(user.run(["cmp", mount / "file", user.home / "source" / "file"])) == ""


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [("600", 5, "may not be opened (Permission denied)"), ("", 10, "does not exist; load the kernel module")],
)
def test_fuse_that_is_missing_or_not_permitted(user: OrdinaryUser, mode: str, code: int, said: str) -> None:
    """In a namespace where /dev/fuse is root's alone, or where there is none."""
    become = user.prefix.index("setpriv")
    grid_mount = [user.python, "-m", "gridfs", "mount", "data", user.home / "first"]
    done = subprocess.run(
        [
            *user.prefix[:become],
            "unshare",
            "--mount",
            "sh",
            "-c",
            HIDE_FUSE,
            "sh",
            mode,
            *user.prefix[become:],
            *grid_mount,
        ],
        check=False,
        capture_output=True,
        text=True,
        env=user.environment({"PYTHONPATH": REPOSITORY}),
    )
    failed(done, code, "/dev/fuse", said)


def test_sigterm_unmounts_cleanly(user: OrdinaryUser) -> None:
    mount = user.home / "first"
    succeeded(grid(user, "mount", "data", mount))
    (record,) = records(user)
    os.kill(record["pid"], 15)
    wait_for_end(record["pid"])
    assert succeeded(user.run(["ls", mount])) == ""
    assert records(user) == []
