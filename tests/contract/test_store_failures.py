"""What goes wrong between a bucket and its client, and what gridfs makes of it: never data, always the right class."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from gridfs.errors import (
    AccessDenied,
    CredentialsRefused,
    GridfsError,
    InvalidInput,
    NotFound,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StoreRefused,
    StoreUnavailable,
    StoreUnreachable,
    Unsupported,
)
from gridfs.model import ByteRange
from gridfs.store import objects_client
from gridfs.store.address import BucketAddress, StaticCredentials, is_addressable
from gridfs.store.objects import BucketStore
from gridfs.store.retry import RetryPolicy
from gridfs.store.s3 import AwsSession
from gridfs.store.s3_bucket import S3Bucket
from gridfs.store.stack import wrap_store
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.s3 import free_ports
from tests.support.stub_s3 import Answer, Asked, Reply, error, part_of, stub_s3

DATA = ramp(1 << 20)
HALF = len(DATA) // 2


def store_at(endpoint_url: str, *, requester_pays: bool = False) -> BucketStore:
    keys = StaticCredentials("key", "secret")
    return BucketStore(BucketAddress("bucket", "us-east-1", endpoint_url, keys, requester_pays))


ANSWERS: list[tuple[str, Answer, type[GridfsError], str]] = [
    ("404", lambda a: error(404, "NoSuchKey"), ObjectMissing, "bucket/k"),
    ("no bucket", lambda a: error(404, "NoSuchBucket"), NotFound, "there is no bucket"),
    ("403", lambda a: error(403, "AccessDenied"), AccessDenied, "access denied"),
    ("401", lambda a: error(401, "Unauthorized"), CredentialsRefused, "credentials"),
    ("bad key", lambda a: error(403, "InvalidAccessKeyId"), CredentialsRefused, "check the credentials"),
    ("clock", lambda a: error(403, "RequestTimeTooSkewed"), CredentialsRefused, "clock"),
    ("expired", lambda a: error(400, "ExpiredToken"), CredentialsRefused, "expired"),
    ("archived", lambda a: error(403, "InvalidObjectState"), AccessDenied, "archived"),
    ("412", lambda a: error(412, "PreconditionFailed"), ObjectChanged, "not the object"),
    ("416", lambda a: error(416, "InvalidRange"), StoreRefused, "shorter"),
    ("503", lambda a: error(503, "SlowDown"), StoreUnavailable, "SlowDown"),
    ("500", lambda a: error(500, "InternalError"), StoreUnavailable, "500"),
    ("429", lambda a: error(429, "TooManyRequests"), StoreUnavailable, "429"),
    ("501", lambda a: error(501, "NotImplemented"), StoreRefused, "not support"),
    ("400", lambda a: error(400, "InvalidRequest"), StoreRefused, "S3 server"),
    ("elsewhere", lambda a: error(301, "PermanentRedirect", x_amz_bucket_region="eu-1"), StoreRefused, "region"),
    ("malformed", lambda a: error(400, "AuthorizationHeaderMalformed"), StoreRefused, "region"),
    ("200", lambda a: Reply(200, DATA, {"ETag": '"stub"'}), StoreRefused, "whole object"),
    ("shorter", lambda a: part_of(DATA[:100], a), StoreRefused, "came instead"),
    ("no answer", lambda a: Reply(cut_after=-1), StoreUnavailable, "127.0.0.1"),
    ("cut", lambda a: part_of(DATA, a, cut_after=HALF), StoreUnavailable, "127.0.0.1"),
    ("stall", lambda a: part_of(DATA, a, stall_after=HALF), StoreUnavailable, "127.0.0.1"),
    ("silence", lambda a: Reply(stall_after=-1), StoreUnavailable, "127.0.0.1"),
    ("another generation", lambda a: part_of(DATA, a, etag='"new"'), ObjectChanged, "ETag"),
]


@on_trio
async def test_a_refused_object_is_named_as_it_is_in_the_bucket() -> None:
    """In whichever way it was asked for: into a buffer that is there, or not."""
    with stub_s3(lambda asked: error(404, "NoSuchKey")) as stub:
        keys = StaticCredentials("key", "secret")
        store = BucketStore(BucketAddress("bucket", "us-east-1", stub.endpoint_url, keys), "some/prefix/")
        for into in (memoryview(bytearray(len(DATA))), None):
            with pytest.raises(ObjectMissing, match=r"no object s3://bucket/some/prefix/k$"):
                await store.stream_range("k", ByteRange(0, len(DATA)), lambda chunk: None, into=into)
        await store.aclose()


@pytest.mark.parametrize(("answer", "expected", "words"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
@on_trio
async def test_a_read_that_fails_says_how(
    answer: Answer, expected: type[GridfsError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_client, "STALL_TIMEOUT_S", 0.3)
    delivered = bytearray()
    with stub_s3(answer) as stub:
        store = store_at(stub.endpoint_url)
        with pytest.raises(expected) as caught:
            await store.get_range("k", ByteRange(0, len(DATA)), if_match='"stub"')
        assert type(caught.value) is expected
        assert words in str(caught.value)
        with pytest.raises(expected):
            await store.stream_range("k", ByteRange(0, len(DATA)), delivered.extend, if_match='"stub"')
        await store.aclose()
        asked_by = Counter(asked.headers.get("user-agent") for asked in stub.asked)
        assert max(asked_by.values()) <= 2, "no client tries anything again"
        asked_anew = expected is CredentialsRefused  # by keys asked for anew, once
        assert len(stub.asked) == 2 + asked_anew or expected in (StoreRefused, ObjectChanged), "one says what is wrong"
    assert delivered == DATA[: len(delivered)]
    assert len(delivered) <= HALF


@on_trio
async def test_a_refused_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_url = f"http://127.0.0.1:{free_ports(1)}"
    store = store_at(endpoint_url)
    async with aclosing(S3Bucket(store.address)) as control:
        for call in (
            store.get("k"),
            store.put("k", b"x"),
            store.head("k"),
            store.delete("k"),
            store.list_directories(""),
            control.get("k"),
            control.list_page(""),
            AwsSession().bucket_region("b", endpoint_url=endpoint_url),
        ):
            with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1|can't be reached"):
                await call


@on_trio
async def test_a_server_that_hangs_up_is_there() -> None:
    with stub_s3(lambda asked: Reply(cut_after=-1)) as stub:
        store = store_at(stub.endpoint_url)
        async with aclosing(S3Bucket(store.address)) as control:
            for call in (store.get("k"), control.get("k")):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert type(caught.value) is StoreUnavailable


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error(412, "PreconditionFailed"), ObjectExists),
        (error(409, "ConditionalRequestConflict"), StoreUnavailable),
        (error(403, "AccessDenied"), AccessDenied),
        (error(404, "NoSuchBucket"), NotFound),
        (error(503, "SlowDown"), StoreUnavailable),
        (error(501, "NotImplemented"), StoreRefused),
        (Reply(cut_after=-1), StoreUnavailable),
    ],
)
@on_trio
async def test_a_create_only_put_that_fails_says_how(reply: Reply, expected: type[GridfsError]) -> None:
    with stub_s3(lambda asked: reply) as stub:
        with pytest.raises(expected) as caught:
            await store_at(stub.endpoint_url).put_if_absent("k", b"x")
        assert type(caught.value) is expected
        assert [asked.headers.get("if-none-match") for asked in stub.asked] == ["*"]


@on_trio
async def test_a_store_that_ignores_create_only_puts_is_refused() -> None:
    with stub_s3(lambda asked: Reply(headers={"ETag": '"x"'})) as stub:
        with pytest.raises(Unsupported, match="If-None-Match"):
            await store_at(stub.endpoint_url).verify_create_only()
        assert [asked.method for asked in stub.asked] == ["PUT", "PUT", "DELETE"]


@on_trio
async def test_the_rest_of_a_stream_is_fetched_once_more_and_nothing_twice() -> None:
    def answer(asked: Asked) -> Reply:
        return part_of(DATA, asked, cut_after=HALF) if len(stub.asked) == 1 else part_of(DATA, asked)

    received = bytearray()
    with stub_s3(answer) as stub:
        store = wrap_store(store_at(stub.endpoint_url), retry=RetryPolicy(first_pause_s=0.01))
        await store.stream_range("k", ByteRange(0, len(DATA)), received.extend)
        first, second = (asked.range() for asked in stub.asked)
    assert received == DATA
    assert first == (0, len(DATA))
    assert second[1] == len(DATA)
    assert 0 <= second[0] <= HALF


@on_trio
async def test_a_lost_answer_to_a_create_only_put_is_no_clash() -> None:
    stored: list[bytes] = []

    def answer(asked: Asked) -> Reply:
        if asked.method == "GET":
            return Reply(200, stored[0], {"ETag": '"1"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"})
        if stored:
            return error(412, "PreconditionFailed")
        stored.append(asked.body)
        return Reply(cut_after=-1)

    with stub_s3(answer) as stub:
        store = wrap_store(store_at(stub.endpoint_url), retry=RetryPolicy(first_pause_s=0.01))
        await store.put_if_absent("versions/1", b"ours")
        with pytest.raises(ObjectExists):
            await store.put_if_absent("versions/1", b"theirs")
    assert stored == [b"ours"]


@on_trio
async def test_who_pays_is_said_and_no_secret_is() -> None:
    with stub_s3(lambda asked: part_of(DATA, asked)) as stub:
        store = store_at(stub.endpoint_url, requester_pays=True)
        assert await store.get_range("k", ByteRange(1, 5)) == DATA[1:5]
        assert stub.asked[0].headers["x-amz-request-payer"] == "requester"
        assert "Credential=key/" in stub.asked[0].headers["authorization"]
        await store.aclose()
    assert "secret" not in repr(store.address)


@on_trio
async def test_the_environment_does_not_redirect_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with stub_s3(lambda asked: part_of(DATA, asked)) as stub:
        store = store_at(stub.endpoint_url)
        assert await store.get_range("k", ByteRange(0, 5)) == DATA[:5]
        assert "authorization" in stub.asked[0].headers
        await store.aclose()


@pytest.mark.parametrize("key", ["/a", "a/", "a//b", ".", "a/../b", "a\nb", "a\tb", "\x7f", "", "a/./b", "a\x00b"])
@on_trio
async def test_keys_that_the_client_would_bend_never_reach_it(key: str) -> None:
    assert not is_addressable(key)
    with stub_s3(lambda asked: part_of(DATA, asked)) as stub:
        with pytest.raises(InvalidInput, match="can't be addressed"):
            await store_at(stub.endpoint_url).get_range(key, ByteRange(0, 1))
        assert stub.asked == []


@on_trio
async def test_an_abandoned_read_holds_nobody_up() -> None:
    with stub_s3(lambda asked: part_of(DATA, asked, stall_after=HALF)) as stub:
        store = store_at(stub.endpoint_url)
        arrived = trio.Event()

        def deliver(chunk: memoryview) -> None:
            arrived.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.stream_range, "k", ByteRange(0, len(DATA)), deliver)
            nursery.start_soon(store.get_range, "k", ByteRange(0, len(DATA)))
            await arrived.wait()
            nursery.cancel_scope.cancel()


@on_trio
async def test_a_directory_that_may_not_be_used(tmp_path: Path) -> None:
    from gridfs.store.directory import DirectoryStore

    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file" / "store")
    with pytest.raises(GridfsError, match="file"):
        await store.put("k", b"x")
    assert await store.list_directories("") == []
