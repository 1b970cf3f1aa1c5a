"""A mounted no-copy version while its bucket changes: the bytes that were listed, or an errno, never others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from gridfs.config import StoreSettings
from gridfs.create.creation import create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.model import Mode, Version
from gridfs.store.stack import open_store
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp
from tests.support.s3 import S3Server
from tests.support.stub_s3 import LAST_MODIFIED, Asked, Reply, error, part_of, stub_s3

LARGE = 20 << 20
"""More than what is fetched ahead of a first read."""
SERVERS = ["s3_moto", pytest.param("s3_ceph", marks=pytest.mark.ceph)]


@pytest.fixture(params=SERVERS)
def bucket(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


def no_copy_version(staged: Stage, bucket: S3Server, name: str = "set") -> Version:
    async def work() -> Version:
        store = await open_store(staged.store)
        try:
            source = f"s3://{bucket.bucket}/data/"
            settings = StoreSettings(source, bucket.endpoint_url)
            request = CreateRequest(name, source, Mode.NO_COPY, source_settings=settings)
            return (await create_datastore(request, store, staged.paths, Silent())).version
        finally:
            await store.aclose()

    return trio.run(work)


def put(bucket: S3Server, key: str, content: bytes) -> None:
    bucket.client().put_object(Bucket=bucket.bucket, Key=f"data/{key}", Body=content)


def read(path: Path, size: int, offset: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def refused(path: Path, size: int, offset: int) -> int:
    with pytest.raises(OSError) as caught:
        read(path, size, offset)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize("mode", ["veil", "asked"])
def test_what_lies_in_the_bucket_is_what_is_read(mode: str, bucket: S3Server, staged: Stage, tmp_path: Path) -> None:
    files = {f"dir{number % 7}/file{number} +%20ü": ramp(110_000 + number, number) for number in range(60)}
    files |= {"large": ramp(LARGE), "empty": b"", "one": b"1"}
    for key, content in files.items():
        put(bucket, key, content)
    root = staged.mount(no_copy_version(staged, bucket), tmp_path / "mount", MODES[mode])
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found == files


def test_a_changing_bucket(bucket: S3Server, staged: Stage, tmp_path: Path) -> None:
    staged.expects_incidents = True
    for key in ("replaced", "deleted", "same", "shrunk"):
        put(bucket, key, ramp(LARGE))
    version = no_copy_version(staged, bucket)
    root = staged.mount(version, tmp_path / "mount", MODES["bare"])
    for key in ("replaced", "deleted", "same", "shrunk"):
        assert read(root / key, 1000, 10) == ramp(1000, 10)

    put(bucket, "replaced", ramp(LARGE, 100))
    put(bucket, "shrunk", ramp(5000))
    put(bucket, "same", ramp(LARGE))  # the same bytes have the same ETag: they are the object that was listed
    put(bucket, "added", b"new")
    bucket.client().delete_object(Bucket=bucket.bucket, Key="data/deleted")

    far = LARGE - 5000
    assert refused(root / "replaced", 1000, far) == errno.ESTALE
    assert refused(root / "shrunk", 1000, far) == errno.ESTALE
    assert refused(root / "deleted", 1000, far) == errno.EIO
    assert read(root / "same", 1000, far) == ramp(1000, far)
    for key in ("replaced", "deleted", "shrunk"):  # what was read before is still right
        assert read(root / key, 1000, 10) == ramp(1000, 10)
    assert sorted(os.listdir(root)) == ["deleted", "replaced", "same", "shrunk"]
    assert (root / "replaced").stat().st_size == LARGE

    (status,) = staged.statuses()
    assert status.detail is not None
    told = {incident["kind"]: incident["message"] for incident in status.detail["incidents"]}
    assert set(told) == {"ObjectChanged", "ObjectMissing"}
    assert "data/shrunk is not the object it was" in told["ObjectChanged"]  # the last; earlier ones are in its count
    assert "data/deleted" in told["ObjectMissing"]

    second = no_copy_version(staged, bucket)
    assert second.version == version.version + 1
    fresh = staged.mount(second, tmp_path / "second", MODES["bare"])
    assert (fresh / "replaced").read_bytes() == ramp(LARGE, 100)
    assert (fresh / "shrunk").read_bytes() == ramp(5000)
    assert (fresh / "added").read_bytes() == b"new"
    assert sorted(os.listdir(fresh)) == ["added", "replaced", "same", "shrunk"]


REFUSALS = {"denied": "AccessDenied", "archived": "InvalidObjectState"}


class Guarded:
    """A public bucket that comes to refuse what REFUSALS has, which neither moto nor Ceph can be made to."""

    def __init__(self) -> None:
        self.content = {f"data/{key}": ramp(LARGE) for key in (*REFUSALS, "open")}
        self.refuses = False

    def __call__(self, asked: Asked) -> Reply:
        key = asked.path.removeprefix("/bucket").removeprefix("/")
        if "list-type" in asked.query:
            return self._list()
        if not key:
            return Reply()
        if self.refuses and (code := REFUSALS.get(key.removeprefix("data/"))):
            return error(403, code)
        if asked.method == "HEAD":
            return Reply(200, self.content[key], {"ETag": '"stub"', "Last-Modified": LAST_MODIFIED})
        return part_of(self.content[key], asked)

    def _list(self) -> Reply:
        items = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-22T10:00:00.000Z</LastModified><ETag>&quot;stub&quot;</ETag>"
            f"<Size>{LARGE}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in sorted(self.content)
        )
        return Reply(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode())


def test_an_object_that_may_not_be_read_any_more(staged: Stage, tmp_path: Path) -> None:
    staged.expects_incidents = True
    guarded = Guarded()
    with stub_s3(guarded) as stub:
        version = no_copy_version(staged, S3Server(stub.endpoint_url, "", "", "bucket"))
        root = staged.mount(version, tmp_path / "mount", MODES["bare"])
        guarded.refuses = True
        for key in REFUSALS:
            assert refused(root / key, 1000, 0) == errno.EACCES
            assert refused(root / key, 1000, LARGE - 5000) == errno.EACCES
            assert (root / key).stat().st_size == LARGE
        assert read(root / "open", 1000, 10) == ramp(1000, 10)

        (status,) = staged.statuses()
        assert status.detail is not None
        told = {incident["kind"]: incident["message"] for incident in status.detail["incidents"]}
        assert set(told) == {"AccessDenied"}
        assert "bucket/data/archived is archived" in told["AccessDenied"]
        logs = [path.read_text() for path in staged.paths.state.rglob("*.log")]
        assert any("data/denied: access denied" in log for log in logs)
        staged.unmount(root)


@pytest.mark.ceph
def test_names_that_obstore_can_not_say(s3_ceph: S3Server, staged: Stage, tmp_path: Path) -> None:
    files = {"line\nbreak": ramp(300_000), "dir\x01/tab\there": ramp(110_000, 3), "plain": ramp(99)}
    for key, content in files.items():
        put(s3_ceph, key, content)
    root = staged.mount(no_copy_version(staged, s3_ceph), tmp_path / "mount")
    for key, content in files.items():
        assert (root / key).read_bytes() == content
