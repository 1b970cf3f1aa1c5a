"""The two clients of a bucket promise the same: obstore, and aiobotocore for the keys that obstore can't name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

import pytest

from gridfs.errors import GridfsError, ObjectChanged, ObjectMissing, StoreRefused, StoreUnavailable
from gridfs.model import ByteRange
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import Deliver, ObjectHead
from gridfs.store.objects import BucketStore
from gridfs.store.passthrough import PassthroughStore
from gridfs.store.s3_bucket import S3Bucket
from tests.contract.conftest import address_of
from tests.contract.test_store_failures import ANSWERS, DATA, HALF
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.s3 import S3Server
from tests.support.stub_s3 import Answer, part_of, stub_s3


class Reads(Protocol):
    """What both can do."""

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview: ...
    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None: ...
    async def get(self, key: str) -> memoryview: ...
    async def head(self, key: str) -> ObjectHead: ...
    async def aclose(self) -> None: ...


CLIENTS: dict[str, Callable[[BucketAddress], Reads]] = {
    "obstore": BucketStore,
    "aiobotocore": S3Bucket,
    "both": lambda address: PassthroughStore(BucketStore(address)),
}
SERVERS = ["s3_moto", pytest.param("s3_ceph", marks=pytest.mark.ceph)]
KEYS = ["plain", "a b/c+d%20e", "ü/€😀", "x?y#z&w=1", "quote'\"<>"]
CONTROL_KEYS = ["line\nbreak", "tab\there/\x01\x02", "\x7f", "a\r\nb/c"]


@asynccontextmanager
async def opened(name: str, address: BucketAddress) -> AsyncIterator[Reads]:
    async with aclosing(CLIENTS[name](address)) as client:
        yield client


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", CLIENTS)
@on_trio
async def test_reading_is_the_same(name: str, server: str, request: pytest.FixtureRequest) -> None:
    s3: S3Server = request.getfixturevalue(server)
    for number, key in enumerate(KEYS):
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=ramp(700_000, number))
    async with opened(name, address_of(s3)) as client:
        for number, key in enumerate(KEYS):
            await check_reading(client, key, number)
        for missing in ("nothing", "plain/x"):
            with pytest.raises(ObjectMissing):
                await client.get_range(missing, ByteRange(0, 1))
            with pytest.raises(ObjectMissing):
                await client.head(missing)
            with pytest.raises(ObjectMissing):
                await client.get(missing)


@pytest.mark.ceph
@pytest.mark.parametrize("name", ["aiobotocore", "both"])
@on_trio
async def test_keys_with_control_characters(name: str, s3_ceph: S3Server) -> None:
    for number, key in enumerate(CONTROL_KEYS):
        s3_ceph.client().put_object(Bucket=s3_ceph.bucket, Key=key, Body=ramp(700_000, number))
    async with opened(name, address_of(s3_ceph)) as client:
        for number, key in enumerate(CONTROL_KEYS):
            await check_reading(client, key, number)
        with pytest.raises(ObjectMissing):
            await client.get("no\nsuch")


async def check_reading(client: Reads, key: str, number: int) -> None:
    """Every way of reading a ramp of 700,000 bytes that begins at *number*, and that its ETag pins it."""
    head = await client.head(key)
    assert (head.key, head.size_bytes) == (key, 700_000)
    assert head.etag is not None
    for byte_range in (ByteRange(0, 1), ByteRange(1, 699_999), ByteRange(699_999, 700_000)):
        expected = ramp(byte_range.size_bytes, number + byte_range.start)
        received = bytearray()
        assert await client.get_range(key, byte_range) == expected
        await client.stream_range(key, byte_range, received.extend, if_match=head.etag)
        assert received == expected
    assert await client.get(key) == ramp(700_000, number)
    with pytest.raises(ObjectChanged):
        await client.get_range(key, ByteRange(0, 5), if_match='"another"')
    for beyond in (ByteRange(600_000, 700_001), ByteRange(700_000, 700_001)):
        with pytest.raises(StoreRefused):
            await client.get_range(key, beyond)


@pytest.mark.parametrize(
    ("answer", "expected"),
    # A server that is silent for good is a matter of timeouts, and of the clients' own settings of them.
    [a[1:3] for a in ANSWERS if a[0] not in ("stall", "silence")],
    ids=[a[0] for a in ANSWERS if a[0] not in ("stall", "silence")],
)
@on_trio
async def test_failures_are_the_same(answer: Answer, expected: type[GridfsError]) -> None:
    received = bytearray()
    with stub_s3(answer) as stub:
        address = BucketAddress("bucket", "us-east-1", stub.endpoint_url, StaticCredentials("key", "secret"))
        async with opened("aiobotocore", address) as client:
            with pytest.raises(expected) as caught:
                await client.stream_range("k", ByteRange(0, len(DATA)), received.extend, if_match='"stub"')
            assert type(caught.value) is expected
    assert received == DATA[: len(received)]
    assert len(received) <= HALF


@on_trio
async def test_a_store_that_can_name_all_its_keys_does_without_aiobotocore(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gridfs.store.s3_bucket", None)
    with stub_s3(lambda asked: part_of(DATA, asked)) as stub:
        store = PassthroughStore(BucketStore(BucketAddress("bucket", "us-east-1", stub.endpoint_url)))
        assert await store.get_range("plain", ByteRange(0, 5)) == DATA[:5]
        with pytest.raises(ImportError):
            await store.get_range("not\nplain", ByteRange(0, 5))
        await store.aclose()


@on_trio
async def test_a_stall_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridfs.store import s3

    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 0.3)
    with stub_s3(lambda asked: part_of(DATA, asked, stall_after=HALF)) as stub:
        address = BucketAddress("bucket", "us-east-1", stub.endpoint_url)
        async with opened("aiobotocore", address) as client:
            with pytest.raises(StoreUnavailable):
                await client.get_range("k", ByteRange(0, len(DATA)))
