"""What gridfs/store/base.py promises, on every store there is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
import trio

from gridfs.errors import InvalidInput, ObjectChanged, ObjectExists, ObjectMissing, StoreRefused, StoreUnavailable
from gridfs.model import Buffer, ByteRange
from gridfs.store.base import ObjectStore
from tests.contract.conftest import MakeStore
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.s3 import S3Server

MIB = 1 << 20

ODD_NAMES = ["a b", "a+b", "a%20b", "%", "ä€😀", "a'b\"c", "a#b?c&d=e", "a\\b", "~a", "a:b;c@d", "-", "a.b.", "..."]
ODD_NAMES += ["{[<^|`>]}", "a*b!$(),", " leading and trailing "]


async def in_chunks(data: bytes, size_bytes: int) -> AsyncIterator[Buffer]:
    for start in range(0, len(data), size_bytes):
        yield data[start : start + size_bytes]


async def streamed(store: ObjectStore, key: str, byte_range: ByteRange, if_match: str | None = None) -> bytes:
    received = bytearray()
    await store.stream_range(key, byte_range, received.extend, if_match=if_match)
    return bytes(received)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 700_001), (1, 2), (699_999, 700_001), (250, 600_000)])
@on_trio
async def test_a_range_is_exactly_its_bytes(make_store: MakeStore, start: int, stop: int) -> None:
    store = make_store()
    await store.put("objects/ab/one", ramp(700_001))
    view = await store.get_range("objects/ab/one", ByteRange(start, stop))
    assert view.readonly
    assert view.format == "B"
    assert view == ramp(stop - start, start)
    assert await streamed(store, "objects/ab/one", ByteRange(start, stop)) == ramp(stop - start, start)
    await store.aclose()


@on_trio
async def test_a_large_object_comes_and_goes_in_bounded_pieces(make_store: MakeStore) -> None:
    store, size_bytes = make_store(), 72 * MIB + 7  # more than a pack
    piece = ramp(251 * 4096)
    assert len(piece) % 251 == 0

    async def body() -> AsyncIterator[Buffer]:
        for start in range(0, size_bytes, len(piece)):
            yield memoryview(piece)[: min(len(piece), size_bytes - start)]

    assert await store.put_stream("large", body(), size_hint_bytes=size_bytes) == size_bytes
    assert (await store.head("large")).size_bytes == size_bytes
    expected, received = hashlib.sha256(), hashlib.sha256()
    async for chunk in body():
        expected.update(chunk)
    largest = 0

    def deliver(chunk: memoryview) -> None:
        nonlocal largest
        largest = max(largest, chunk.nbytes)
        received.update(chunk)

    for start in range(0, size_bytes, 8 * MIB):
        await store.stream_range("large", ByteRange(start, min(start + 8 * MIB, size_bytes)), deliver)
    assert received.hexdigest() == expected.hexdigest()
    assert largest < 4 * MIB
    assert await store.get_range("large", ByteRange(50 * MIB, 51 * MIB)) == ramp(MIB, 50 * MIB)
    await store.delete("large")
    await store.aclose()


@pytest.mark.parametrize("size_bytes", [0, 1, 5 * MIB, 8 * MIB, 8 * MIB + 1, 20 * MIB])
@on_trio
async def test_a_stream_of_any_size_becomes_one_object(make_store: MakeStore, size_bytes: int) -> None:
    store = make_store()
    data = ramp(size_bytes)
    assert await store.put_stream("streamed", in_chunks(data, MIB + 13)) == size_bytes
    assert await store.get("streamed") == data
    await store.aclose()


@on_trio
async def test_a_stream_that_fails_leaves_no_object(make_store: MakeStore) -> None:
    class SourceFailedError(Exception):
        pass

    async def failing(after: int) -> AsyncIterator[Buffer]:
        for _ in range(after):
            yield ramp(MIB)
        raise SourceFailedError

    store = make_store()
    for after in (0, 1, 12):
        with pytest.raises(SourceFailedError):
            await store.put_stream("broken", failing(after))
    assert [head async for head in store.list("")] == []
    await store.aclose()


@on_trio
async def test_a_cancelled_stream_leaves_no_object(make_store: MakeStore) -> None:
    store = make_store()

    async def endless(scope: trio.CancelScope) -> AsyncIterator[Buffer]:
        for _ in range(10):
            yield ramp(MIB)
        scope.cancel()
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        await store.put_stream("cancelled", endless(scope))
    assert scope.cancelled_caught
    assert [head async for head in store.list("")] == []
    await store.aclose()


@on_trio
async def test_what_is_not_there_is_missing(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("a/b", b"x")
    for key in ("nothing", "a", "a/b/c", "a/bb"):
        with pytest.raises(ObjectMissing):
            await store.get_range(key, ByteRange(0, 1))
        with pytest.raises(ObjectMissing):
            await streamed(store, key, ByteRange(0, 1))
        with pytest.raises(ObjectMissing):
            await store.get(key)
        with pytest.raises(ObjectMissing):
            await store.head(key)
        await store.delete(key)
    assert await store.get("a/b") == b"x"
    await store.aclose()


@on_trio
async def test_bytes_beyond_the_end_are_never_invented(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("short", ramp(100))
    for byte_range in (ByteRange(50, 101), ByteRange(100, 101), ByteRange(5000, 6000)):
        with pytest.raises(StoreRefused):
            await store.get_range("short", byte_range)
        with pytest.raises(StoreRefused):
            await streamed(store, "short", byte_range)
    await store.aclose()


@on_trio
async def test_an_etag_pins_a_generation(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("pinned", ramp(1000))
    etag = (await store.head("pinned")).etag
    assert etag is not None
    assert await store.get_range("pinned", ByteRange(1, 999), if_match=etag) == ramp(998, 1)
    assert await streamed(store, "pinned", ByteRange(1, 999), etag) == ramp(998, 1)
    await store.put("pinned", ramp(1000, 1))
    with pytest.raises(ObjectChanged):
        await store.get_range("pinned", ByteRange(1, 999), if_match=etag)
    with pytest.raises(ObjectChanged):
        await streamed(store, "pinned", ByteRange(1, 999), etag)
    assert await store.get("pinned") == ramp(1000, 1)
    await store.aclose()


@on_trio
async def test_of_many_creators_one_wins(make_store: MakeStore) -> None:
    store = make_store()
    results: list[int] = []

    async def create(number: int) -> None:
        try:
            await store.put_if_absent("versions/00000001.json", b"%d" % number)
        except ObjectExists:
            return
        except StoreUnavailable:  # AWS and Ceph may say 409 while the other put is under way; nothing was written then
            return
        results.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(create, number)
    assert len(results) == 1
    assert await store.get("versions/00000001.json") == b"%d" % results[0]
    with pytest.raises(ObjectExists):
        await store.put_if_absent("versions/00000001.json", b"late")
    await store.aclose()


@on_trio
async def test_create_only_is_verified_and_nothing_stays(make_store: MakeStore) -> None:
    store = make_store()
    await store.verify_create_only()
    assert [head.key async for head in store.list("")] == []
    await store.aclose()


@on_trio
async def test_listing_by_any_prefix(make_store: MakeStore) -> None:
    store = make_store()
    keys = ["a/1", "a/2/x", "a/20", "ab/1", "b", "a-b/1"]
    for number, key in enumerate(keys):
        await store.put(key, ramp(number))
    for prefix in ("", "a", "a/", "a/2", "a/2/", "ab", "b", "c", "c/d/"):
        heads = {head.key: head async for head in store.list(prefix)}
        assert sorted(heads) == sorted(key for key in keys if key.startswith(prefix)), prefix
        assert all(heads[key].size_bytes == keys.index(key) for key in heads)
    assert (await store.head("a/20")).etag == heads.get("a/20", await store.head("a/20")).etag
    assert list(await store.list_directories("")) == ["a", "a-b", "ab"]
    assert list(await store.list_directories("a/")) == ["2"]
    assert list(await store.list_directories("nothing/")) == []
    for key in keys:
        await store.delete(key)
        await store.delete(key)
    assert list(await store.list_directories("")) == []
    await store.aclose()


@pytest.fixture
def keys_of_pages(make_store: MakeStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that take three pages of a listing: 1000 a page, and 100 of moto's, which needs 3 ms to put one."""
    if request.node.callspec.params["make_store"] == "moto":
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")
        return [f"many/{number:05}" for number in range(210)]
    return [f"many/{number:05}" for number in range(2100)]


@on_trio
async def test_a_listing_of_several_pages(
    make_store: MakeStore, keys_of_pages: list[str], request: pytest.FixtureRequest
) -> None:
    store, keys = make_store(), keys_of_pages

    async def put_every(start: int) -> None:
        for key in keys[start::16]:
            await store.put(key, b"x")

    async with trio.open_nursery() as nursery:
        for start in range(16):
            nursery.start_soon(put_every, start)
    assert sorted([head.key async for head in store.list("many/")]) == keys
    await store.aclose()
    if (kind := request.node.callspec.params["make_store"]) in ("moto", "ceph"):
        s3: S3Server = request.getfixturevalue(f"s3_{kind}")
        assert s3.client().list_objects_v2(Bucket=s3.bucket)["KeyCount"] * 2 < len(keys)


@on_trio
async def test_names_survive(make_store: MakeStore) -> None:
    store = make_store()
    for number, name in enumerate(ODD_NAMES):
        await store.put(f"odd/{name}/{name}", ramp(50, number))
    for number, name in enumerate(ODD_NAMES):
        assert await store.get_range(f"odd/{name}/{name}", ByteRange(0, 50)) == ramp(50, number), name
    assert sorted([head.key async for head in store.list("odd/")]) == sorted(f"odd/{n}/{n}" for n in ODD_NAMES)
    assert list(await store.list_directories("odd/")) == sorted(ODD_NAMES)
    await store.aclose()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a/./b"])
@on_trio
async def test_keys_that_name_something_else_are_refused(make_store: MakeStore, key: str) -> None:
    store = make_store()
    if store.url == "simulated://":
        return  # a table of keys has no paths to confuse
    for call in (store.get(key), store.put(key, b""), store.delete(key), store.get_range(key, ByteRange(0, 1))):
        with pytest.raises(InvalidInput):
            await call
    await store.aclose()


@on_trio
async def test_modified_times_are_the_stores(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("first", b"1")
    head = await store.head("first")
    listed = [listed async for listed in store.list("first")]
    assert listed == [head]
    assert head.last_modified_ns > 0
    await store.sync()
    await store.aclose()


@on_trio
async def test_a_failing_receiver_ends_the_stream(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("streamed", ramp(6 * MIB))

    class EnoughError(Exception):
        pass

    received = bytearray()

    def deliver(chunk: memoryview) -> None:
        received.extend(chunk)
        raise EnoughError

    with pytest.raises(EnoughError):
        await store.stream_range("streamed", ByteRange(0, 6 * MIB), deliver)
    assert received == ramp(len(received))
    assert len(received) < 6 * MIB
    assert await store.get_range("streamed", ByteRange(0, 10)) == ramp(10)
    await store.aclose()


@on_trio
async def test_many_readers_at_once(make_store: MakeStore) -> None:
    store = make_store()
    await store.put("shared", ramp(3 * MIB))

    async def read(number: int) -> None:
        start = number * 40_001
        assert await store.get_range("shared", ByteRange(start, start + 100_000)) == ramp(100_000, start)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(read, number)
    await store.aclose()
