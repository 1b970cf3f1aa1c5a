"""`grid run` and `grid session` as a job script uses them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from gridfs.mount import control
from tests.cli.conftest import Grid
from tests.support.daemons import living, release_all, wait_for_end

SMALL = {
    "_ctypes",
    "_socket",
    "_struct",
    "ctypes",
    "ctypes._endian",
    "fcntl",
    "itertools",
    "struct",
    "types",
    "warnings",
}
"""Modules that Python has, each imported in less than a millisecond; some are there from the beginning."""

IMPORTED = "import sys; sys.argv[0] = 'grid'; from gridfs.cli import main; main()"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `data` in versions 1 and 2, which differ in the file `which`, and `other`."""
    base = tmp_path_factory.mktemp("run")
    folder = base / "source"
    folder.mkdir()
    for name, which in ("data", "one"), ("data", "two"), ("other", "other"):
        (folder / "which").write_text(which)
        command = [sys.executable, "-m", "gridfs", "--store", base / "store", "datastore", "create", folder]
        subprocess.run([*command, "--name", name], check=True, env={**os.environ, "XDG_STATE_HOME": str(base)})
    return base / "store"


@pytest.fixture
def versions(store: Path, tmp_path: Path, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of that store for one test, and the end of all daemons after it."""
    shutil.copytree(store, tmp_path / "store")
    monkeypatch.setenv("GRIDFS_STORE", str(tmp_path / "store"))
    yield
    release_all(private_dirs.runtime)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gridfs", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_gone(path: Path) -> None:
    """Returns when the janitor of a run that has ended has removed what the run made."""
    while path.exists():
        select.select([], [], [], 0.01)


@pytest.mark.usefixtures("versions")
def test_the_highest_version_is_taken_and_said(grid: Grid, tmp_path: Path) -> None:
    ended = grid("run", "--datastore_name", f"data:{tmp_path}/in", "--", "cat", tmp_path / "in/which").succeeded()
    assert ended.out == "two"
    assert f"data: version 2, the highest, at {tmp_path}/in" in ended.err


@pytest.mark.usefixtures("versions")
def test_a_new_version_counts_also_where_a_daemon_answers(grid: Grid, tmp_path: Path) -> None:
    where = ["--datastore-name", "data", "--datastore-mount-dir", tmp_path / "in", "--", "cat", tmp_path / "in/which"]
    assert grid("run", *where).out == "two"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "which").write_text("three")
    grid("datastore", "create", tmp_path / "source", "--name", "data").succeeded()
    assert grid("run", *where).out == "three"


@pytest.mark.usefixtures("versions")
def test_two_runs_see_different_versions_at_one_path(tmp_path: Path, private_dirs: Paths) -> None:
    read = ["--datastore_mount_dir", tmp_path / "in", "--", "sh", "-c", f"echo up; read go; cat {tmp_path}/in/which"]
    runs = [start("run", "--datastore_name", f"data@{version}", *read) for version in (1, 2)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
    assert [run.communicate("go\n")[0] for run in runs] == ["one", "two"]
    assert len(living(private_dirs.runtime)) == 2


@pytest.mark.usefixtures("versions")
def test_several_datastores_at_paths_of_their_own(grid: Grid, tmp_path: Path) -> None:
    x, y = tmp_path / "x", tmp_path / "y"
    ended = grid(
        *("run", "--datastore_name", "data", "--datastore_name", "other"),
        *("--datastore_mount_dir", x, "--datastore_mount_dir", y, "--", "cat", x / "which", y / "which"),
    )
    assert ended.out == "twoother"


@pytest.mark.usefixtures("versions")
def test_the_default_path_and_a_file_of_grids(grid: Grid, tmp_path: Path) -> None:
    assert not Path("/datastores/data").exists(), "this machine has a datastore of that name mounted, or a folder"
    config = tmp_path / "run.yml"
    config.write_text("compute:\n  train:\n    datastore_name: data\n    datastore_version: 1\n")
    assert grid("run", "--config", config, "--", "cat", "/datastores/data/which").out == "one"
    wait_until_gone(Path("/datastores/data"))


@pytest.mark.usefixtures("versions")
def test_attaching_imports_next_to_nothing(tmp_path: Path, grid: Grid) -> None:
    where = ["run", "--datastore_name", "data", "--datastore_mount_dir", str(tmp_path / "in"), "--", "true"]
    (tmp_path / "in").mkdir()
    grid(*where).succeeded()
    imported = imported_by(IMPORTED, *where) - imported_by("pass")
    assert imported - SMALL == {
        *("gridfs", "gridfs.cli", "gridfs.cli.quick_run", "gridfs.cli.run_request", "gridfs.errors", "gridfs.light"),
        *("gridfs.mount", "gridfs.mount.fields", "gridfs.mount.leftovers", "gridfs.mount.namespace"),
        *("gridfs.mount.quick", "gridfs.mount.runs", "gridfs.mount.syscalls", "gridfs.mount.veil", "gridfs.mount.view"),
    }


@pytest.mark.usefixtures("versions")
def test_a_store_of_the_configuration_file_is_no_longer_way(
    tmp_path: Path, grid: Grid, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRIDFS_STORE")
    private_dirs.config_file.parent.mkdir(parents=True, exist_ok=True)
    private_dirs.config_file.write_text(f'default = "lab"\n[stores]\nlab = "file://{tmp_path}/store"\n')
    where = ["run", "--datastore_name", f"data@1:{tmp_path}/in", "--", "true"]
    grid(*where).succeeded()
    assert not {"click", "dataclasses", "tomllib"} & (imported_by(IMPORTED, *where) - imported_by("pass"))
    private_dirs.config_file.write_text('default = "lab"\n')
    grid(*where).failed(2, "config.toml", "'lab'")


def imported_by(program: str, *arguments: str) -> set[str]:
    """What Python imports for *program*, the module errno aside, which some Pythons have from the beginning."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program, *arguments], check=True, capture_output=True, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time")]
    return {line.rpartition("|")[2].strip() for line in lines} - {"errno", "__future__"}


@pytest.mark.usefixtures("versions")
def test_the_job_is_the_process_itself(tmp_path: Path) -> None:
    run = start("run", "--datastore_name", f"data:{tmp_path}/in", "--", "sh", "-c", "echo $$; kill -TERM $$")
    assert run.communicate()[0] == f"{run.pid}\n"
    assert run.returncode == -signal.SIGTERM


@pytest.mark.usefixtures("versions")
def test_a_killed_daemon_gives_errors_and_is_replaced(tmp_path: Path, private_dirs: Paths, grid: Grid) -> None:
    run = start("run", "--datastore_name", f"data:{tmp_path}/in", "--", "sh", "-c", f"echo; read go; ls {tmp_path}/in")
    assert run.stdout is not None
    run.stdout.readline()
    (daemon,) = living(private_dirs.runtime)
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for_end(daemon.pid)
    out, err = run.communicate("go\n")
    assert out == ""
    assert "Input/output error" in err  # ENOTCONN without an image
    assert grid("run", "--datastore_name", f"data:{tmp_path}/in", "--", "cat", tmp_path / "in/which").out == "two"
    (new,) = living(private_dirs.runtime)
    assert new.pid != daemon.pid


@pytest.mark.usefixtures("versions")
def test_a_daemon_of_runs_ends_after_its_last_user_and_not_before(tmp_path: Path, private_dirs: Paths) -> None:
    where = ["--datastore_name", f"data:{tmp_path}/in", "--linger", "1", "--"]
    run = start("run", *where, "sh", "-c", f"echo; read go; cat {tmp_path}/in/which")
    assert run.stdout is not None
    run.stdout.readline()
    (daemon,) = living(private_dirs.runtime)
    with pytest.raises(subprocess.TimeoutExpired):  # more than twice its linger
        run.wait(timeout=2.5)
    assert [record.pid for record in living(private_dirs.runtime)] == [daemon.pid]
    assert run.communicate("go\n")[0] == "two"
    wait_for_end(daemon.pid)
    assert living(private_dirs.runtime) == []


@pytest.mark.usefixtures("versions")
def test_a_daemon_that_leaves_is_shown_with_its_name(tmp_path: Path, private_dirs: Paths, grid: Grid) -> None:
    run = start(
        "run", "--datastore_name", f"data:{tmp_path}/in", "--", "sh", "-c", f"echo; read go; cat {tmp_path}/in/which"
    )
    assert run.stdout is not None
    run.stdout.readline()
    (daemon,) = living(private_dirs.runtime)
    control.ask(private_dirs.runtime / "mounts" / daemon.mount_id, "release")
    (row,) = grid("status").out.splitlines()[1:]
    assert row.split()[:3] == ["data@2", "leaving", str(daemon.pid)]
    (shown,) = grid("status", "-o", "json").json
    assert (shown["state"], shown["name"], shown["pid"]) == ("leaving", "data", daemon.pid)
    assert grid("run", "--datastore_name", f"data:{tmp_path}/in", "--", "cat", tmp_path / "in/which").out == "two"
    assert run.communicate("go\n")[0] == "two"


@pytest.mark.usefixtures("versions")
def test_runs_that_start_together_share_one_daemon(tmp_path: Path, private_dirs: Paths) -> None:
    where = ["--datastore_name", f"data:{tmp_path}/in", "--", "cat", f"{tmp_path}/in/which"]
    runs = [start("run", *where) for _ in range(8)]
    said = [run.communicate() for run in runs]
    assert [output for output, _ in said] == ["two"] * 8, said
    assert len(living(private_dirs.runtime)) == 1


@pytest.mark.usefixtures("versions")
def test_runs_share_the_pages_of_one_image(grid: Grid, private_dirs: Paths) -> None:
    look = "import os; s = os.stat('/datastores/data'); print(s.st_dev, open('/proc/mounts').read().count(' erofs '))"
    ran = [grid("run", "--datastore_name", "data", "--", sys.executable, "-c", look) for _ in range(2)]
    devices = {answer.out.split()[0] for answer in ran}
    assert len(devices) == 1
    assert os.major(int(devices.pop())) in (0, 7)
    (daemon,) = living(private_dirs.runtime)
    assert daemon.veil == "image"
    assert all(int(answer.out.split()[1]) >= 2 for answer in ran)


@pytest.mark.usefixtures("versions")
def test_inside_a_run_everything_works(grid: Grid, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    program = f"""
        set -e
        grid="{sys.executable} -m gridfs"
        $grid datastore create {tmp_path}/out/data --name data 2>&1 | grep -c data
        $grid run --datastore_name data@1:{inner} -- cat {inner}/which; echo
        mkdir {tmp_path}/mnt
        $grid mount other {tmp_path}/mnt >/dev/null
        cat {tmp_path}/mnt/which; echo
        $grid unmount {tmp_path}/mnt >/dev/null
    """
    ended = grid("run", "--datastore_name", f"data@2:{tmp_path}/out/data", "--", "sh", "-c", program).succeeded()
    assert ended.out.splitlines()[1:] == ["one", "other"]
    assert grid("datastore", "-o", "json").json[-2]["version"] == 3


@pytest.mark.usefixtures("versions")
def test_a_session_is_a_shell_with_datastores_in_the_home(private_dirs: Paths) -> None:
    """On a terminal, as a person has it."""
    home = Path.home()
    parent, terminal = pty.openpty()
    session = subprocess.Popen(
        [sys.executable, "-m", "gridfs", "session", "--datastore_name", "data@1"],
        stdin=subprocess.PIPE,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "SHELL": "/bin/sh"},
        text=True,
    )
    os.close(terminal)
    session.communicate("cat ~/datastores/data/which /datastores/data/which; echo; exit 3\n")
    shown = os.read(parent, 4096).decode()
    os.close(parent)
    assert "oneone" in shown
    assert session.returncode == 3
    wait_until_gone(home / "datastores")


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--datastore_name", "dat", "--", "true"], 3, ["dat", "data"]),
        (["--datastore_name", "data@9", "--", "true"], 3, ["no version 9 of data", "1, 2"]),
        (["--datastore_name", "data@x", "--", "true"], 2, ["'x' is no version of data"]),
        (["--datastore_name", "data", "--", "no-such-command"], 3, ["no such command: no-such-command"]),
        (["--datastore_name", "data"], 2, ["no command", "--"]),
        (["--", "true"], 2, ["no datastore was given", "--datastore_name"]),
        (["--datastore_name", "data:in", "--", "true"], 2, ["'in'", "relative"]),
        (["--datastore_name", "data:/etc/passwd", "--", "true"], 2, ["/etc/passwd", "not a directory"]),
        (["--datastore_name", "data:/x", "--datastore_name", "other:/x/y", "--", "true"], 2, ["/x/y", "inside /x"]),
        (["--config", "none.yml", "--", "true"], 3, ["none.yml"]),
        (["--datastore_name", "data:/proc/none", "--", "true"], 2, ["/proc/none can't be made", "existing"]),
    ],
)
def test_mistakes_are_one_line(grid: Grid, arguments: list[str], code: int, says: list[str]) -> None:
    ended = grid("run", *arguments)
    assert ended.code == code, ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("grid: ")]
    assert "Traceback" not in ended.err
    assert ended.out == ""
    for text in says:
        assert text in line


@pytest.mark.usefixtures("versions")
def test_a_current_directory_that_the_run_would_hide_is_named(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "above" / "here").mkdir(parents=True)
    words = ["run", "--datastore_name", f"data@1:{tmp_path}/above", "--", "true"]
    for _ in "long", "quick":
        grid(*words, cwd=tmp_path / "above" / "here").failed(2, f"current directory {tmp_path}/above/here", "another")


@pytest.mark.usefixtures("versions")
def test_an_unmount_takes_nothing_from_a_run_at_the_same_path(grid: Grid) -> None:
    """The directory was made for the mount; removing it would take the run's own mount on it away."""
    place = Path("/datastores/other")
    grid("mount", "other").succeeded()
    run = start("run", "--datastore_name", "other", "--", "sh", "-c", f"echo; read go; cat {place}/which")
    assert run.stdout is not None
    run.stdout.readline()
    grid("unmount", "other", "--lazy").succeeded()  # without --lazy it would wait ten seconds for the run
    assert run.communicate("go\n")[0] == "other"
    grid("run", "--datastore_name", "data:/datastores/other", "--", "true").succeeded()  # sweeps what was in use before
    wait_until_gone(place)


@pytest.mark.usefixtures("versions")
def test_a_mount_beside_a_runs_daemon_leaves_no_directory(grid: Grid) -> None:
    grid("run", "--datastore_name", "other", "--", "true").succeeded()
    wait_until_gone(Path("/datastores/other"))
    grid("mount", "other").succeeded()
    grid("unmount", "other").succeeded()
    assert not Path("/datastores/other").exists()
