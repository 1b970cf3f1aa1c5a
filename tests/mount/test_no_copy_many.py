"""200,000 objects, listed and mounted where they lie."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from gridfs.config import StoreSettings
from gridfs.create.creation import create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.model import Mode, Version
from gridfs.store.stack import open_store
from tests.mount.stage import Stage
from tests.support.data import ramp
from tests.support.stub_s3 import LAST_MODIFIED, Asked, Reply, error, part_of, stub_s3

COUNT = 200_000
SIZE = 3000
KEYS = [f"set/n{number // 500:04}/img_{number:07}.jpg" for number in range(COUNT)]
ITEM = (
    "<Contents><Key>{}</Key><LastModified>2026-11-22T10:00:00.000Z</LastModified><ETag>&quot;e{}&quot;</ETag>"
    f"<Size>{SIZE}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
ITEMS = [ITEM.format(quote(key), number) for number, key in enumerate(KEYS)]


def answer(asked: Asked) -> Reply:
    """A bucket whose object number n is a ramp that begins at n."""
    key = asked.path.removeprefix("/bucket").removeprefix("/")
    if "list-type" in asked.query:
        start = max(bisect_left(KEYS, asked.query["prefix"]), bisect_right(KEYS, asked.query.get("start-after", "")))
        end = min(start + int(asked.query["max-keys"]), COUNT)
        truncated = str(end < COUNT).lower()
        listed = "".join(ITEMS[start:end])
        body = f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>{listed}"
        return Reply(200, f"{body}</ListBucketResult>".encode())
    if not key:
        return Reply(200)
    number = bisect_left(KEYS, key)
    if KEYS[number : number + 1] != [key]:
        return error(404, "NoSuchKey")
    if asked.method == "HEAD":
        return Reply(200, ramp(SIZE, number), {"ETag": f'"e{number}"', "Last-Modified": LAST_MODIFIED})
    return part_of(ramp(SIZE, number), asked, etag=f'"e{number}"')


@pytest.mark.long
def test_two_hundred_thousand_objects(staged: Stage, tmp_path: Path) -> None:
    with stub_s3(answer) as stub:

        async def make() -> Version:
            store = await open_store(staged.store)
            try:
                settings = StoreSettings("s3://bucket/set/", stub.endpoint_url)
                request = CreateRequest("set", "s3://bucket/set/", Mode.NO_COPY, source_settings=settings)
                return (await create_datastore(request, store, staged.paths, Silent())).version
            finally:
                await store.aclose()

        version = trio.run(make)
        assert version.file_count == COUNT
        assert version.total_bytes == COUNT * SIZE
        pages = [asked for asked in stub.asked if "list-type" in asked.query]
        assert len(pages) < 4 * COUNT / 1000
        root = staged.mount(version, tmp_path / "mount")
        found = sorted(
            os.path.relpath(os.path.join(directory, name), root)
            for directory, _, names in os.walk(root)
            for name in names
        )
        assert found == [key.removeprefix("set/") for key in KEYS]
        for number in range(0, COUNT, 1999):
            path = root / KEYS[number].removeprefix("set/")
            assert path.stat().st_size == SIZE
            assert path.read_bytes() == ramp(SIZE, number)
        staged.unmount(root)
