"""The rule of names, on every kind of source that the issues name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridfs.errors import InvalidInput
from gridfs.model import VersionSpec
from gridfs.names import MAX_NAME_LENGTH, name_from_source, normalise_name, parse_spec


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("imagenet", "imagenet"),
        ("ImageNet", "imagenet"),
        ("imagenet_folder", "imagenet_folder"),
        ("lightning-train-data", "lightning-train-data"),
        ("My Data Set", "mydataset"),
        ("  padded\t", "padded"),
        ("café", "cafe"),
        ("ﬁne", "fine"),
        ("v1.0", "v1.0"),
        (".hidden", "hidden"),
        ("_-x-_", "x-_"),
        ("2024", "2024"),
        ("data (copy)", "datacopy"),
        ("数据v2", "v2"),
    ],
)
def test_normalise_name(text: str, name: str) -> None:
    assert normalise_name(text) == name
    assert normalise_name(name) == name


@pytest.mark.parametrize("text", ["", " ", ".", "..", "数据", "---", "a@1", "a/b", "x" * (MAX_NAME_LENGTH + 1)])
def test_impossible_names_say_what_is_possible(text: str) -> None:
    with pytest.raises(InvalidInput, match="a name has letters, digits"):
        normalise_name(text)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("./imagenet_folder/", "imagenet_folder"),
        ("./imagenet_folder", "imagenet_folder"),
        ("/data/My Set//", "myset"),
        ("/data/my.data.v1", "my.data.v1"),
        ("s3://ruff-public-sample-data/esRedditJson", "esredditjson"),
        ("S3://ruff-public-sample-data/esRedditJson/", "esredditjson"),
        ("s3://bucket-name", "bucket-name"),
        ("s3://bucket-name/", "bucket-name"),
        ("s3://bucket/odd?key#here/", "oddkeyhere"),
        ("https://host/subfolder/trainingSet.tar.gz", "trainingset"),
        ("https://host/subfolder/trainingSet.zip?token=a/b.c", "trainingset"),
        ("https://host/a/pkg-1.2.3.tar.zst", "pkg-1.2.3"),
        ("https://host/a/My%20Set.tgz#part", "myset"),
        ("https://host/a/set.TAR.BZ2", "set"),
        ("http://127.0.0.1:8000/", "127.0.0.1"),
        ("file:///data/Some%20Folder/", "somefolder"),
        ("s3://[bucket/prefix", "prefix"),
        ("file://[folder", "folder"),
    ],
)
def test_name_from_source(source: str, name: str) -> None:
    assert name_from_source(source) == name


def test_dots_are_resolved_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Outer" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Outer" / "inner")
    assert name_from_source(".") == "inner"
    assert name_from_source("./") == "inner"
    assert name_from_source("..") == "outer"
    assert name_from_source("../inner/..") == "outer"


def test_dots_behind_a_link_mean_what_the_kernel_means(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    os.symlink("real/below", tmp_path / "link")
    assert name_from_source(f"{tmp_path}/link") == "link"
    assert name_from_source(f"{tmp_path}/link/..") == "real"


def test_a_local_archive_loses_its_suffixes_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"")
    (tmp_path / "folder.zip").mkdir()
    assert name_from_source(str(tmp_path / "set.zip")) == "set"
    assert name_from_source(str(tmp_path / "folder.zip")) == "folder.zip"


@pytest.mark.parametrize("source", ["", "/", "/data/数据", "https://"])
def test_sources_without_a_name_suggest_the_option(source: str) -> None:
    with pytest.raises(InvalidInput, match="--name"):
        name_from_source(source)


def test_parse_spec() -> None:
    assert parse_spec("imagenet") == VersionSpec("imagenet", None)
    assert parse_spec("ImageNet@12") == VersionSpec("imagenet", 12)
    assert str(parse_spec("a@3")) == "a@3"


@pytest.mark.parametrize("text", ["a@", "a@0", "a@x", "a@-1", "a@1@2", "a@ 1", "a@123456789", "@1", "a/b", "a@²"])
def test_impossible_specs(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_spec(text)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("imagenet:2", "its number comes after '@'; for example imagenet@2"),
        ("s3://", "'s3://' is an address, and not the name of a datastore; .*--store"),
        ("s3://bucket/prefix", "is an address"),
    ],
)
def test_what_looks_like_something_else_is_told_so(spec: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_spec(spec)


@pytest.mark.parametrize("source", ["s3://", "S3://", "gs://"])
def test_an_address_without_a_bucket_names_the_whole_shape(source: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{source}' names no bucket; write it as {source}bucket/prefix"):
        name_from_source(source)
