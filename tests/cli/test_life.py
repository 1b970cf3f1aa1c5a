"""The life of a version as a person sees it: looked at, compared, downloaded, verified, deleted, collected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridfs.cli import remove
from gridfs.config import Paths
from gridfs.errors import Interrupted
from gridfs.life.target import Target
from tests.cli.conftest import ENDING_S, Ended, files_below
from tests.support.daemons import release_all
from tests.support.data import ramp


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and a store with two versions of it: in the second a file was changed, one added, one removed."""
    base = tmp_path_factory.mktemp("life")
    folder, store = base / "Cats and Dogs", base / "store"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.jpg").write_bytes(ramp(50_000))
    (folder / "cats" / "1.jpg").chmod(0o755)
    (folder / "cats" / "2.jpg").write_bytes(ramp(20_000, 7))
    (folder / "empty").write_bytes(b"")
    os.symlink("cats/1.jpg", folder / "best")
    create = [sys.executable, "-m", "gridfs", "--store", store, "datastore", "create", folder, "--name", "pets"]
    environment = os.environ | {f"XDG_{name}_HOME": str(base / name) for name in ("STATE", "CACHE", "CONFIG")}
    subprocess.run(create, check=True, env=environment)
    (folder / "cats" / "2.jpg").write_bytes(ramp(20_001, 9))
    (folder / "dogs").mkdir()
    (folder / "dogs" / "3.jpg").write_bytes(ramp(100))
    (folder / "empty").unlink()
    subprocess.run(create, check=True, env=environment)
    return folder, store


@pytest.fixture
def pets(made: tuple[Path, Path], private_dirs: Paths) -> Path:
    """The folder; a copy of the store is this test's."""
    folder, store = made
    shutil.copytree(store, private_dirs.data / "store")
    return folder


def objects_in(paths: Paths) -> set[str]:
    store = paths.data / "store" / "datastores"
    return {name for name in files_below(store) if "/objects/" in name or "/manifests/" in name}


def test_versions_and_show(grid, pets):
    listed = grid("datastore", "versions", "Pets", "-o", "json").json
    assert [(each["version"], each["status"], each["deleted_at"]) for each in listed] == [
        (1, "available", None),
        (2, "available", None),
    ]
    shown = grid("datastore", "show", "pets@1", "-o", "json").json
    assert shown["source"] == str(pets)
    assert (shown["file_count"], shown["symlink_count"], shown["total_bytes"]) == (3, 1, 70_000)
    assert shown["problems"] == []
    plain = grid("datastore", "show", "pets").succeeded().out
    assert "version           2\n" in plain
    assert shown["manifest_sha256"] not in plain


def test_a_record_that_can_t_be_read_hides_no_other_version(grid, pets, folder, private_dirs):
    grid("datastore", "create", folder, "--name", "zoo").succeeded()
    records = private_dirs.data / "store" / "datastores" / "pets" / "versions"
    (records / "00000002.json").write_bytes(b'{"format": 1, "name": "pe')
    for command, shown in (
        (["datastore"], [("pets", 1), ("zoo", 1)]),
        (["datastore", "versions", "pets"], [("pets", 1)]),
    ):
        ended = grid(*command, "-o", "json")
        assert [(each["name"], each["version"]) for each in json.loads(ended.out)] == shown
        Ended(ended.code, "", ended.err).failed(8, "pets/versions/00000002.json is damaged", "restore it")
        ended = grid(*command)
        assert len(ended.out.splitlines()) == 1 + len(shown)
        Ended(ended.code, "", ended.err).failed(8, "pets/versions/00000002.json is damaged")
    grid("datastore", "show", "pets@99").failed(3, "no version 99", "1, 2")
    grid("datastore", "delete", "pets@2", "--yes").failed(8, "00000002.json")
    (records / "00000001.json").write_bytes(b"")
    ended = grid("datastore")
    assert ended.code == 8
    assert ended.err.count("is damaged") == 2
    assert "zoo" in ended.out
    assert "pets" not in ended.out
    assert grid("datastore", "versions", "pets").code == 8
    assert "No datastores" not in ended.err


def test_show_reports_what_could_not_be_kept(grid, folder):
    os.mkfifo(folder / "pipe")
    grid("datastore", "create", folder, "--name", "pets").succeeded()
    assert "not kept: fifo: pipe" in grid("datastore", "show", "pets").succeeded().out
    assert [each["name"] for each in grid("datastore", "show", "pets", "-o", "json").json["problems"]] == ["pipe"]


def test_files(grid, pets):
    listed = grid("datastore", "files", "pets@1", "-o", "json").json
    assert [(each["path"], each["kind"], each["size_bytes"]) for each in listed] == [
        ("best", "symlink", 10),
        ("cats", "directory", 0),
        ("empty", "file", 0),
        ("cats/1.jpg", "file", 50_000),
        ("cats/2.jpg", "file", 20_000),
    ]
    lines = grid("datastore", "files", "pets", "cats/").succeeded().out.splitlines()
    assert [line.split()[0] + " " + line.split()[-1] for line in lines] == ["50000 cats/1.jpg", "20001 cats/2.jpg"]
    assert "best -> cats/1.jpg" in grid("datastore", "files", "pets").succeeded().out
    assert grid("datastore", "files", "pets", "dogs/3.jpg").succeeded().out.split()[-1] == "dogs/3.jpg"
    grid("datastore", "files", "pets@1", "dogs").failed(3, "dogs", "pets@1")
    grid("datastore", "files", "pets@1", "../x").failed(2, "../x")


def test_diff(grid, pets):
    ended = grid("datastore", "diff", "pets@1", "pets").succeeded()
    assert ended.out.splitlines() == ["+ dogs", "- empty", "M cats/2.jpg", "+ dogs/3.jpg"]
    assert "4 differences" in ended.err
    reverse = grid("datastore", "diff", "pets@2", "pets@1", "-o", "json").json
    assert [(each["path"], each["change"]) for each in reverse] == [
        ("dogs", "removed"),
        ("empty", "added"),
        ("cats/2.jpg", "content"),
        ("dogs/3.jpg", "removed"),
    ]
    assert reverse[2]["old"]["size_bytes"] == 20_001
    assert grid("datastore", "diff", "pets@1", "pets@1").succeeded().out == ""


def test_download(grid, pets, tmp_path):
    grid("datastore", "download", "pets", tmp_path / "all").succeeded()
    for name in ("cats/1.jpg", "cats/2.jpg", "dogs/3.jpg"):
        source, copy = pets / name, tmp_path / "all" / name
        assert copy.read_bytes() == source.read_bytes()
        assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert copy.stat().st_mode & 0o111 == source.stat().st_mode & 0o111
    assert os.readlink(tmp_path / "all" / "best") == "cats/1.jpg"
    assert files_below(tmp_path / "all") == files_below(pets)
    again = grid("datastore", "download", "pets", tmp_path / "all", "-o", "json").json
    assert (again["fetched_files"], again["present_files"]) == (0, 3)
    grid("datastore", "download", "pets@1", "cats", tmp_path / "cats").succeeded()
    assert files_below(tmp_path / "cats") == {"1.jpg", "2.jpg"}
    grid("datastore", "download", "pets", "dogs/3.jpg", ".", cwd=tmp_path / "cats").succeeded()
    assert (tmp_path / "cats" / "3.jpg").read_bytes() == ramp(100)
    grid("datastore", "download", "pets@1", tmp_path / "all").failed(2, "cats/2.jpg", "remove it")
    grid("datastore", "download", "pets", "nothing", tmp_path / "x").failed(3, "nothing")
    grid("datastore", "download", "pets", tmp_path / "cats" / "3.jpg").failed(2, "3.jpg is not a directory")
    grid("datastore", "download", "pets", "", cwd=tmp_path / "cats").failed(2, "is empty")
    assert not (tmp_path / "x").exists()


def test_a_download_waits_for_another_into_its_directory(pets, tmp_path):
    other = Target(tmp_path / "to", "0" * 64)
    assert other.lock()
    command = [sys.executable, "-m", "gridfs", "datastore", "download", "pets", str(tmp_path / "to")]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == f"waiting for another download into {tmp_path / 'to'}\n"
    assert os.listdir(tmp_path / "to") == [".gridfs-partial"]
    other.close()
    _, err = waiting.communicate(timeout=ENDING_S)
    assert waiting.returncode == 0, err
    assert files_below(tmp_path / "to") == files_below(pets)


def test_verify_names_what_is_wrong(grid, pets, private_dirs):
    grid("datastore", "verify", "pets").succeeded()
    assert grid("datastore", "verify", "pets@1", "--sample", "50%", "-o", "json").json["sound"]
    for name in objects_in(private_dirs):
        if "/objects/" in name:
            path = private_dirs.data / "store" / "datastores" / name
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    ended = grid("datastore", "verify", "pets@1")
    assert ended.code == 7
    assert "cats/2.jpg: differs from what was stored" in ended.out
    assert "pets@1 is damaged" in ended.err


def test_verify_reads_the_manifest_of_the_store_and_not_that_of_the_node(grid, pets, private_dirs):
    grid("datastore", "files", "pets").succeeded()
    for name in objects_in(private_dirs):
        if "/manifests/" in name:
            (private_dirs.data / "store" / "datastores" / name).write_bytes(b"something else")
    grid("datastore", "files", "pets").succeeded()
    grid("datastore", "verify", "pets").failed(8, "manifest of pets@2", "refused")


def test_delete_keeps_the_number_and_the_others(grid, pets, tmp_path):
    grid("datastore", "delete", "--name", "pets").failed(2, "--version")
    grid("datastore", "delete", "--name", "pets", "--version", "2").failed(2, "--yes")
    grid("datastore", "delete", "--name", "pets", "--version", "7", "--yes").failed(3, "1, 2")
    deleted = grid("datastore", "delete", "--name", "pets", "--version", "2", "--yes", "-o", "json").json
    assert (deleted["name"], deleted["version"]) == ("pets", 2)
    assert [each["version"] for each in grid("datastore", "-o", "json").json] == [1]
    grid("datastore", "show", "pets@2").failed(3, "deleted")
    grid("datastore", "download", "pets", tmp_path / "first").succeeded()
    assert "empty" in files_below(tmp_path / "first")
    assert grid("datastore", "create", pets, "--name", "pets", "-o", "json").json["version"] == 3
    assert "deleted" in grid("datastore", "versions", "pets").succeeded().out


def test_delete_of_two_versions_at_once_deletes_neither(grid, pets):
    grid("datastore", "delete", "pets@2", "--version", "1", "--yes").failed(2, "pets@2", "--version 1")
    assert [each["version"] for each in grid("datastore", "-o", "json").json] == [1, 2]


def test_delete_is_refused_while_the_version_is_mounted_or_used_by_a_run(grid, pets, private_dirs, tmp_path):
    delete = ("datastore", "delete", "pets@1", "--yes")
    (tmp_path / "at").mkdir()
    try:
        grid("mount", "pets@1", tmp_path / "at").succeeded()
        grid(*delete).failed(4, "pets@1 is mounted at", str(tmp_path / "at"), "grid unmount")
        grid("unmount", tmp_path / "at").succeeded()
        command = ["run", "--datastore_name", "pets@1", "--datastore_mount_dir", str(tmp_path / "in")]
        run = subprocess.Popen(
            [sys.executable, "-m", "gridfs", *command, "--", "sh", "-c", "echo up; read go"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        grid(*delete).failed(4, "pets@1 is in use by a run: sh (pid")
        grid("datastore", "delete", "pets@2", "--yes").succeeded()
        run.communicate(b"go\n")
        grid(*delete).succeeded()
    finally:
        release_all(private_dirs.runtime)


def test_gc_removes_what_was_deleted_and_nothing_else(grid, pets, private_dirs, tmp_path):
    before = objects_in(private_dirs)
    grid("datastore", "gc").succeeded()
    assert objects_in(private_dirs) == before
    grid("datastore", "delete", "pets@1", "--yes").succeeded()
    grid("datastore", "gc").succeeded()
    assert objects_in(private_dirs) == before
    age_by_days(private_dirs.data / "store", 8)
    (dry,) = grid("datastore", "gc", "--dry-run", "-o", "json").json
    assert (dry["waiting_objects"] > 0, dry["removed_objects"]) == (True, 0)
    grid("datastore", "gc", "pets").succeeded()
    assert objects_in(private_dirs) == before
    (removed,) = grid("datastore", "gc", "--grace", "0", "-o", "json").json
    assert removed["removed_objects"] == dry["waiting_objects"]
    assert len(objects_in(private_dirs)) == len(before) - removed["removed_objects"]
    grid("datastore", "verify", "pets").succeeded()
    grid("datastore", "download", "pets", tmp_path / "still").succeeded()
    assert files_below(tmp_path / "still") == files_below(pets)
    grid("datastore", "gc", "petz").failed(3, "petz", "pets")


def test_a_home_that_no_shell_has_expanded(grid, pets, private_dirs, tmp_path):
    """As of `grid unmount "$PLACE"`: a directory `~` of the current one was made or asked for."""
    home = Path(os.environ["HOME"])
    (home / "place").mkdir()
    grid("mount", "pets", "~/place", cwd=tmp_path).succeeded()
    assert files_below(home / "place") == files_below(pets)
    grid("unmount", "~/place", cwd=tmp_path).succeeded()
    grid("datastore", "download", "pets", "~/copy", cwd=tmp_path).succeeded()
    assert files_below(home / "copy") == files_below(pets)


@pytest.mark.parametrize("command", ["versions", "gc", "resume"])
def test_what_is_no_name_is_said_without_an_option_that_there_is_not(grid, pets, command):
    for name in "pets@1", "!!", "":
        assert "--name" not in grid("datastore", command, name).failed(2, repr(name), "no version in it").err


def age_by_days(store: Path, days: float) -> None:
    """Makes everything in a directory store older; its time is that of its files."""
    then_s = time.time() - days * 86_400
    for path in store.rglob("*"):
        if path.is_file():
            os.utime(path, (then_s, then_s))


@pytest.mark.parametrize("command", ["versions", "show", "files", "verify"])
def test_names_that_are_not_there(grid, pets, command):
    grid("datastore", command, "pest").failed(3, "pest", "pets")


def test_names_of_any_bytes(grid, folder, tmp_path):
    odd = os.fsdecode(b"new\nline \xff\xfe")
    (folder / odd).write_bytes(ramp(10))
    grid("datastore", "create", folder, "--name", "odd").succeeded()
    assert "new\\nline \\xff\\xfe" in grid("datastore", "files", "odd").succeeded().out
    paths = [os.fsencode(each["path"]) for each in grid("datastore", "files", "odd", "-o", "json").json]
    assert os.fsencode(odd) in paths
    grid("datastore", "download", "odd", odd, tmp_path / "one").succeeded()
    assert (tmp_path / "one" / odd).read_bytes() == ramp(10)


def test_a_life_in_a_bucket(grid, folder, tmp_path, s3_moto):
    where = ("--store", s3_moto.store_url(), "--endpoint-url", s3_moto.endpoint_url)
    environment = s3_moto.environment()
    grid("datastore", "create", folder, "--name", "pets", *where, env=environment).succeeded()
    (folder / "more").write_bytes(ramp(10))
    grid("datastore", "create", folder, "--name", "pets", *where, env=environment).succeeded()
    assert grid("datastore", "diff", "pets@1", "pets@2", *where, env=environment).out == "+ more\n"
    grid("datastore", "verify", "pets", *where, env=environment).succeeded()
    grid("datastore", "delete", "pets@1", "--yes", *where, env=environment).succeeded()
    (gone,) = grid("datastore", "gc", "--grace", "0", "-o", "json", *where, env=environment).json
    assert gone["removed_objects"] == 1  # its manifest: the second version reuses all of its data
    grid("datastore", "download", "pets", tmp_path / "to", *where, env=environment).succeeded()
    assert files_below(tmp_path / "to") == files_below(folder)


def test_a_no_copy_version_is_verified_and_downloaded_from_its_bucket(grid, tmp_path, s3_moto):
    client = s3_moto.client()
    for key, size in (("set/a", 5000), ("set/below/b", 10)):
        client.put_object(Bucket=s3_moto.bucket, Key=key, Body=ramp(size))
    environment = s3_moto.environment()
    source = f"s3://{s3_moto.bucket}/set/"
    grid(
        "datastore", "create", source, "--no-copy", "--endpoint-url", s3_moto.endpoint_url, env=environment
    ).succeeded()
    grid("datastore", "verify", "set", env=environment).succeeded()
    grid("datastore", "download", "set", tmp_path / "to", env=environment).succeeded()
    assert (tmp_path / "to" / "a").read_bytes() == ramp(5000)
    assert (tmp_path / "to" / "below" / "b").read_bytes() == ramp(10)
    client.put_object(Bucket=s3_moto.bucket, Key="set/a", Body=ramp(5000, 1))
    client.delete_object(Bucket=s3_moto.bucket, Key="set/below/b")
    ended = grid("datastore", "verify", "set", env=environment)
    assert ended.out.splitlines() == ["a: changed in its bucket", "below/b: gone from the store"]
    assert ended.code == 7
    assert "damaged: 2 findings; create a new version of what the bucket has now" in ended.err
    ended = grid("datastore", "download", "set", tmp_path / "again", env=environment)
    assert ended.code == 7
    assert "Traceback" not in ended.err


def test_a_no_copy_creation_succeeds_beside_a_record_that_can_t_be_read(grid, private_dirs, s3_moto):
    s3_moto.client().put_object(Bucket=s3_moto.bucket, Key="set/a", Body=ramp(10))
    create = ("datastore", "create", f"s3://{s3_moto.bucket}/set/", "--no-copy", "--endpoint-url", s3_moto.endpoint_url)
    for _ in range(2):
        grid(*create, env=s3_moto.environment()).succeeded()
    (private_dirs.data / "store/datastores/set/versions/00000001.json").write_bytes(b"{")
    made = grid(*create, "-o", "json", env=s3_moto.environment()).json
    assert (made["version"], made["changes"]) == (3, {"added": 0, "changed": 0, "removed": 0})


def test_the_answer_no_is_not_called_ctrl_c(monkeypatch):
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *args, **kwargs: False)
    with pytest.raises(Interrupted, match="nothing was deleted"):
        remove._ask("Delete it?")
