"""The configuration file: what it may say, and that each mistake is named with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.config import GIB, StoreSettings
from gridfs.config_file import ConfigFile, read_config_file
from gridfs.errors import InvalidInput, NotFound


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


def test_a_missing_file_is_an_empty_one(tmp_path):
    assert read_config_file(tmp_path / "config.toml") == ConfigFile(tmp_path / "config.toml")


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(NotFound, match=r"no configuration file .*config\.toml"):
        read_config_file(tmp_path / "config.toml", required=True)


def test_all_settings(config):
    path = config(
        """
        default = "lab"

        [stores]
        scratch = "file:///mnt/scratch"
        plain = "/mnt/plain"

        [stores.lab]
        url = "s3://lab-datasets/grid"
        endpoint_url = "https://s3.lab.example"
        region = "eu-1"
        profile = "lab"
        sign = false
        requester_pays = true

        [cache]
        directory = "/var/cache/gridfs"
        max_size = "200GiB"
        memory_target = 1073741824
        """
    )
    lab = StoreSettings(
        "s3://lab-datasets/grid", "https://s3.lab.example", "eu-1", "lab", sign=False, requester_pays=True
    )
    assert read_config_file(path) == ConfigFile(
        path,
        {"scratch": StoreSettings("file:///mnt/scratch"), "plain": StoreSettings("/mnt/plain"), "lab": lab},
        "lab",
        Path("/var/cache/gridfs"),
        200 * GIB,
        GIB,
    )


MISTAKES = {
    "no TOML": ("default = \n", "is no TOML: Invalid value (at line 1"),
    "unknown key": ('# stores\ndefalt = "a"\n', "line 2: 'defalt' is no setting (did you mean 'default'?)"),
    "unknown table": ("[mounts]\n", "line 1: 'mounts' is no setting"),
    "unknown key of a store": (
        '[stores.a]\nurl = "s3://b"\n\nendpoint = "x"\n',
        "line 4: 'stores.a.endpoint' is no setting (did you mean 'endpoint_url'?)",
    ),
    "the same key in another table": (
        '[stores.a]\nurl = "s3://b"\nregion = "x"\n[stores.b]\nurl = "s3://b"\nregion = 1\n',
        "line 6: 'stores.b.region' must be a text",
    ),
    "store without url": ('[stores]\n[stores.a]\nregion = "x"\n', "line 2: 'stores.a' has no 'url'"),
    "store of a wrong type": ("[stores]\na = 3\n", "line 2: 'stores.a' must be an address"),
    "url that is none": ('[stores]\na = "bucket"\n', "line 2: 'stores.a' must be an address such as"),
    "stores that is no table": ("stores = 1\n", "line 1: 'stores' must be a table"),
    "default of no store": ('default = "b"\n[stores]\na = "/a"\n', "line 1: 'default' names the store 'b'"),
    "sign of a wrong type": ('[stores.a]\nurl = "/a"\nsign = "no"\n', "line 3: 'stores.a.sign' must be true or false"),
    "relative cache": ('[cache]\ndirectory = "cache"\n', "line 2: 'cache.directory' must be an absolute path"),
    "size that is none": ('[cache]\nmax_size = "many"\n', "line 2: 'cache.max_size' is wrong: 'many' is no size"),
    "size of a wrong type": ("[cache]\nmemory_target = true\n", "line 2: 'cache.memory_target' must be a size"),
    "empty text": ('[stores.a]\nurl = ""\n', "line 2: 'stores.a.url' must be a text that is not empty"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_key(config, mistake):
    text, expected = MISTAKES[mistake]
    path = config(text)
    with pytest.raises(InvalidInput) as caught:
        read_config_file(path)
    assert str(path) in caught.value.message
    assert expected in caught.value.message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="is not UTF-8 text"):
        read_config_file(path)


def test_a_directory_in_its_place(tmp_path):
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_config_file(tmp_path)
