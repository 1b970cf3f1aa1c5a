"""The quick way of `grid run` means what click's does, and what it does not understand it leaves alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from gridfs.cli import run as long_way
from gridfs.cli.app import grid
from gridfs.cli.invocation import Invocation
from gridfs.cli.quick_run import recognised
from gridfs.cli.run_request import RequestedDatastore
from gridfs.config import Environment, MountOptions, Paths
from gridfs.errors import GridfsError
from gridfs.light import COMPLETION, SETTINGS, config_path, runtime_directory
from gridfs.mount.attendant import store_of

TAKEN = [
    ["run", "--datastore_name", "a", "--", "true"],
    ["run", "--datastore-name", "a", "true"],
    ["run", "--datastore_name=a@2:/x", "--", "true", "--flag", "-o", "x"],
    ["run", "--datastore-name", "a", "--datastore-version", "2", "--datastore-mount-dir", "/x", "ls", "-l", "--", "b"],
    ["run", "--datastore_name", "a", "--", "--", "true"],
    ["run", "--datastore_name", "a", "-"],
    ["run", "--datastore_name", "a", "--", "-c"],
    ["run", "--datastore_name", "a", ""],
    ["run", "--datastore_mount_dir", "/x", "--datastore_name", "a", "--", "true", "--datastore_name", "b"],
    [
        *("run", "--datastore_name", "a", "--datastore_name", "b"),
        *("--datastore_mount_dir=/x", "--datastore_mount_dir=/y"),
        "ls",
    ],
    ["run", "--datastore_name", "a b", "--", "true"],
    ["run", "--datastore_name", "Ä", "--", "true"],
]

LEFT = [
    [],
    ["run"],
    ["run", "--", "true"],
    ["run", "--help"],
    ["-v", "run", "--datastore_name", "a", "--", "true"],
    ["session", "--datastore_name", "a"],
    ["run", "--datastore_name", "a"],
    ["run", "--datastore_name", "a", "--"],
    ["run", "--datastore_name"],
    ["run", "--datastore_name", "--", "true"],
    ["run", "--datastore_name", "-x", "true"],
    ["run", "--datastore_name=", "true"],
    ["run", "--datastore_name", "a@x", "true"],
    ["run", "--datastore_name", "a\nb", "true"],
    ["run", "--datastore_name", "a", "--datastore_version", "2", "--datastore_version", "3", "true"],
    ["run", "--datastore_names", "a", "true"],
    ["run", "--datastore", "a", "true"],
    ["run", "--datastore-mount_dir", "/x", "--datastore_name", "a", "true"],
    ["run", "--linger", "1", "--datastore_name", "a", "true"],
    ["run", "--datastore_name", "a", "--no-veil", "true"],
    ["run", "--store", "s3://b/p", "--datastore_name", "a", "true"],
    ["run", "--datastore_name", "a", "-o", "uid=0", "true"],
    ["run", "--config", "x.yml", "true"],
]


def by_click(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[RequestedDatastore], list[str], MountOptions]:
    """What the command tree would run. Raises click's or our own error where it would."""
    found = []

    def note(context: click.Context, given: dict[str, object], command: Sequence[str]) -> None:
        requests = long_way._requests(context, given.pop("config"))
        kept = {
            name: value for name, value in given.items() if name not in ("names", "versions", "mount_dirs", "linger_s")
        }
        found.append((requests, list(command), long_way.mount_settings(Invocation(), kept)[0]))

    monkeypatch.setattr(long_way, "_replace", note)
    with grid.make_context("grid", list(words), obj=Invocation()) as context:
        grid.invoke(context)
    return found[0]


@pytest.mark.parametrize("words", TAKEN, ids=" ".join)
def test_what_is_taken_means_what_click_makes_of_it(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = recognised(words)
    assert quick is not None
    expected = (quick.datastores, quick.command, MountOptions.unsaid(os.geteuid()))
    assert by_click(words, monkeypatch) == expected


@pytest.mark.parametrize("words", LEFT, ids=" ".join)
def test_everything_else_is_left_to_click(words: list[str]) -> None:
    assert recognised(words) is None


class Spy(dict[str, str]):
    """Remembers which variables were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)


NOT_SETTINGS = {
    *(COMPLETION, "SHELL"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED"),
}
"""Asked for by config.py and without a say in which daemon serves a run; credentials are never sent."""


def test_a_daemon_is_told_every_variable_that_decides() -> None:
    spy = Spy()
    Environment.read(spy)
    Paths.from_environment(spy)
    proxies = {name for name in spy.asked if name.lower().endswith("_proxy")}
    assert spy.asked - NOT_SETTINGS - proxies == set(SETTINGS)


@pytest.mark.parametrize(
    "environ",
    [
        {"HOME": "/h"},
        {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"},
        {"HOME": "/h", "XDG_RUNTIME_DIR": "r"},
    ],
)
def test_the_same_places(environ: dict[str, str]) -> None:
    paths = Paths.from_environment(environ)
    assert (str(paths.config_file), str(paths.runtime)) == (config_path(environ), runtime_directory(environ))


def test_a_runtime_directory_that_can_not_be_this_users_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for mine in (tmp_path, tmp_path / "not" / "there"):
        assert runtime_directory({"XDG_RUNTIME_DIR": str(mine)}) == f"{mine}/gridfs"
    user = os.geteuid()
    usual = "/run/gridfs" if user == 0 else f"/tmp/gridfs-{user}"
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path / "file" / "in_the_way")}) == usual
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"/tmp/gridfs-{user + 1}"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path / "not" / "there")}) == f"/tmp/gridfs-{user + 1}"


@pytest.mark.parametrize(
    ("variables", "config", "selected"),
    [
        ({"GRIDFS_STORE": "s3://b/p"}, None, "s3://b/p"),
        ({"GRIDFS_STORE": "S3://b/p/", "AWS_ENDPOINT_URL": "http://e/", "AWS_REGION": "r"}, None, "s3://b/p"),
        ({"GRIDFS_STORE": "/var/store"}, None, "file:///var/store"),
        ({"GRIDFS_STORE": "lab"}, '[stores]\nlab = "s3://lab/x"\n', "s3://lab/x"),
        ({"GRIDFS_CLUSTER": "lab"}, '[stores]\nlab = "s3://lab/x"\n', "s3://lab/x"),
        ({}, 'default = "lab"\n[stores.lab]\nurl = "s3://lab/x"\nendpoint_url = "http://f"\n', "s3://lab/x"),
        ({}, None, "file://{home}/.local/share/gridfs/store"),
        ({"XDG_DATA_HOME": "/d"}, None, "file:///d/gridfs/store"),
        ({"GRIDFS_STORE": "~/store"}, None, "file://{home}/store"),
    ],
)
def test_a_daemon_selects_the_store_that_the_command_would(
    variables: dict[str, str], config: str | None, selected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"HOME": str(tmp_path), **variables}
    if config is not None:
        (tmp_path / ".config/gridfs").mkdir(parents=True)
        (tmp_path / ".config/gridfs/config.toml").write_text(config)
    by_command = Invocation(Environment.read(environ), Paths.from_environment(environ)).store_settings
    assert by_command.url == selected.format(home=tmp_path)
    assert store_of(environ | ({"config": config} if config is not None else {})) == by_command


@pytest.mark.parametrize("store", ["store", "./store", "a/b", "..", "."])
def test_a_daemon_that_can_not_tell_says_so(store: str) -> None:
    """A relative directory is relative to the run's, and a name may be one of a file that was not sent."""
    assert store_of({"HOME": str(Path.home()), "GRIDFS_STORE": store}) is None


def test_another_home_is_another_store() -> None:
    assert store_of({"HOME": "/nobody", "GRIDFS_STORE": "s3://b/p"}) is None


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({"GRIDFS_MAX_CACHE_SIZE": "much"}, None),
        ({"GRIDFS_MEMORY_TARGET": "much"}, None),
        ({"GRIDFS_STORE": "ftp://b"}, None),
        ({}, "[stores"),
        ({}, 'default = "lab"'),
    ],
)
def test_a_daemon_refuses_what_the_command_does(variables: dict[str, str], config: str | None) -> None:
    with pytest.raises(GridfsError):
        store_of({"HOME": str(Path.home()), **variables, **({"config": config} if config is not None else {})})
