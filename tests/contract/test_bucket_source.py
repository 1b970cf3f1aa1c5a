"""Datastores of buckets: what is taken, what is reported, what is refused, on real and on difficult servers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from gridfs.catalog import Catalog
from gridfs.config import Paths, StoreSettings
from gridfs.create.creation import CreateResult, create_datastore
from gridfs.create.preview import preview
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.errors import (
    AccessDenied,
    CredentialsRefused,
    GridfsError,
    NotFound,
    SourceProblem,
    StoreRefused,
    StoreUnavailable,
)
from gridfs.manifest.reader import Manifest
from gridfs.model import Kind, Mode, VersionSpec
from gridfs.store.directory import DirectoryStore
from gridfs.store.stack import open_store
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.s3 import S3Server
from tests.support.stub_s3 import LAST_MODIFIED, Asked, Reply, StubS3, error, part_of, stub_s3
from tests.support.versions import stored_tree

SERVERS = ["s3_moto", pytest.param("s3_ceph", marks=pytest.mark.ceph)]
FILES = {
    "data/a.txt": ramp(10),
    "data/sub/b+c %20d.bin": ramp(100_000),
    "data/ü/€😀.txt": ramp(700),
    "data/empty": b"",
    "data/deep/er/than/that": ramp(3),
    "data/large": ramp(20_000_003),
    "data/clash/inside": ramp(99),
}
REPORTED = {"data/clash": b"shadowed", "data/mark/": b"", "data/x//y": b"no"}
OUTSIDE = {"data2/no": b"no", "datamark": b"no", "other": b"no"}


class Place:
    """A store and a node of a test's own, and how it reaches a bucket."""

    def __init__(self, tmp_path: Path, paths: Paths, endpoint_url: str) -> None:
        self.store = DirectoryStore(tmp_path / "store")
        self.paths = paths
        self.endpoint_url = endpoint_url

    def request(
        self, source: str, *, sign: bool = True, requester_pays: bool = False, **options: object
    ) -> CreateRequest:
        settings = StoreSettings(source, self.endpoint_url, sign=sign, requester_pays=requester_pays)
        return CreateRequest("set", source, source_settings=settings, **options)  # type: ignore[arg-type]

    async def create(self, source: str, **options: object) -> CreateResult:
        request = self.request(source, **options)  # type: ignore[arg-type]
        return await create_datastore(request, self.store, self.paths, Silent(), pack_size_bytes=1 << 20)

    async def files(self) -> dict[str, bytes]:
        """Paths of the newest version, which must be a copied one, and the SHA-256 of what it has under them."""
        tree = await stored_tree(self.store, self.paths, VersionSpec("set"))
        return {path.decode(): node.content for path, node in tree.nodes.items() if node.kind is Kind.FILE}

    async def manifest(self) -> Manifest:
        catalog = Catalog(self.store)
        return Manifest.open(await catalog.fetch_manifest(await catalog.resolve(VersionSpec("set")), self.paths.cache))


def hashed(files: dict[str, bytes]) -> dict[str, bytes]:
    """As Place.files."""
    return {path: hashlib.sha256(content).digest() for path, content in files.items()}


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, S3Server]:
    s3: S3Server = request.getfixturevalue(request.param)
    for key, content in (FILES | REPORTED | OUTSIDE).items():
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=content)
    return Place(tmp_path, Paths.from_environment(), s3.endpoint_url), s3


on_both = pytest.mark.parametrize("filled", SERVERS, indirect=True)


@on_both
@on_trio
async def test_a_copied_prefix_is_the_prefix(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    result = await place.create(f"s3://{s3.bucket}/data")
    assert await place.files() == hashed({key.removeprefix("data/"): content for key, content in FILES.items()})
    assert {problem.reason: problem.count for problem in result.problems} == {
        "shadowed": 1, "directory-marker": 1, "unrepresentable-key": 1,
    }  # fmt: skip
    assert result.version.source == f"s3://{s3.bucket}/data/"
    with await place.manifest() as manifest:
        modified = s3.client().head_object(Bucket=s3.bucket, Key="data/a.txt")["LastModified"]
        entry = manifest.resolve(b"a.txt")
        assert entry is not None
        assert entry.mtime_ns == int(modified.timestamp()) * 1_000_000_000
        marker = manifest.resolve(b"mark")
        assert marker is not None
        assert marker.kind == Kind.DIRECTORY
        assert {(p.reason, p.name) for p in manifest.problems()} == {
            ("shadowed", b"clash"), ("directory-marker", b"mark/"), ("unrepresentable-key", b"x//y"),
        }  # fmt: skip


@on_both
@on_trio
async def test_a_no_copy_version_names_the_objects(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    result = await place.create(f"s3://{s3.bucket}/data/", mode=Mode.NO_COPY)
    assert result.sent_bytes == 0
    assert result.version.mode is Mode.NO_COPY
    assert [head.key async for head in place.store.list("datastores/set/objects/")] == []
    with await place.manifest() as manifest:
        bucket = manifest.info.bucket
        assert bucket is not None
        assert (bucket.bucket, bucket.endpoint, bucket.prefix) == (s3.bucket, s3.endpoint_url, "data/")
        for key, content in FILES.items():
            entry = manifest.resolve(key.removeprefix("data/").encode())
            assert entry is not None
            assert entry.size == len(content)
            if content:
                assert entry.object is not None
                record = manifest.object(entry.object)
                etag = s3.client().head_object(Bucket=s3.bucket, Key=key)["ETag"]
                assert (record.key, record.size_bytes, record.etag) == (key, len(content), etag)


@on_both
@on_trio
async def test_one_object_is_a_datastore_of_one_file(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    result = await place.create(f"s3://{s3.bucket}/data/sub/b+c %20d.bin")
    assert await place.files() == hashed({"b+c %20d.bin": FILES["data/sub/b+c %20d.bin"]})
    assert result.version.file_count == 1


@on_both
@on_trio
async def test_patterns_and_a_dry_run(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    request = place.request(f"s3://{s3.bucket}/data/", include=("*.txt", "deep/*"), exclude=("ü/*",))
    seen = await preview(request, StoreSettings(place.store.url), place.paths, Silent())
    assert (seen.files, seen.total_bytes) == (2, 13)
    assert not list(place.store.root.rglob("*"))
    await place.create(f"s3://{s3.bucket}/data/", include=("*.txt", "deep/*"), exclude=("ü/*",))
    assert sorted(await place.files()) == ["a.txt", "deep/er/than/that"]


@on_both
@on_trio
async def test_strict_makes_nothing_of_what_can_not_be_kept(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    with pytest.raises(SourceProblem, match="1 unrepresentable-key"):
        await place.create(f"s3://{s3.bucket}/data/", strict=True)
    assert await Catalog(place.store).names() == []
    await place.create(f"s3://{s3.bucket}/data/", strict=True, exclude=("x//*", "mark/", "clash"))


@on_both
@on_trio
async def test_a_bucket_with_its_own_store_in_it(
    filled: tuple[Place, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each version would hold all versions before it."""
    place, s3 = filled
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    settings = StoreSettings(f"s3://{s3.bucket}/data/store", s3.endpoint_url)
    s3.client().put_object(Bucket=s3.bucket, Key="data/store/datastores2/kept", Body=b"k")
    request = place.request(f"s3://{s3.bucket}/data/", exclude=("large", "sub/*"))
    store = await open_store(settings)
    try:
        for _ in range(2):
            await create_datastore(request, store, place.paths, Silent(), store_settings=settings)
        tree = await stored_tree(store, place.paths, VersionSpec("set"))
        seen = await preview(request, settings, place.paths, Silent())
        without = replace(request, exclude=("store/*", "x//*", "mark/", "clash"), strict=True)
        await create_datastore(without, store, place.paths, Silent(), store_settings=settings)
        elsewhere = await preview(request, replace(settings, endpoint_url="http://127.0.0.1:9"), place.paths, Silent())
    finally:
        await store.aclose()
    assert [path for path in tree.nodes if path.startswith(b"store/")] == [
        b"store/datastores2",
        b"store/datastores2/kept",
    ]
    assert tree.reasons()["own-directory"] == [b"store/datastores"]
    assert seen.files == sum(node.kind is Kind.FILE for node in tree.nodes.values())
    assert elsewhere.files > seen.files, "a bucket of the same name on another server is another bucket"


@on_both
@on_trio
async def test_what_is_not_there(filled: tuple[Place, S3Server]) -> None:
    place, s3 = filled
    for source in (f"s3://{s3.bucket}/nothing", f"s3://{s3.bucket}/dat", f"s3://{s3.bucket}/data/a.txt/"):
        with pytest.raises(NotFound, match="there is nothing at"):
            await place.create(source)
    with pytest.raises(NotFound, match="there is no bucket"):
        await place.create("s3://gridfs-no-such-bucket/data")
    assert await Catalog(place.store).names() == []


@pytest.mark.ceph
@on_trio
async def test_a_public_bucket_is_read_as_anyone(
    s3_ceph: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"]}
    resources = [f"arn:aws:s3:::{s3_ceph.bucket}", f"arn:aws:s3:::{s3_ceph.bucket}/*"]
    policy = {"Version": "2012-10-17", "Statement": [allow | {"Resource": resources}]}
    client = s3_ceph.client()
    client.put_object(Bucket=s3_ceph.bucket, Key="line\nbreak", Body=ramp(5000))
    client.put_object(Bucket=s3_ceph.bucket, Key="plain", Body=ramp(500))
    place = Place(tmp_path, Paths.from_environment(), s3_ceph.endpoint_url)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    with pytest.raises(AccessDenied, match="may not be listed, without credentials"):
        await place.create(f"s3://{s3_ceph.bucket}")
    client.put_bucket_policy(Bucket=s3_ceph.bucket, Policy=json.dumps(policy))
    await place.create(f"s3://{s3_ceph.bucket}")
    assert await place.files() == hashed({"line\nbreak": ramp(5000), "plain": ramp(500)})
    await place.create(f"s3://{s3_ceph.bucket}", mode=Mode.NO_COPY)
    with await place.manifest() as manifest:
        assert manifest.info.bucket is not None
        assert not manifest.info.bucket.signed


# What neither moto nor Ceph does

CONTENT = {"d/a": ramp(5000), "d/b": ramp(70, 1), "d/c": ramp(9000, 2)}


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def page(keys: list[str], *, truncated: bool = False, storage_class: str = "STANDARD") -> Reply:
    items = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>2026-11-22T10:00:00.000Z</LastModified><Size>"
        f"{len(CONTENT[key])}</Size><ETag>{etag(CONTENT[key])}</ETag><StorageClass>{storage_class}</StorageClass></Contents>"
        for key in keys
    )
    return Reply(200, (
        f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(truncated).lower()}</IsTruncated>{items}"
        "</ListBucketResult>"
    ).encode())  # fmt: skip


class Server:
    """A bucket with CONTENT; what a test wants otherwise it says by the attributes."""

    def __init__(self) -> None:
        self.region: str | None = None
        self.storage_class = "STANDARD"
        self.needs_signature = False
        self.needs_payer = False
        self.may_list = True
        self.may_get = True
        self.refusals: dict[str, Reply] = {}
        """Of GETs, by key."""
        self.failures: list[Reply] = []
        self.bodies = dict(CONTENT)
        self.page_size = 1000
        self.has_etags = True
        """Of listings."""

    def __call__(self, asked: Asked) -> Reply:
        headers = {"x-amz-bucket-region": self.region} if self.region else {}
        key = asked.path.removeprefix("/bucket").removeprefix("/")
        if asked.method == "HEAD" and not key:
            return Reply(403 if self.needs_signature else 200, b"", headers)
        if self.failures:
            return self.failures.pop()
        if self.needs_signature and "authorization" not in asked.headers:
            return error(403, "AccessDenied")
        if self.needs_payer and asked.headers.get("x-amz-request-payer") != "requester":
            return error(403, "AccessDenied")
        if "list-type" in asked.query:
            return self._list(asked) if self.may_list else error(403, "AccessDenied")
        if not self.may_get:
            return error(403, "AccessDenied")
        if key not in self.bodies:
            return error(404, "NoSuchKey")
        about = {"ETag": etag(CONTENT[key]), "Last-Modified": LAST_MODIFIED}
        if asked.method == "HEAD":
            return Reply(200, self.bodies[key], about)
        if key in self.refusals:
            return self.refusals[key]
        return part_of(self.bodies[key], asked, etag=about["ETag"])

    def _list(self, asked: Asked) -> Reply:
        after, prefix = asked.query.get("start-after", ""), asked.query["prefix"]
        keys = [key for key in sorted(CONTENT) if key > after and key.startswith(prefix)]
        most = min(self.page_size, int(asked.query["max-keys"]))
        listed = page(keys[:most], truncated=len(keys) > most, storage_class=self.storage_class)
        return listed if self.has_etags else Reply(200, re.sub(b"<ETag>.*?</ETag>", b"", listed.body))


@contextmanager
def serving(tmp_path: Path) -> Iterator[tuple[Place, Server, StubS3]]:
    server = Server()
    with stub_s3(server) as stub:
        yield Place(tmp_path, Paths.from_environment(), stub.endpoint_url), server, stub


@pytest.fixture
def keys(private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@on_trio
async def test_without_a_signature_first(tmp_path: Path, keys: None) -> None:
    with serving(tmp_path) as (place, _, stub):
        await place.create("s3://bucket/d/")
        assert await place.files() == hashed({key[2:]: content for key, content in CONTENT.items()})
        assert not any("authorization" in asked.headers for asked in stub.asked)


@on_trio
async def test_then_with_the_credentials_there_are(tmp_path: Path, keys: None) -> None:
    with serving(tmp_path) as (place, server, _):
        server.needs_signature = True
        await place.create("s3://bucket/d/")
        assert await place.files() == hashed({key[2:]: content for key, content in CONTENT.items()})
        with pytest.raises(AccessDenied, match="leave out --no-sign-request"):
            await place.create("s3://bucket/d/", sign=False)


@on_trio
async def test_the_buckets_region_is_found_and_told(
    tmp_path: Path, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as (place, server, stub):
        server.region, server.needs_signature = "eu-central-1", True
        assert (await place.create("s3://bucket/d/")).notes == ("the bucket bucket is in region eu-central-1",)
        signed = [asked for asked in stub.asked if "authorization" in asked.headers]
        assert signed
        assert all("/eu-central-1/s3/" in asked.headers["authorization"] for asked in signed)
        monkeypatch.setenv("AWS_REGION", "us-west-2")
        (note,) = (await place.create("s3://bucket/d/")).notes
        assert "eu-central-1" in note
        assert "this machine in us-west-2" in note
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        assert (await place.create("s3://bucket/d/")).notes == ()


@on_trio
async def test_a_bucket_elsewhere_is_followed(tmp_path: Path, keys: None) -> None:
    with serving(tmp_path) as (place, server, stub):
        server.needs_signature = True

        def answer(asked: Asked) -> Reply:
            signature = asked.headers.get("authorization")
            if (asked.path == "/bucket" and asked.method == "HEAD") or (signature and "/eu-west-3/" not in signature):
                return error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
            return server(asked)

        stub.answer = answer
        await place.create("s3://bucket/d/", mode=Mode.NO_COPY)
        with await place.manifest() as manifest:
            assert manifest.info.bucket is not None
            assert manifest.info.bucket.region == "eu-west-3"


@on_trio
async def test_a_bucket_whose_readers_pay(tmp_path: Path, keys: None) -> None:
    with serving(tmp_path) as (place, server, stub):
        server.needs_signature = server.needs_payer = True
        with pytest.raises(AccessDenied, match="--requester-pays"):
            await place.create("s3://bucket/d/")
        stub.asked.clear()
        await place.create("s3://bucket/d/", requester_pays=True)
        assert await place.files() == hashed({key[2:]: content for key, content in CONTENT.items()})
        gets = [asked for asked in stub.asked if asked.method == "GET"]
        assert all(asked.headers.get("x-amz-request-payer") == "requester" for asked in gets)


@on_trio
async def test_a_bucket_that_may_be_read_but_not_listed(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.may_list = False
        with pytest.raises(AccessDenied, match=r"may not be listed.*a single object"):
            await place.create("s3://bucket/d/")
        await place.create("s3://bucket/d/a")
        assert await place.files() == hashed({"a": CONTENT["d/a"]})


@on_trio
async def test_a_bucket_that_may_be_listed_but_not_read(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.may_get = False
        for mode in Mode:
            with pytest.raises(AccessDenied, match="may be listed, but its objects not read"):
                await place.create("s3://bucket/d/", mode=mode)


@on_trio
async def test_credentials_that_expire_leave_nothing_out(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.refusals["d/b"] = error(400, "ExpiredToken")
        with pytest.raises(CredentialsRefused, match="the credentials have expired"):
            await place.create("s3://bucket/d/", skip_unreadable=True)
        assert await Catalog(place.store).names() == []
        server.refusals["d/b"] = error(403, "AccessDenied")
        result = await place.create("s3://bucket/d/", skip_unreadable=True)
        assert {problem.reason: problem.count for problem in result.problems} == {"unreadable": 1}


@on_trio
async def test_archived_objects_are_reported(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.storage_class = "DEEP_ARCHIVE"
        request = place.request("s3://bucket/d/")
        seen = await preview(request, StoreSettings(place.store.url), place.paths, Silent())
        assert (seen.files, [(p.reason, p.count) for p in seen.problems]) == (0, [("archived", 3)])
        with pytest.raises(GridfsError, match="3 archived"):
            await place.create("s3://bucket/d/")


@on_trio
async def test_trouble_on_the_way_changes_nothing(tmp_path: Path, private_dirs: Paths) -> None:
    broken = page(sorted(CONTENT))
    for trouble in (
        error(503, "SlowDown"),
        Reply(cut_after=-1),
        Reply(200, broken.body, cut_after=len(broken.body) // 2),
        Reply(200, broken.body[: len(broken.body) // 2]),
        Reply(200, broken.body.replace(b"</Key>", b"</Kay>", 1)),
        Reply(200, broken.body.replace(b"<Size>", b"<Size>many", 1)),
    ):
        with serving(tmp_path) as (place, server, _):
            server.page_size = 1
            server.failures = [trouble, trouble]
            await place.create("s3://bucket/d/")
            assert await place.files() == hashed({key[2:]: content for key, content in CONTENT.items()})


@on_trio
async def test_a_body_that_is_not_what_its_etag_says(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.bodies["d/b"] = ramp(70, 5)
        with pytest.raises(SourceProblem, match=r"b can't be read: its MD5"):
            await place.create("s3://bucket/d/")
        assert await Catalog(place.store).names() == []


@on_trio
async def test_a_server_that_lists_no_etags(tmp_path: Path, private_dirs: Paths) -> None:
    with serving(tmp_path) as (place, server, _):
        server.has_etags = False
        await place.create("s3://bucket/d/")
        assert await place.files() == hashed({key[2:]: content for key, content in CONTENT.items()})
        with pytest.raises(SourceProblem, match=r"d/.*no ETag.*leave out --no-copy"):
            await place.create("s3://bucket/d/", mode=Mode.NO_COPY)
        assert len(await Catalog(place.store).versions("set")) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, b"<html>a page of the web</html>"), StoreUnavailable),
        (Reply(400, b"<html>bad request</html>"), StoreRefused),
        (Reply(405, b""), StoreRefused),
    ],
)
@on_trio
async def test_an_endpoint_that_is_no_s3_server(
    reply: Reply, expected: type[GridfsError], tmp_path: Path, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridfs.store import s3_reach
    from gridfs.store.retry import RetryPolicy

    monkeypatch.setattr(s3_reach, "_PATIENCE", RetryPolicy(deadline_s=0.2))
    with stub_s3(lambda asked: reply) as stub:
        place = Place(tmp_path, private_dirs, stub.endpoint_url)
        with pytest.raises(expected):
            await place.create("s3://bucket/d/")
        assert await Catalog(place.store).names() == []
