"""Which store is meant: the order of precedence in gridfs/selection.py, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs.config import AwsEnvironment, Environment, Paths, StoreSettings
from gridfs.config_file import ConfigFile
from gridfs.errors import InvalidInput
from gridfs.selection import SelectedStore, StoreFlags, endpoint_of, select_store

PATHS = Paths.from_environment({"HOME": "/home/ann"})
STORES = {
    "lab": StoreSettings("s3://lab/grid/", "https://s3.lab.example/", region="lab-1"),
    "scratch": StoreSettings("/mnt/scratch"),
}
FILE = ConfigFile(Path("/etc/grid.toml"), STORES)
NO_FILE = ConfigFile(Path("/etc/grid.toml"))


def select(flags=None, environment=None, file=NO_FILE) -> SelectedStore:
    return select_store(flags or StoreFlags(), environment or Environment(), file, PATHS)


def test_the_default_is_a_directory_in_the_data_home():
    assert select() == SelectedStore(StoreSettings("file:///home/ann/.local/share/gridfs/store"), None)


def test_precedence():
    """Each source of the selection wins over all that come after it in the table of the module."""
    file = ConfigFile(Path("/etc/grid.toml"), STORES, default="scratch")
    layers = [
        (StoreFlags(store="/flag"), Environment(store="/env", cluster="lab"), "file:///flag"),
        (StoreFlags(cluster="lab"), Environment(store="/env", cluster="scratch"), "s3://lab/grid"),
        (StoreFlags(), Environment(store="/env", cluster="lab"), "file:///env"),
        (StoreFlags(), Environment(cluster="lab"), "s3://lab/grid"),
        (StoreFlags(), Environment(), "file:///mnt/scratch"),
    ]
    assert [select(flags, environment, file).settings.url for flags, environment, _ in layers] == [
        url for _, _, url in layers
    ]


def test_a_store_by_name_carries_its_settings_and_its_cluster():
    expected = SelectedStore(StoreSettings("s3://lab/grid", "https://s3.lab.example", "lab-1"), "lab")
    assert select(StoreFlags(store="lab"), file=FILE) == expected
    assert select(StoreFlags(cluster="lab"), file=FILE) == expected
    assert select(StoreFlags(store="S3://lab/grid"), file=FILE) == expected


def test_flags_beat_the_stores_table_and_that_beats_the_aws_environment():
    environment = Environment(aws=AwsEnvironment("http://aws", "aws-1"))
    selected = select(StoreFlags(cluster="lab", region="flag-1"), environment, FILE)
    assert selected.settings == StoreSettings("s3://lab/grid", "https://s3.lab.example", "flag-1")


def test_the_aws_environment_is_honoured_for_s3_only():
    environment = Environment(aws=AwsEnvironment("http://localhost:9000/", "r"))
    assert select(StoreFlags(store="s3://b"), environment).settings == StoreSettings(
        "s3://b", "http://localhost:9000", "r"
    )
    assert select(StoreFlags(store="/d"), environment).settings == StoreSettings("file:///d")


def test_no_sign_request():
    assert not select(StoreFlags(store="s3://b", no_sign_request=True)).settings.sign


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("./store", "store/", f"{tmp_path}/store"):
        assert select(StoreFlags(store=text)).settings.url == f"file://{tmp_path}/store"


def test_paths_that_look_like_addresses(tmp_path):
    """`%` in a path means itself, and in an address it is the store's own spelling."""
    assert select(StoreFlags(store="/a b/100%25")).settings.url == "file:///a%20b/100%2525"
    assert select(StoreFlags(store="file:///a%20b/100%2525")).settings.url == "file:///a%20b/100%2525"


REFUSED = {
    "two stores": (StoreFlags(store="/a", cluster="lab"), "--store and --cluster both name a store"),
    "unknown name": (
        StoreFlags(cluster="labb"),
        "--cluster 'labb' is no store in the configuration file; did you mean",
    ),
    "unknown name by --store": (StoreFlags(store="bucket"), "--store 'bucket' is no store in the configuration file"),
    "unknown scheme": (StoreFlags(store="ftp://host/x"), "'ftp://' is no store that gridfs knows"),
    "no bucket": (StoreFlags(store="s3://"), "--store 's3://' names no bucket"),
    "relative file address": (StoreFlags(store="file://data/x"), "--store 'file://data/x' has no absolute path"),
    "no path": (StoreFlags(store="file:///a%00b"), "--store 'file:///a%00b' is no path"),
    "endpoint of a directory": (StoreFlags(store="/a", endpoint_url="http://h"), "--endpoint-url means nothing for"),
    "unsigned directory": (StoreFlags(store="/a", no_sign_request=True), "--no-sign-request means nothing for"),
    "endpoint without scheme": (
        StoreFlags(store="s3://b", endpoint_url="host:9"),
        "--endpoint-url 'host:9' is no address",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    flags, expected = REFUSED[case]
    with pytest.raises(InvalidInput) as caught:
        select(flags, file=FILE)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *("http://", "http://:80", "http://host:99999", "http://host:port", "http://a b", "http://[::1", "http://ü.de"),
        *("host:9", "ftp://host", " http://host", "http://user:word@host", "http://host?a=b", "http://host/#a"),
    ],
)
def test_what_is_no_address_of_a_server(wrong: str):
    with pytest.raises(InvalidInput, match=r"--endpoint-url 'h?.*' is no address") as caught:
        select(StoreFlags(store="s3://bucket", endpoint_url=wrong))
    assert "word" not in str(caught.value)
    with pytest.raises(InvalidInput, match="AWS_ENDPOINT_URL '"):
        endpoint_of(None, None, AwsEnvironment(endpoint_url=wrong))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("HTTP://Host:9000/", "http://Host:9000"),
        ("https://my_minio", "https://my_minio"),
        ("http://[::1]:9/path/", "http://[::1]:9/path"),
    ],
)
def test_addresses_of_servers(given: str, meant: str):
    assert endpoint_of(given, None, AwsEnvironment()) == meant


def test_an_unknown_name_of_the_environment_names_the_variable():
    with pytest.raises(InvalidInput, match="GRIDFS_CLUSTER 'x' is no store"):
        select(environment=Environment(cluster="x"))
