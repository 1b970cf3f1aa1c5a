"""Which datastore gets which version and mount directory, from options in any order."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.cli.run_config import read_run_config
from gridfs.cli.run_request import MOUNT_DIR, NAME, VERSION, Given, RequestedDatastore, assign, mount_path, requested
from gridfs.errors import InvalidInput, NotFound
from gridfs.names import MAX_NAME_LENGTH

DIR = MOUNT_DIR


def want(name: str, version: int | None = None, mount_dir: str | None = None) -> RequestedDatastore:
    return RequestedDatastore(name, version, mount_dir)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([Given(NAME, "a")], [want("a")]),
        ([Given(NAME, "a"), Given(VERSION, "2"), Given(DIR, "/x")], [want("a", 2, "/x")]),
        (
            [Given(NAME, "a"), Given(NAME, "b"), Given(DIR, "/x"), Given(DIR, "/y")],
            [want("a", None, "/x"), want("b", None, "/y")],
        ),
        ([Given(NAME, "a"), Given(NAME, "b"), Given(DIR, "/y")], [want("a"), want("b", None, "/y")]),
        ([Given(NAME, "a"), Given(VERSION, "3"), Given(NAME, "b")], [want("a", 3), want("b")]),
        ([Given(NAME, "a@2:/x"), Given(NAME, "b:/y")], [want("a", 2, "/x"), want("b", None, "/y")]),
    ],
)
def test_options_belong_to_their_names(given: list[Given], expected: list[RequestedDatastore]) -> None:
    assert assign(given) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([Given(DIR, "/x"), Given(NAME, "a"), Given(NAME, "b")], "belongs to no --datastore_name"),
        ([Given(NAME, "a"), Given(VERSION, "1"), Given(VERSION, "2")], "belongs to no --datastore_name"),
        ([Given(NAME, "a"), Given(VERSION, "one")], "'one' is no version of a"),
        ([Given(NAME, "a@1"), Given(VERSION, "2")], "two versions: 1 and 2"),
        ([Given(NAME, "a:/x"), Given(DIR, "/y")], "two mount directories: /x and /y"),
        ([Given(NAME, "@1")], "without a name"),
        ([Given(NAME, "a:2")], "'a:2' names no version: its number comes after '@'; for example a@2"),
        ([Given(NAME, "s3://")], "'s3://' is an address, and not the name of a datastore; .*--store"),
        ([Given(NAME, "s3://b/p")], "'s3://b/p' is an address"),
    ],
)
def test_contradictions_name_themselves(given: list[Given], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        assign(given)


def test_a_version_of_zero_is_no_version() -> None:
    with pytest.raises(InvalidInput, match="versions are numbers from 1"):
        requested("a", "0")


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yml"
    path.write_text(text)
    return path


def test_grids_yaml_names_a_datastore(tmp_path: Path) -> None:
    text = (
        "compute:\n  provider: {cluster: c}\n  train:\n"
        "    datastore_name: a\n    datastore_version: 2\n    datastore_mount_dir: /opt/data\n"
    )
    assert read_run_config(config(tmp_path, text)) == want("a", 2, "/opt/data")


@pytest.mark.parametrize("text", ["", "compute:\n", "compute:\n  train:\n    framework: x\n", "hyper_params: {a: 1}\n"])
def test_a_file_without_datastores_asks_for_none(tmp_path: Path, text: str) -> None:
    assert read_run_config(config(tmp_path, text)) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("compute: [1]\n", "line 1: compute must be a mapping"),
        ("compute:\n  train: x\n", "line 2: compute.train must be a mapping"),
        ("compute:\n  train:\n    datastore_nam: a\n", "line 3: compute.train.datastore_nam is not a key"),
        ("compute:\n  train:\n    datastore_version: 1\n", "line 3: .* needs compute.train.datastore_name"),
        ("compute:\n  train:\n    datastore_name: a\n    datastore_version: x\n", "line 3: 'x' is no version of a"),
        ("compute:\n  train:\n    datastore_name: [a]\n", "line 3: .*datastore_name must be a single value"),
        ("compute:\n\ttrain: 1\n", "line 2: not valid YAML.*; correct it there; .*datastore_name: NAME"),
        ("compute:\n  train: [\n", "line 3: not valid YAML.*; correct it there"),
        ("- a\n", "line 1: the file must be a mapping"),
    ],
)
def test_mistakes_are_told_with_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read_run_config(config(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no such configuration file: .*none\.yml"):
        read_run_config(tmp_path / "none.yml")


def test_a_name_is_brought_into_its_form_as_everywhere():
    """`grid mount ImageNet` found what `grid run --datastore_name ImageNet` did not."""
    assert requested("Image Net@2:/data") == want("imagenet", 2, "/data")
    assert requested("é" * MAX_NAME_LENGTH).name == "e" * MAX_NAME_LENGTH
    for impossible in "a/b", "!!", "a" * (MAX_NAME_LENGTH + 1):
        with pytest.raises(InvalidInput, match="the name of a datastore"):
            requested(impossible)


def test_the_home_in_a_mount_directory(monkeypatch):
    """bash leaves the `~` of `--datastore_mount_dir=~/data` and of `NAME:~/data`, and no shell sees that of a file."""
    monkeypatch.setenv("HOME", "/home/ann")
    assert mount_path(requested("a:~/data")) == "/home/ann/data"
