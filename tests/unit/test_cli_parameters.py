"""What people write on the command line, and what is refused with the right spelling."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import pytest

from gridfs.cli.app import grid
from gridfs.cli.invocation import Invocation
from gridfs.cli.mount_options import mount_options, mount_settings
from gridfs.cli.parameters import DIRECTORY, DURATION, FILE, GROUP, PERMISSION_BITS, SIZE, SPEC, USER, Number, Seconds
from gridfs.config import GIB, MIB, Environment, MountOptions, Paths
from gridfs.config_file import parse_config_file
from gridfs.create.request import absolute_source
from gridfs.errors import InvalidInput
from gridfs.light import config_path
from gridfs.model import VersionSpec
from gridfs.mount.attendant import store_of

MEANINGS = [
    (SIZE, "200GiB", 200 * GIB),
    (SIZE, "64m", 64 * MIB),
    (SIZE, "1.5 KB", 1536),
    (SIZE, "4096", 4096),
    (SIZE, "0", 0),
    (DURATION, "20", 20.0),
    (DURATION, "10m", 600.0),
    (DURATION, "500ms", 0.5),
    (PERMISSION_BITS, "0444", 0o444),
    (PERMISSION_BITS, "0o755", 0o755),
    (USER, "root", 0),
    (GROUP, "root", 0),
    (USER, "1234", 1234),
    (Number(), "-3", -3),
    (Number(least=1), "12", 12),
    (Seconds(0.05), "0.5", 0.5),
    (SPEC, "imagenet", VersionSpec("imagenet")),
    (SPEC, "imagenet@2", VersionSpec("imagenet", 2)),
]


@pytest.mark.parametrize(("kind", "text", "meaning"), MEANINGS, ids=lambda value: str(value))
def test_meanings(kind, text, meaning):
    assert kind.convert(text, None, None) == meaning


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (USER, "4294967295"),
        (GROUP, "99999999999"),
        (SIZE, "many"),
        (SIZE, "-1"),
        (SIZE, "1XB"),
        (DURATION, "soon"),
        (PERMISSION_BITS, "999"),
        (USER, "no-such-user"),
    ],
)
def test_what_is_refused_is_named(kind, text):
    with pytest.raises(click.BadParameter, match=text):
        kind.convert(text, None, None)


@pytest.mark.parametrize("text", ["imagenet@", "imagenet@0", "imagenet@latest", "@1", "@"])
def test_impossible_specs(text):
    with pytest.raises(InvalidInput):
        SPEC.convert(text, None, None)


def settings_of(*arguments: str) -> MountOptions:
    found = []

    @click.command()
    @mount_options
    def command(**given):
        found.append(mount_settings(Invocation(Environment()), given)[0])

    command.main(list(arguments), standalone_mode=False)
    return found[0]


def test_a_cache_directory_whose_home_the_shell_has_left(monkeypatch: pytest.MonkeyPatch):
    """bash leaves the `~` of `--cache-dir=~/cache`, and nobody expands that of a variable in a file."""
    monkeypatch.setenv("HOME", "/home/ann")
    assert DIRECTORY.convert("~/cache", None, None) == Path("/home/ann/cache")
    assert Invocation(Environment(cache_dir="~/cache")).cache_settings().directory == Path("/home/ann/cache")


def test_the_home_of_somebody_unknown_is_refused():
    """pathlib's RuntimeError came out as a defect."""
    for convert in (
        lambda: DIRECTORY.convert("~nobody-of-this-name/cache", None, None),
        lambda: Invocation(Environment(cache_dir="~nobody-of-this-name/cache")).cache_settings(),
        lambda: Invocation(Environment(store="~nobody-of-this-name/store")).store_settings,
        lambda: absolute_source("~nobody-of-this-name/data"),
        lambda: parse_config_file(Path("c"), '[stores]\na = "~nobody-of-this-name/store"'),
        lambda: parse_config_file(Path("c"), '[cache]\ndirectory = "~nobody-of-this-name/cache"'),
    ):
        with pytest.raises(InvalidInput, match=r"'~nobody-of-this-name/.* a user whom this machine does not know"):
            convert()


def test_a_configuration_file_whose_home_nobody_has_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.toml").write_text('default = "a"\n[stores]\na = "~/store"')
    by_variable, by_option = Invocation(Environment(config_file="~/c.toml")), Invocation(Environment())
    by_option.config_path = FILE.convert("~/c.toml", None, None)
    for invocation in by_variable, by_option:
        assert invocation.store_settings.url == f"file://{tmp_path}/store"
    assert config_path({"GRIDFS_CONFIG": "~/c.toml"}) == f"{tmp_path}/c.toml"


def test_without_a_home_it_is_the_root(monkeypatch: pytest.MonkeyPatch):
    """A uid of no user, and no HOME: everything went below a directory `~` of the current one."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_001)
    paths = Paths.from_environment({})
    assert (paths.data, paths.config_file) == (Path("/.local/share/gridfs"), Path("/.config/gridfs/config.toml"))
    assert config_path({}) == "/.config/gridfs/config.toml"


def test_an_empty_cache_directory_is_not_the_current_one():
    with pytest.raises(click.BadParameter, match="it is empty"):
        settings_of("--cache-dir", "")


@pytest.mark.parametrize("size", ["1", "0", "31MiB"])
def test_a_memory_target_that_could_not_be_kept_is_refused(size):
    """It became 32 MiB, and 0 the default, without a word."""
    for refused in (
        lambda: settings_of("--memory-target", size),
        lambda: Invocation(Environment(memory_target=size)).cache_settings(),
        lambda: store_of({"GRIDFS_MEMORY_TARGET": size}),
    ):
        with pytest.raises(InvalidInput, match="too little for the data in memory"):
            refused()
    settings_of("--memory-target", "32MiB")


def test_a_read_that_may_take_no_time_is_refused():
    with pytest.raises(InvalidInput, match="--read-timeout 0"):
        settings_of("--read-timeout", "0")


def test_the_defaults_of_the_mount_are_those_of_the_record():
    assert settings_of() == MountOptions(allow_other=os.geteuid() == 0)


def test_mount_options_by_flags_and_by_o():
    by_flags = settings_of(
        "--uid", "7", "--gid=8", "--umask", "027", "--allow-other", "--no-veil", "--read-timeout", "5s"
    )
    by_o = settings_of("-o", "uid=7,gid=8,ro,umask=027", "-o", "allow_other,_netdev", "--no-veil", "--read-timeout=5")
    assert by_flags == by_o
    assert by_flags == MountOptions(allow_other=True, uid=7, gid=8, umask=0o27, veil=False, read_timeout_s=5.0)
    assert settings_of("-o", "max_read=131072,x-systemd.automount").extra == ("max_read=131072",)


def test_a_flag_beats_o():
    assert settings_of("-o", "uid=7", "--uid", "9").uid == 9


def test_no_writable_mount():
    with pytest.raises(InvalidInput, match="-o rw"):
        settings_of("-o", "rw")


def test_a_mount_keeps_the_name_by_which_it_is_found():
    with pytest.raises(InvalidInput, match="-o fsname"):
        settings_of("-o", "nofail,fsname=mine")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["datastore", "delete", "data", "--version", "x"], r"'--version'.*'x' is not a whole number from 1"),
        (["datastore", "delete", "data", "--version", "0"], r"'--version'.*'0' is not a whole number from 1"),
        (["bench", "--files", "many"], r"'--files'.*'many' is not a whole number from 1"),
        (["bench", "--files", "1" * 20], r"'--files'.*is not a whole number from 1"),
        (["bench", "--seed", "1.5"], r"'--seed'.*'1.5' is not a whole number"),
        (["bench", "--seconds", "0"], r"'--seconds'.*'0' is not a number of seconds from 0.05"),
        (["bench", "--seconds", "nan"], r"'--seconds'.*'nan' is not a number of seconds"),
    ],
)
def test_a_bad_number_is_told_with_its_option_and_what_is_allowed(words, says):
    with pytest.raises(click.BadParameter) as refused, grid.make_context("grid", words, obj=Invocation()) as context:
        grid.invoke(context)
    assert re.search(says, refused.value.format_message())


@pytest.mark.parametrize("name", ["mount", "run"])
def test_defaults_stand_without_parentheses(name):
    """As click writes them where a default is a text of its own."""
    context = click.Context(grid, obj=Invocation(), terminal_width=200)
    command = grid.get_command(context, name)
    assert "default: (" not in command.get_help(click.Context(command, parent=context, terminal_width=200))
