"""`grid datastore create s3://...` as issue 4 spells it."""

from __future__ import annotations

import pytest

from tests.support.data import ramp


@pytest.fixture
def bucket(s3_moto):
    """A bucket with three objects below `esRedditJson/` and one beside it."""
    client = s3_moto.client()
    for key, size in [("esRedditJson/a.json", 30_000), ("esRedditJson/sub/b+c d.json", 5), ("esRedditJson/e", 0)]:
        client.put_object(Bucket=s3_moto.bucket, Key=key, Body=ramp(size), ACL="public-read")
    client.put_object(Bucket=s3_moto.bucket, Key="esRedditJson2/other", Body=b"other", ACL="public-read")
    return s3_moto


def test_copied(grid, bucket):
    source = f"s3://{bucket.bucket}/esRedditJson/"
    made = grid("datastore", "create", source, "--endpoint-url", bucket.endpoint_url, "-o", "json").json
    assert (made["name"], made["version"], made["mode"]) == ("esredditjson", 1, "copy")
    assert (made["file_count"], made["size_bytes"], made["source"]) == (3, 30_005, source)


def test_no_copy_with_the_scheme_in_capitals_and_no_slash(grid, bucket):
    source = f"S3://{bucket.bucket}/esRedditJson"
    made = grid("--endpoint-url", bucket.endpoint_url, "datastore", "create", source, "--no-copy", "-o", "json").json
    assert (made["name"], made["mode"], made["file_count"]) == ("esredditjson", "no-copy", 3)


def test_what_the_version_before_lacks_is_no_failure_of_the_new_one(grid, bucket, private_dirs):
    create = ("--endpoint-url", bucket.endpoint_url, "datastore", "create", f"s3://{bucket.bucket}/esRedditJson/")
    grid(*create, "--no-copy").succeeded()
    for manifest in (
        *private_dirs.data.glob("store/datastores/esredditjson/manifests/*"),
        *private_dirs.cache.glob("manifests/*"),
    ):
        manifest.unlink()
    bucket.client().put_object(Bucket=bucket.bucket, Key="esRedditJson/new", Body=b"new", ACL="public-read")
    made = grid(*create, "--no-copy", "-o", "json")
    assert (made.json["version"], made.json["changes"]) == (2, None)
    assert "the manifest of esredditjson@1 is not in" in made.err


def test_the_root_of_a_bucket_has_its_name(grid, bucket):
    source = f"s3://{bucket.bucket}/"
    made = grid("datastore", "create", source, "--endpoint-url", bucket.endpoint_url, "-o", "json").json
    assert (made["name"], made["file_count"]) == (bucket.bucket, 4)


def test_a_part_of_it(grid, bucket):
    arguments = ("--endpoint-url", bucket.endpoint_url, "--include", "*.json", "--exclude", "sub/*", "-o", "json")
    made = grid("datastore", "create", f"s3://{bucket.bucket}/esRedditJson/", *arguments).json
    assert made["file_count"] == 1


def test_patterns_that_leave_nothing_are_what_is_named(grid, bucket):
    """The prefix was called empty."""
    to = ("--endpoint-url", bucket.endpoint_url)
    ended = grid("datastore", "create", bucket.store_url(""), *to, "--include", "*.none")
    ended.failed(2, "--include and --exclude leave nothing of")


def test_from_a_bucket_into_a_bucket(grid, bucket):
    where = ("--endpoint-url", bucket.endpoint_url, "--store", bucket.store_url("store"))
    grid("datastore", "create", f"s3://{bucket.bucket}/esRedditJson/", "--name", "reddit", *where).succeeded()
    assert [row["name"] for row in grid("datastore", *where, "-o", "json").json] == ["reddit"]


class TestBadInput:
    def test_no_such_bucket(self, grid, bucket):
        ended = grid("datastore", "create", "s3://no-such-bucket-of-mine/x", "--endpoint-url", bucket.endpoint_url)
        ended.failed(3, "no-such-bucket-of-mine")

    def test_no_such_prefix(self, grid, bucket):
        source = f"s3://{bucket.bucket}/nothing"
        grid("datastore", "create", source, "--endpoint-url", bucket.endpoint_url).failed(3, source)

    def test_options_that_need_a_bucket(self, grid, folder):
        grid("datastore", "create", folder, "--requester-pays").failed(2, "--requester-pays")
        grid("datastore", "create", folder, "--include", "*.jpg").failed(2, "--include")
        grid("datastore", "create", folder, "--endpoint-url", "http://127.0.0.1:9").failed(2, "--endpoint-url")
