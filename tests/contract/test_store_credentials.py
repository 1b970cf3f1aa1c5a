"""Who a store is to its server: keys of the environment, a profile, an assumed role, credentials that expire."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gridfs.config import AwsEnvironment, StoreSettings
from gridfs.errors import AccessDenied, CredentialsRefused, InvalidInput, StoreUnavailable, Unsupported
from gridfs.model import ByteRange
from gridfs.store import s3
from gridfs.store.address import BucketAddress, ProvidedCredentials
from gridfs.store.base import ignore
from gridfs.store.objects import BucketStore
from gridfs.store.stack import directory_of, open_store, parse_bucket_url
from gridfs.store.wire import Wire
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.s3 import S3Server
from tests.support.stub_s3 import Asked, Reply, error, part_of, stub_s3

DATA = ramp(1000)


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)


async def write_and_read(settings: StoreSettings) -> None:
    store = await open_store(settings)
    await store.put("key", DATA)
    assert await store.get_range("key", ByteRange(5, 900)) == DATA[5:900]
    await store.put_if_absent("once", b"x")
    await store.verify_create_only()
    await store.aclose()


@on_trio
async def test_keys_of_the_environment_need_no_aiobotocore(s3_moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gridfs.store.s3", None)
    await write_and_read(StoreSettings(s3_moto.store_url(), s3_moto.endpoint_url))


@on_trio
async def test_a_profile(s3_moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    directory = Path.home() / ".aws"
    directory.mkdir()
    (directory / "credentials").write_text(
        f"[lab]\naws_access_key_id = {s3_moto.access_key}\naws_secret_access_key = {s3_moto.secret_key}\n"
    )
    await write_and_read(StoreSettings(s3_moto.store_url(), s3_moto.endpoint_url, profile="lab"))
    with pytest.raises(InvalidInput, match="nosuch"):
        await open_store(StoreSettings(s3_moto.store_url(), s3_moto.endpoint_url, profile="nosuch"))


@on_trio
async def test_an_assumed_role(s3_moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    directory = Path.home() / ".aws"
    directory.mkdir()
    (directory / "credentials").write_text(
        f"[lab]\naws_access_key_id = {s3_moto.access_key}\naws_secret_access_key = {s3_moto.secret_key}\n"
    )
    (directory / "config").write_text(
        "[profile reader]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = lab\nregion = us-east-1\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_moto.endpoint_url)
    await write_and_read(StoreSettings(s3_moto.store_url(), s3_moto.endpoint_url, profile="reader"))


@on_trio
async def test_credentials_of_a_process_are_renewed(private_dirs: object, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    (home / ".aws").mkdir()
    script = home / "credentials.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        "soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat()\n"
        f"calls = pathlib.Path({str(home / 'calls')!r})\n"
        "number = len(calls.read_text()) + 1 if calls.exists() else 1\n"
        "calls.write_text('x' * number)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'key{number}', 'SecretAccessKey': 's', 'SessionToken': 't',"
        " 'Expiration': soon if number < 3 else '2999-01-01T00:00:00Z'}))\n"
    )
    program = f"{sys.executable} {script}"
    (home / ".aws/config").write_text(f"[profile p]\ncredential_process = {program}\nregion = us-east-1\n")
    monkeypatch.setattr(s3, "_ASK_AGAIN_AFTER", s3.timedelta(0))
    with stub_s3(lambda asked: part_of(DATA, asked)) as stub:
        store = await open_store(StoreSettings("s3://bucket/store", stub.endpoint_url, profile="p"))
        for _ in range(4):
            assert await store.get_range("k", ByteRange(0, 10)) == DATA[:10]
        await store.aclose()
        used = [asked.headers["authorization"].partition("Credential=")[2].partition("/")[0] for asked in stub.asked]
    assert used[0] == "key2"  # those that expire within 10 minutes are renewed before they are used
    assert used[-1] == "key3"
    assert all(asked.headers["x-amz-security-token"] == "t" for asked in stub.asked)


@pytest.mark.parametrize(
    "helper", ["/no/such/helper", "echo nonsense", "false"], ids=["missing", "talks nonsense", "fails"]
)
@on_trio
async def test_a_process_that_has_no_credentials(private_dirs: object, helper: str) -> None:
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws/config").write_text(f"[profile p]\ncredential_process = {helper}\nregion = us-east-1\n")
    with pytest.raises(AccessDenied, match="--profile"):
        await open_store(StoreSettings("s3://bucket/store", "http://127.0.0.1:9", profile="p"))


@on_trio
async def test_credentials_that_are_renewed_and_still_expired() -> None:
    class Stale:
        async def get_frozen_credentials(self) -> None:
            raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")

    provider = s3.CredentialProvider(s3.AwsSession(), Stale(), trio.lowlevel.current_trio_token())
    with pytest.raises(AccessDenied, match="still expired"):
        await provider.current()


@on_trio
async def test_nobody_waits_for_a_helper_that_hangs() -> None:
    ended = trio.Event()

    class Hanging:
        async def get_frozen_credentials(self) -> None:
            try:
                with trio.move_on_after(5):
                    await trio.sleep_forever()
            finally:
                ended.set()
            raise OSError("the helper was given up")

    provider = s3.CredentialProvider(s3.AwsSession(), Hanging(), trio.lowlevel.current_trio_token())
    wire = Wire(BucketAddress("bucket", "us-east-1", "http://127.0.0.1:9", provider))
    with trio.move_on_after(0.05) as scope:
        await wire.read_into("k", ByteRange(0, 10), memoryview(bytearray(10)), ignore, if_match=None)
    assert scope.cancelled_caught
    assert ended.is_set()


def provider_of(asked: list[int]) -> Callable[[], ProvidedCredentials]:
    """key1, key2, ...: as `expires_at` says, each is good for longer than a test."""

    def provide() -> ProvidedCredentials:
        asked.append(len(asked) + 1)
        ends = datetime.now(UTC) + timedelta(hours=1)
        return {"access_key_id": f"key{asked[-1]}", "secret_access_key": "s", "token": None, "expires_at": ends}

    return provide


@pytest.mark.parametrize(("status", "code"), [(403, "RequestTimeTooSkewed"), (400, "ExpiredToken")])
@on_trio
async def test_a_machine_that_has_slept_asks_for_keys_and_signs_anew(status: int, code: str) -> None:
    """The server takes no more what was signed with the first key."""
    has_slept = False

    def answer(asked: Asked) -> Reply:
        is_old = "Credential=key1/" in asked.headers["authorization"]
        return error(status, code) if has_slept and is_old else part_of(DATA, asked)

    calls: list[int] = []
    with stub_s3(answer) as stub:
        store = BucketStore(BucketAddress("bucket", "us-east-1", stub.endpoint_url, provider_of(calls)))
        assert await store.get_range("k", ByteRange(0, 10)) == DATA[:10]
        has_slept = True
        for _ in range(2):
            assert await store.get_range("k", ByteRange(0, 10)) == DATA[:10]
        assert (len(calls), len(stub.asked)) == (2, 4)
        await store.aclose()


@on_trio
async def test_keys_that_are_refused_are_asked_for_anew_once() -> None:
    calls: list[int] = []
    with stub_s3(lambda asked: error(400, "ExpiredToken")) as stub:
        store = BucketStore(BucketAddress("bucket", "us-east-1", stub.endpoint_url, provider_of(calls)))
        with pytest.raises(CredentialsRefused):
            await store.get_range("k", ByteRange(0, 10))
        assert (len(calls), len(stub.asked)) == (2, 2)
        await store.aclose()
        unsigned = BucketStore(BucketAddress("bucket", "us-east-1", stub.endpoint_url))
        with pytest.raises(CredentialsRefused):
            await unsigned.get_range("k", ByteRange(0, 10))
        assert len(stub.asked) == 3
        await unsigned.aclose()


@on_trio
async def test_no_credentials_at_all(private_dirs: object) -> None:
    with pytest.raises(AccessDenied, match="--no-sign-request"):
        await open_store(StoreSettings("s3://bucket/store", "http://127.0.0.1:9"))
    store = await open_store(StoreSettings("s3://bucket/store", "http://127.0.0.1:9", sign=False))
    await store.aclose()


@on_trio
async def test_wrong_credentials(s3_ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = await open_store(StoreSettings(s3_ceph.store_url(), s3_ceph.endpoint_url))
    for call in (store.list_directories(""), store.put("k", b"x"), store.put_if_absent("k", b"x"), store.get("k")):
        with pytest.raises(AccessDenied, match="check the credentials"):
            await call
    await store.aclose()


@on_trio
async def test_the_region_of_a_bucket_that_is_not_named(private_dirs: object) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(301, b"", {"x-amz-bucket-region": "ap-south-1"})

    with stub_s3(answer) as stub:
        assert await s3.AwsSession().bucket_region("bucket", endpoint_url=stub.endpoint_url) == "ap-south-1"
    with stub_s3(lambda asked: Reply(403)) as stub:
        assert await s3.AwsSession().bucket_region("bucket", endpoint_url=stub.endpoint_url) is None
    with stub_s3(lambda asked: Reply(503)) as stub, pytest.raises(StoreUnavailable):
        await s3.AwsSession().bucket_region("bucket", endpoint_url=stub.endpoint_url)


def test_the_aws_environment() -> None:
    variables = {"AWS_ENDPOINT_URL": "http://a", "AWS_DEFAULT_REGION": "r1", "AWS_ACCESS_KEY_ID": "k"}
    assert AwsEnvironment.from_environment(variables) == AwsEnvironment("http://a", "r1", "k")
    variables |= {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_REGION": "r2", "AWS_EC2_METADATA_DISABLED": "True"}
    assert AwsEnvironment.from_environment(variables) == AwsEnvironment("http://b", "r2", "k", has_metadata=False)
    assert "hidden" not in repr(AwsEnvironment.from_environment({"AWS_SECRET_ACCESS_KEY": "hidden"}))


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://b", "s3://a b/c", "http://bucket/x", "bucket"])
def test_what_names_no_bucket(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_bucket_url(url)


def test_addresses() -> None:
    assert parse_bucket_url("S3://My.Bucket_1/a//b%20/") == parse_bucket_url("s3://My.Bucket_1/a//b%20/")
    assert parse_bucket_url("s3://bucket").prefix == ""
    assert directory_of("file:///a%20b") == Path("/a b")
    assert directory_of("/a%20b") == Path("/a%20b")
    for wrong in ("relative", "file://host/x", "file:relative"):
        with pytest.raises(InvalidInput):
            directory_of(wrong)


@on_trio
async def test_stores_that_are_not_supported() -> None:
    for url in ("gs://bucket/x", "az://bucket/x"):
        with pytest.raises(Unsupported, match="s3://"):
            await open_store(StoreSettings(url), aws=AwsEnvironment())


def test_a_store_with_keys_imports_no_aiobotocore() -> None:
    program = (
        "import sys, trio\nfrom gridfs.config import AwsEnvironment, StoreSettings\n"
        "from gridfs.store.stack import open_store\n"
        "async def main():\n"
        "    aws = AwsEnvironment(access_key_id='k', secret_access_key='s')\n"
        "    settings = StoreSettings('s3://bucket/store', 'http://127.0.0.1:9')\n"
        "    await (await open_store(settings, aws=aws)).aclose()\n"
        "trio.run(main)\n"
        "assert not {'aiobotocore', 'botocore', 'httpx2'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
