"""Runs of a user who is not root: a user namespace, FUSE by fusermount3, and everything that works inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.daemons import wait_for_end
from tests.support.user import OrdinaryUser

GRIDFS = str(Path(__file__).parents[2])


@pytest.fixture
def user(an_ordinary_user: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """Someone with `data` in two versions; their daemons end with the test."""
    source = an_ordinary_user.home / "source"
    source.mkdir()
    for which in "one", "two":
        (source / "which").write_text(which)
        for path in source, source / "which":
            os.chown(path, an_ordinary_user.uid, an_ordinary_user.gid)
        created = grid(an_ordinary_user, "datastore", "create", source, "--name", "data")
        assert created.returncode == 0, created.stderr
    yield an_ordinary_user
    released = an_ordinary_user.run([an_ordinary_user.python, "-c", RELEASE], environment={"PYTHONPATH": GRIDFS})
    assert released.returncode == 0, released.stderr
    for pid in released.stdout.split():
        wait_for_end(int(pid))


RELEASE = """
import contextlib
from gridfs.config import Paths
from gridfs.errors import StoreUnavailable
from gridfs.mount import control
from gridfs.mount.registry import Registry
registry = Registry(Paths.from_environment().runtime)
for record in registry.living():
    print(record.pid)
    with contextlib.suppress(StoreUnavailable):
        control.ask(registry.directory_of(record.mount_id), "release")
"""


def grid(user: OrdinaryUser, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return user.run([user.python, "-m", "gridfs", *arguments], environment={"PYTHONPATH": GRIDFS})


def test_the_default_path_exists_only_in_the_run(user: OrdinaryUser) -> None:
    ran = grid(user, "run", "--datastore_name", "data", "--", "sh", "-c", "cat /datastores/data/which; id -u; id -g")
    assert ran.stdout == f"two{user.uid}\n{user.gid}\n", ran.stderr
    assert user.run(["ls", "-d", "/datastores/data"]).returncode != 0


def test_a_path_below_the_root_and_one_in_the_home(user: OrdinaryUser) -> None:
    root = f"/gridfs-test-{uuid4().hex[:8]}"
    ran = grid(
        user,
        *("run", "--datastore_name", f"data@1:{root}", "--datastore_name", f"data@2:{user.home}/in"),
        *("--", "cat", f"{root}/which", f"{user.home}/in/which"),
    )
    assert ran.stdout == "onetwo", ran.stderr
    assert not os.path.lexists(root)


def test_python_open_does_not_ask_the_daemon_in_a_run(user: OrdinaryUser) -> None:
    """The veil is there for everybody: an ordinary user may mount an overlay in the run's own namespace."""
    ran = grid(user, "run", "--datastore_name", "data", "--", "stat", "--file-system", "-c", "%T", "/datastores/data")
    assert ran.stdout == "overlayfs\n", ran.stderr


def test_creating_mounting_and_running_inside_a_run(user: OrdinaryUser) -> None:
    """fusermount3 has lost its setuid bit in there."""
    program = f"""
        set -e
        grid="{user.python} -m gridfs"
        $grid datastore create /datastores/data --name copy >&2
        mkdir {user.home}/mnt
        $grid mount copy {user.home}/mnt >/dev/null
        cat {user.home}/mnt/which; echo
        $grid unmount {user.home}/mnt
        $grid run --datastore_name data@1:/inner -- cat /inner/which; echo
        $grid run --datastore_name copy:/inner -- cat /inner/which /datastores/data/which
    """
    ran = grid(user, "run", "--datastore_name", "data@2", "--", "sh", "-c", program)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["two", "one", "twotwo"]


DENIED = """
echo 0 > /proc/sys/user/max_user_namespaces
exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all "$@"
"""


def test_without_the_right_to_make_namespaces_it_says_what_to_ask_for(user: OrdinaryUser) -> None:
    """In a user namespace that may hold no further one, without capabilities: what a locked-down machine is."""
    ran = user.run(
        [
            *("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", DENIED, "sh"),
            *(user.python, "-m", "gridfs", "run", "--datastore_name", "data:/data", "--", "true"),
        ],
        environment={"PYTHONPATH": GRIDFS},
    )
    assert ran.returncode == 10, ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("grid: ")]
    for text in "doesn't let you make user and mount namespaces", "user.max_user_namespaces", "grid mount":
        assert text in line


def test_a_daemon_that_can_not_unmount_at_once_tries_again(user: OrdinaryUser) -> None:
    """fusermount3 reads a table of mounts that others change meanwhile, and then ends with an error."""
    programs = user.home / "programs"
    programs.mkdir()
    failing, failed = programs / "fusermount3", user.home / "failed"
    failing.write_text(
        f"""#!/bin/sh
case $1 in -u) if ! test -e {failed}; then touch {failed}; echo no such entry >&2; exit 1; fi; esac
exec {shutil.which("fusermount3")} "$@"
"""
    )
    failing.chmod(0o755)
    ran = user.run(
        [user.python, "-m", "gridfs", "run", "--linger", "0.4s", "--datastore_name", "data", "--", "true"],
        environment={"PYTHONPATH": GRIDFS, "PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert ran.returncode == 0, ran.stderr
    deadline = time.monotonic() + 30
    while grid(user, "-o", "json", "status").stdout.strip() != "[]":
        assert time.monotonic() < deadline, "the daemon stays"
        time.sleep(0.1)
    assert failed.exists()
