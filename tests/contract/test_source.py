"""Every source keeps the promises of gridfs/create/source.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from gridfs.config import Paths, StoreSettings
from gridfs.create.opening import opened_source
from gridfs.create.request import CreateRequest
from gridfs.create.source import Found, ListedSource, Outcome, ReadInto, StreamedSource, Wanted
from gridfs.model import Kind, Problem
from tests.support.archives import member, tar_of, zip_of
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.web_server import Resource, web_server

FILES = {b"a": ramp(1000), b"d/b": ramp(300_000, 3), b"d/e/c": ramp(70_000, 5), b"empty": b""}


class Collected:
    """A Listing."""

    def __init__(self) -> None:
        self.found: dict[bytes, Found] = {}
        self.problems: list[Problem] = []

    def add(self, found: Found) -> None:
        self.found[found.path] = found

    def add_files(self, files: Sequence[Found]) -> None:
        for file in files:
            self.add(file)

    def add_problem(self, problem: Problem) -> None:
        self.problems.append(problem)

    @property
    def files(self) -> dict[bytes, Found]:
        return {path: found for path, found in self.found.items() if found.kind is Kind.FILE}


async def scanned(source: ListedSource) -> Collected:
    collected = Collected()
    await source.scan(collected)
    return collected


class Origin:
    """Where a listed source takes its files from, for the test to change."""

    def __init__(
        self,
        put: Callable[[bytes, bytes], None],
        remove: Callable[[bytes], None],
        opened: Callable[[], AbstractAsyncContextManager[ListedSource]],
    ) -> None:
        self.put, self.remove, self.opened = put, remove, opened


@pytest.fixture(params=["folder", "bucket"])
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """FILES in a source of each kind."""
    if request.param == "folder":
        paths: Paths = request.getfixturevalue("private_dirs")
        root = tmp_path / "folder"

        def put(path: bytes, content: bytes) -> None:
            file = root / path.decode()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

        made = Origin(put, lambda path: (root / path.decode()).unlink(), lambda: open_listed(asked, paths))
        asked = CreateRequest("set", str(root))
    else:
        server = request.getfixturevalue("s3_moto")
        paths = request.getfixturevalue("private_dirs")
        client = server.client()
        url = f"s3://{server.bucket}/data/"
        settings = StoreSettings(url, endpoint_url=server.endpoint_url, region=server.region)
        asked = CreateRequest("set", url, source_settings=settings)

        def put(path: bytes, content: bytes) -> None:
            client.put_object(Bucket=server.bucket, Key=f"data/{path.decode()}", Body=content)

        def remove(path: bytes) -> None:
            client.delete_object(Bucket=server.bucket, Key=f"data/{path.decode()}")

        made = Origin(put, remove, lambda: open_listed(asked, paths))
    for path, content in FILES.items():
        made.put(path, content)
    return made


@asynccontextmanager
async def open_listed(request: CreateRequest, paths: Paths) -> AsyncIterator[ListedSource]:
    async with opened_source(request, StoreSettings("file:///nowhere"), paths) as (source, _):
        assert not isinstance(source, StreamedSource)
        yield source


async def read(source: ListedSource, file: Found, start: int = 0, size: int | None = None) -> tuple[Outcome, bytes]:
    buffer = memoryview(bytearray(file.size - start if size is None else size))
    (reading,) = await source.read([Wanted(file, start, buffer)])
    return reading.outcome, bytes(buffer)


@on_trio
async def test_a_scan_names_all_files_and_can_be_repeated(origin: Origin) -> None:
    async with origin.opened() as source:
        first, second = await scanned(source), await scanned(source)
        assert first.found == second.found
        assert {path: found.size for path, found in first.files.items()} == {p: len(c) for p, c in FILES.items()}
        assert all(found.stamp for found in first.files.values())
        assert first.problems == []


@on_trio
async def test_contents_come_in_the_order_of_the_question(origin: Origin) -> None:
    async with origin.opened() as source:
        files = (await scanned(source)).files
        paths = [b"d/e/c", b"a", b"d/b"]
        buffers = [memoryview(bytearray(files[path].size)) for path in paths]
        readings = await source.read([Wanted(files[p], 0, b) for p, b in zip(paths, buffers, strict=True)])
        assert [reading.outcome for reading in readings] == [Outcome.READ] * 3
        assert [bytes(buffer) for buffer in buffers] == [FILES[path] for path in paths]


@on_trio
async def test_any_range_of_a_file_can_be_read_at_the_same_time_as_others(origin: Origin) -> None:
    async with origin.opened() as source:
        file = (await scanned(source)).files[b"d/b"]
        results: dict[int, tuple[Outcome, bytes]] = {}

        async def one(start: int) -> None:
            results[start] = await read(source, file, start, 50_000)

        async with trio.open_nursery() as nursery:
            for start in range(0, 250_001, 50_000):
                nursery.start_soon(one, start)
        assert results == {
            start: (Outcome.READ, FILES[b"d/b"][start : start + 50_000]) for start in range(0, 250_001, 50_000)
        }


@on_trio
async def test_another_generation_is_changed_and_can_be_looked_at_again(origin: Origin) -> None:
    async with origin.opened() as source:
        files = (await scanned(source)).files
        origin.put(b"d/b", ramp(300_000, 9))
        outcome, _ = await read(source, files[b"d/b"])
        assert outcome is Outcome.CHANGED
        assert (await read(source, files[b"a"]))[0] is Outcome.READ
        again = await source.look_again(files[b"d/b"])
        assert again is not None
        assert again.stamp != files[b"d/b"].stamp
        assert await read(source, again) == (Outcome.READ, ramp(300_000, 9))


@on_trio
async def test_what_is_gone_is_unreadable_and_disturbs_no_other(origin: Origin) -> None:
    async with origin.opened() as source:
        files = (await scanned(source)).files
        origin.remove(b"a")
        buffers = [memoryview(bytearray(files[path].size)) for path in (b"a", b"d/b")]
        readings = await source.read([Wanted(files[b"a"], 0, buffers[0]), Wanted(files[b"d/b"], 0, buffers[1])])
        assert [reading.outcome for reading in readings] == [Outcome.UNREADABLE, Outcome.READ]
        assert readings[0].detail
        assert await source.look_again(files[b"a"]) is None


class Arrived:
    """An Arrivals."""

    def __init__(self, refuse: bytes | None = None) -> None:
        self.entries: dict[bytes, Found] = {}
        self.contents: dict[bytes, bytes] = {}
        self._refuse = refuse

    def entry(self, found: Found) -> None:
        self.entries[found.path] = found

    def file(self, found: Found, read_into: ReadInto) -> None:
        if found.path == self._refuse:
            raise Refused(found.path)
        self.entries[found.path] = found
        content, piece = bytearray(), memoryview(bytearray(7777))
        while count := read_into(piece):
            content += piece[:count]
        assert read_into(piece) == 0, "the end stays the end"
        self.contents[found.path] = bytes(content)

    def add_problem(self, problem: Problem) -> None:
        raise AssertionError(problem)


class Refused(Exception):
    """What the taker of a stream raises."""


KINDS = ["tar over HTTP", "zip by ranges", "zip by a spool file", "local tar", "local zip"]


@pytest.fixture(params=KINDS)
def streamed(request: pytest.FixtureRequest, tmp_path: Path, private_dirs: Paths) -> Iterator[CreateRequest]:
    """FILES in an archive of each kind."""
    members = [(path.decode(), content) for path, content in FILES.items()]
    is_tar = "tar" in request.param
    content = tar_of(*((member(name), data) for name, data in members)) if is_tar else zip_of(*members)
    if "local" in request.param:
        (tmp_path / "archive").write_bytes(content)
        yield CreateRequest("set", str(tmp_path / "archive"), extract=True)
        return
    with web_server() as server:
        resource = Resource(content, ranges="spool" not in request.param)
        yield CreateRequest("set", server.serve("/archive", resource))


@on_trio
async def test_a_stream_brings_everything_and_can_be_repeated(streamed: CreateRequest, private_dirs: Paths) -> None:
    async with opened_source(streamed, StoreSettings("file:///nowhere"), private_dirs) as (source, _):
        assert isinstance(source, StreamedSource)
        for _ in range(2):
            arrived = Arrived()
            await source.stream(arrived)
            assert arrived.contents == FILES
            assert {path: arrived.entries[path].size for path in FILES} == {p: len(c) for p, c in FILES.items()}


@on_trio
async def test_what_the_taker_raises_ends_the_stream_and_is_raised(
    streamed: CreateRequest, private_dirs: Paths
) -> None:
    async with opened_source(streamed, StoreSettings("file:///nowhere"), private_dirs) as (source, _):
        assert isinstance(source, StreamedSource)
        arrived = Arrived(refuse=b"d/e/c")
        with pytest.RaisesGroup(Refused) if "http" in streamed.source else pytest.raises(Refused):
            await source.stream(arrived)
        assert b"empty" not in arrived.contents


@on_trio
async def test_a_cancelled_stream_ends(streamed: CreateRequest, private_dirs: Paths) -> None:
    class Cancelling(Arrived):
        def file(self, found: Found, read_into: ReadInto) -> None:
            trio.from_thread.run_sync(scope.cancel)
            trio.from_thread.check_cancelled()

    async with opened_source(streamed, StoreSettings("file:///nowhere"), private_dirs) as (source, _):
        assert isinstance(source, StreamedSource)
        with trio.CancelScope() as scope:
            await source.stream(Cancelling())
        assert scope.cancelled_caught
