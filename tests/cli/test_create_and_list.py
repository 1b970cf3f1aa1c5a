"""`grid datastore create` and `grid datastore`, as in issue 2: either order of arguments, names, versions, lists."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, files_below
from tests.support.data import ramp


def columns_of(text: str) -> list[list[str]]:
    """The cells of a plain table: two spaces or more part them."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_versions_count_up_and_the_list_shows_them(grid, folder):
    grid("datastore", "create", "--name", "pets", f"{folder}/").succeeded()
    grid("datastore", "create", folder, "--name", "pets").succeeded()
    table = columns_of(grid("datastore").succeeded().out)
    assert table[0] == ["Name", "Version", "Size", "Created At", "Status"]
    assert [row[:3] + row[4:] for row in table[1:]] == [
        ["pets", "1", "68.4 KiB", "available"],
        ["pets", "2", "68.4 KiB", "available"],
    ]


def test_the_default_store_is_the_users_alone(grid, folder, private_dirs):
    grid("datastore", "create", folder, "--name", "pets").succeeded()
    assert private_dirs.data.stat().st_mode & 0o777 == 0o700
    private_dirs.data.chmod(0o755)  # let others read it: that stays
    grid("datastore", "create", folder, "--name", "pets").succeeded()
    assert private_dirs.data.stat().st_mode & 0o777 == 0o755
    grid("--store", folder.parent / "shared", "datastore", "create", folder).succeeded()
    assert (folder.parent / "shared").stat().st_mode & 0o077


def test_the_list_as_json(grid, folder):
    made = grid("datastore", "create", folder, "--name", "pets", "-o", "json").json
    (listed,) = grid("datastore", "-o", "json").json
    assert {name: made[name] for name in listed} == listed
    created_at = listed.pop("created_at")
    assert created_at.endswith("Z")
    assert listed == {
        "name": "pets",
        "cluster": None,
        "version": 1,
        "size_bytes": 70_000,
        "status": "available",
        "mode": "copy",
        "source": str(folder),
        "file_count": 3,
        "directory_count": listed["directory_count"],
        "symlink_count": 0,
        "problem_count": 0,
    }


def test_names_come_from_the_source_or_are_said(grid, folder):
    assert columns_of(grid("datastore", "create", folder).succeeded().out)[1][0] == "catsanddogs"
    assert columns_of(grid("datastore", "create", ".", cwd=folder / "cats").succeeded().out)[1][0] == "cats"
    assert columns_of(grid("datastore", "create", "..", cwd=folder / "cats").succeeded().out)[1][0] == "catsanddogs"
    renamed = grid("datastore", "create", folder, "--name", "My Cats").succeeded()
    assert "The name is mycats." in renamed.err
    assert columns_of(renamed.out)[1][0] == "mycats"


def test_the_old_spelling_of_the_source(grid, folder):
    assert grid("datastores", "create", "--source", folder, "--name", "pets", "-o", "json").json["version"] == 1


def test_an_empty_store_says_what_to_do(grid, private_dirs):
    listed = grid("datastore").succeeded()
    assert columns_of(listed.out) == [["Name", "Version", "Size", "Created At", "Status"]]
    assert f"No datastores in file://{private_dirs.data}/store" in listed.err
    assert "grid datastore create" in listed.err
    assert files_below(private_dirs.data) == set()


def test_progress_without_a_terminal_is_plain_lines(grid, folder):
    lines = grid("datastore", "create", folder).succeeded().err.splitlines()
    assert lines[0] == "scanning"
    assert "to read: 2 files, 68.4 KiB" in lines  # the third is empty: nothing to read
    assert all(line.isprintable() for line in lines)


def test_what_could_not_be_kept_is_said(grid, folder):
    os.mkfifo(folder / "pipe")
    made = grid("datastore", "create", folder, "--name", "pets", "-o", "json").json
    assert made["problems"] == {"fifo": 1}
    made_again = grid("datastore", "create", folder, "--name", "pets").succeeded()
    assert "not everything could be kept: 1 fifo (grid datastore show pets@2)" in made_again.err


def test_a_configured_store_is_used_and_shown(grid, folder, private_dirs, tmp_path):
    private_dirs.config_file.parent.mkdir(parents=True)
    private_dirs.config_file.write_text(f'[stores]\nlab = "file://{tmp_path}/lab"\n')
    grid("datastore", "create", folder, "--cluster", "lab", "--name", "pets").succeeded()
    assert columns_of(grid("datastore", "--cluster", "lab").succeeded().out)[0][:2] == ["Name", "Cluster"]
    (listed,) = grid("--store", "lab", "datastore", "-o", "json").json
    assert (listed["name"], listed["cluster"]) == ("pets", "lab")
    assert grid("datastore", "-o", "json").json == []
    by_variable = grid("datastore", "-o", "json", env={"GRIDFS_STORE": f"{tmp_path}/lab"})
    assert [row["name"] for row in by_variable.json] == ["pets"]


def test_ctrl_c_says_that_it_can_be_continued(grid, private_dirs, tmp_path):
    """The signal is sent when reading begins, and 256 MiB take longer to read and store than that."""
    folder = tmp_path / "large"
    folder.mkdir()
    block = ramp(1 << 20)
    with (folder / "file").open("wb") as file:
        for _ in range(256):
            file.write(block)
    process = subprocess.Popen(
        [sys.executable, "-m", "gridfs", "datastore", "create", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "reading\n":
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "grid: ended by SIGINT; what was stored is kept: the same command again continues" in err
    assert grid("datastore", "-o", "json").json == []
    (waiting,) = grid("datastore", "--show-incomplete", "-o", "json").json
    assert (waiting["name"], waiting["source"], waiting["running"]) == ("large", str(folder), False)
    assert grid("datastore", "resume", "-o", "json").json["size_bytes"] == 256 << 20
    assert grid("datastore", "--show-incomplete", "-o", "json").json == []
    grid("datastore", "resume").failed(3, "no interrupted creation")


def test_clearcache(grid):
    assert grid("datastore", "clearcache", "-o", "json").json == {"forgotten": 0}


def test_through_an_object_store(grid, folder, s3_moto):
    where = ("--store", s3_moto.store_url(), "--endpoint-url", s3_moto.endpoint_url)
    grid(*where, "datastore", "create", folder, "--name", "pets").succeeded()
    assert [row["name"] for row in grid("datastore", *where, "-o", "json").json] == ["pets"]


def test_on_a_terminal_there_is_a_bar_and_a_table(private_dirs, folder):
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gridfs", "datastore", "create", folder, "--name", "pets"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    while chunk := _read_terminal(leader):
        shown += chunk
    os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    text = shown.decode()
    for expected in ("pets", "68.4 KiB", "available", "grid mount pets"):
        assert expected in text


def _read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # EIO: the last process has closed it
        return b""


UNREACHABLE = "http://127.0.0.1:9"
"""Discard: nothing listens there, and the connection is refused at once."""


class TestBadInput:
    """One line that names the input and the remedy, an exit code by kind, nothing left behind."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, private_dirs):
        yield
        assert files_below(private_dirs.data) == set()
        assert files_below(private_dirs.state / "creations") == set()

    def test_no_such_folder(self, grid, tmp_path):
        grid("datastore", "create", tmp_path / "nothing").failed(3, str(tmp_path / "nothing"))

    def test_empty_folder(self, grid, tmp_path):
        (tmp_path / "empty").mkdir()
        grid("datastore", "create", tmp_path / "empty").failed(2, str(tmp_path / "empty"), "is empty")

    def test_no_source(self, grid):
        grid("datastore", "create", "--name", "pets").failed(2, "no source")

    def test_two_sources(self, grid, folder):
        grid("datastore", "create", folder, "--source", "/other").failed(2, "/other", str(folder))

    @pytest.mark.parametrize("name", ["", "日本", "...", "a/b", "x" * 300])
    def test_impossible_name(self, grid, folder, name):
        grid("datastore", "create", folder, "--name", name).failed(2, name[:20], "a name has letters, digits")

    def test_a_source_without_a_name_in_it(self, grid, tmp_path):
        (tmp_path / "日本").mkdir()
        (tmp_path / "日本" / "file").write_bytes(b"1")
        grid("datastore", "create", tmp_path / "日本").failed(2, "日本", "--name")

    def test_an_unknown_scheme(self, grid):
        grid("datastore", "create", "ftp://host/x.zip").failed(2, "ftp://")

    def test_no_copy_of_a_folder(self, grid, folder):
        grid("datastore", "create", folder, "--no-copy").failed(2, "--no-copy", str(folder))

    def test_store_that_can_not_be_reached(self, grid, folder):
        credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        where = ("--store", "s3://bucket/prefix", "--endpoint-url", UNREACHABLE)
        grid(*where, "datastore", env=credentials).failed(9, UNREACHABLE)
        grid(*where, "datastore", "create", folder, env=credentials).failed(9, UNREACHABLE)

    def test_no_such_bucket(self, grid, s3_moto):
        where = ("--store", "s3://no-such-bucket-of-mine/x", "--endpoint-url", s3_moto.endpoint_url)
        grid(*where, "datastore").failed(3, "no-such-bucket-of-mine")

    def test_wrong_credentials(self, grid, s3_ceph, folder):
        wrong = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"}
        where = ("--store", s3_ceph.store_url(), "--endpoint-url", s3_ceph.endpoint_url)
        grid(*where, "datastore", env=wrong).failed(5, s3_ceph.bucket)
        grid(*where, "datastore", "create", folder, env=wrong).failed(5, s3_ceph.bucket)

    def test_no_credentials(self, grid, s3_ceph):
        none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        where = ("--store", s3_ceph.store_url(), "--endpoint-url", s3_ceph.endpoint_url)
        grid(*where, "datastore", env=none).failed(5, "credentials")
        grid(*where, "--no-sign-request", "datastore", env=none).failed(5, s3_ceph.bucket)

    def test_no_such_profile(self, grid):
        grid("--store", "s3://bucket/x", "--profile", "nobody", "datastore").failed(2, "nobody")
        grid("--profile", "nobody", "datastore", "create", "s3://bucket/x").failed(2, "nobody")

    def test_half_of_the_credentials(self, grid, s3_ceph):
        """Where nobody signs they are of no use, and in nobody's way."""
        half = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "secret"}
        where = ("--store", s3_ceph.store_url(), "--endpoint-url", s3_ceph.endpoint_url, "--no-sign-request")
        grid(*where, "datastore", env=half).failed(5, s3_ceph.bucket)

    def test_a_variable_that_means_nothing(self, grid, s3_ceph):
        where = ("--store", s3_ceph.store_url(), "--endpoint-url", s3_ceph.endpoint_url)
        wrong = {"AWS_SERVER_SIDE_ENCRYPTION": "rot13"}
        grid(*where, "datastore", env=wrong).failed(2, "rot13", "AWS_* variables")

    def test_a_host_that_aws_does_not_take(self, grid):
        where = ("--endpoint-url", "http://my_server:9000")
        grid(*where, "datastore", "create", "s3://bucket/x").failed(2, "http://my_server:9000")

    def test_a_store_that_is_a_file(self, grid, folder, tmp_path):
        (tmp_path / "store").write_bytes(b"")
        grid("--store", tmp_path / "store", "datastore").failed(2, str(tmp_path / "store"), "no directory")
        grid("--store", tmp_path / "store", "datastore", "create", folder).failed(2, str(tmp_path / "store"))

    def test_the_configuration_file(self, grid, tmp_path):
        config = tmp_path / "config.toml"
        grid("--config", config, "datastore").failed(3, str(config))
        config.write_text('[stores]\nlab = "s3://lab"\n[caches]\n')
        grid("--config", config, "datastore").failed(2, f"{config}, line 3", "'caches'")
        config.write_text('[stores]\nlab = "s3://lab"\n')
        grid("--config", config, "--cluster", "labb", "datastore").failed(2, "labb", "lab")

    def test_an_environment_variable_that_is_wrong(self, grid):
        grid("datastore", env={"GRIDFS_STORE": "ftp://x"}).failed(2, "GRIDFS_STORE", "ftp://x")


def test_an_unreadable_file_as_an_ordinary_user(an_ordinary_user):
    """For root every file is readable."""
    folder = an_ordinary_user.home / "pets"
    folder.mkdir()
    (folder / "open").write_bytes(b"1")
    (folder / "closed").write_bytes(b"2")
    for path in (folder, *folder.iterdir()):
        os.chown(path, an_ordinary_user.uid, an_ordinary_user.gid)
    (folder / "closed").chmod(0)

    def run(*arguments: str) -> Ended:
        ended = an_ordinary_user.run(
            [an_ordinary_user.python, "-m", "gridfs", *arguments], environment={"PYTHONPATH": os.getcwd()}
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    run("datastore", "create", str(folder)).failed(6, "closed", "--skip-unreadable")
    assert run("datastore", "-o", "json").json == []
    made = run("datastore", "create", str(folder), "--skip-unreadable", "-o", "json").json
    assert (made["file_count"], made["problems"]) == (1, {"unreadable": 1})


def test_running_from_another_directory(grid, folder, tmp_path):
    assert (
        grid("datastore", "create", Path("Cats and Dogs") / "cats", cwd=tmp_path, env={"PYTHONPATH": os.getcwd()}).code
        == 0
    )
