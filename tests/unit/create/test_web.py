"""A resource over HTTP, from servers that break, stall, redirect and lie (create/web.py, create/remote_file.py)."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import aclosing

import pytest
import trio
import trio.testing

from gridfs.create.remote_file import RemoteFile, opened
from gridfs.create.web import MAX_REDIRECTS, HttpResource, Patience
from gridfs.errors import AccessDenied, NotFound, SourceProblem, StoreUnavailable
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.web_server import Resource, Server, web_server

PATIENCE = Patience(attempts=3, first_pause_s=0.001, stall_timeout_s=0.2)
CONTENT = ramp(3_000_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as server:
        yield server


async def read(url: str, start: int = 0) -> bytes:
    async with HttpResource(url, PATIENCE) as resource:
        return b"".join([chunk async for chunk in resource.chunks(start)])


@on_trio
async def test_a_whole_resource(server: Server) -> None:
    resource = Resource(CONTENT)
    assert await read(server.serve("/a", resource)) == CONTENT
    assert len(resource.requests) == 1
    assert resource.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("chunked", [False, True])
@on_trio
async def test_a_broken_connection_is_continued_where_it_broke(server: Server, chunked: bool) -> None:
    resource = Resource(CONTENT, break_after=[1_000_000, 500_000], chunked=chunked)
    if chunked:
        resource.break_after.clear()  # an end of the connection is then the end
    assert await read(server.serve("/a", resource)) == CONTENT
    if not chunked:
        assert [request.get("Range") for request in resource.requests] == [None, "bytes=1000000-", "bytes=1500000-"]
        assert resource.requests[1]["If-Range"] == '"v1"'


@on_trio
async def test_a_length_that_only_a_later_answer_says_is_no_change(server: Server) -> None:
    """A cache sends on what it does not have yet by chunks, and what it has by ranges."""
    resource = Resource(CONTENT, chunked=True, stall_after=[1_000_000])
    assert await read(server.serve("/a", resource)) == CONTENT
    assert [request.get("Range") for request in resource.requests] == [None, "bytes=1000000-"]


@on_trio
async def test_a_date_serves_as_validator(server: Server) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    resource = Resource(CONTENT, etag=None, last_modified=date, break_after=[1_000_000])
    assert await read(server.serve("/a", resource)) == CONTENT
    assert resource.requests[1]["If-Range"] == date


@on_trio
async def test_without_a_validator_nothing_is_continued(server: Server) -> None:
    resource = Resource(CONTENT, etag=None, break_after=[1_000_000])
    with pytest.raises(StoreUnavailable, match=r"broke at byte 1000000.*neither an ETag"):
        await read(server.serve("/a", resource))


@on_trio
async def test_a_server_without_ranges_is_read_again_from_the_beginning(server: Server) -> None:
    resource = Resource(CONTENT, ranges=False, break_after=[1_234_567])
    assert await read(server.serve("/a", resource)) == CONTENT


@on_trio
async def test_a_silent_server_is_left_and_asked_again(server: Server) -> None:
    resource = Resource(CONTENT, stall_after=[1_000_000, 0])
    assert await read(server.serve("/a", resource)) == CONTENT
    assert len(resource.requests) == 3


@on_trio
async def test_attempts_without_a_byte_are_limited(server: Server) -> None:
    resource = Resource(CONTENT, break_after=[1_000_000, 0, 0, 0, 0])
    with pytest.raises(StoreUnavailable, match="can't be read on from byte 1000000 of 3000000"):
        await read(server.serve("/a", resource))
    assert len(resource.requests) == 1 + 3 - 1


@pytest.mark.parametrize("ranges", [False, True])
@on_trio
async def test_two_generations_are_never_mixed(server: Server, ranges: bool) -> None:
    resource = Resource(CONTENT, ranges=ranges, break_after=[1_000_000], changes_to=ramp(3_000_000, 7))
    with pytest.raises(SourceProblem, match="changed while it was read"):
        await read(server.serve("/a", resource))


@on_trio
async def test_a_body_longer_than_announced_ends_where_it_was_announced(server: Server) -> None:
    assert await read(server.serve("/a", Resource(CONTENT, announced=1000))) == CONTENT[:1000]


@on_trio
async def test_a_body_shorter_than_announced_is_an_error(server: Server) -> None:
    with pytest.raises((StoreUnavailable, SourceProblem), match=r"/a "):
        await read(server.serve("/a", Resource(CONTENT, announced=4_000_000)))


@on_trio
async def test_throttling_and_failures_of_the_server_are_tried_again(server: Server) -> None:
    assert await read(server.serve("/a", Resource(CONTENT, statuses=[503, 429]))) == CONTENT


@pytest.mark.parametrize("said", ["90", "Thu, 31 Dec 2099 23:59:59 GMT"])
@on_trio
async def test_a_server_that_wants_to_be_left_alone_is(
    server: Server, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio, "sleep", pause)
    resource = Resource(CONTENT, statuses=[503, 429], retry_after=said)
    if said == "90":
        assert await read(server.serve("/a", resource)) == CONTENT
        assert pauses == [90.0, 90.0]
    else:  # for ever
        with pytest.raises(StoreUnavailable, match=r"answers 503, and to come back in \d+ s"):
            await read(server.serve("/a", resource))
        assert pauses == []


@on_trio
async def test_what_is_no_time_to_come_back_is_not_waited_for(server: Server) -> None:
    for said in ("soon", "-5", "31 Foo GMT", ""):
        assert await read(server.serve("/a", Resource(CONTENT, statuses=[503], retry_after=said))) == CONTENT


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (403, AccessDenied), (401, AccessDenied), (400, SourceProblem)]
)
@on_trio
async def test_answers_that_no_repetition_changes(server: Server, status: int, error: type[Exception]) -> None:
    resource = Resource(CONTENT, statuses=[status])
    with pytest.raises(error, match="/a"):
        await read(server.serve("/a", resource))
    assert len(resource.requests) == 1


@on_trio
async def test_redirects_are_followed_to_a_limit(server: Server) -> None:
    for number in range(MAX_REDIRECTS):
        server.serve(f"/{number}", Resource(redirect=f"{server.address}/{number + 1}"))
    server.serve(f"/{MAX_REDIRECTS}", Resource(CONTENT, break_after=[1_000_000]))
    assert await read(server.address + "/0") == CONTENT
    server.serve("/again", Resource(redirect="/0"))
    with pytest.raises(SourceProblem, match="redirects more than 10 times"):
        await read(server.address + "/again")


@on_trio
async def test_a_redirect_to_another_scheme_is_refused(server: Server) -> None:
    with pytest.raises(SourceProblem, match="redirects to file://"):
        await read(server.serve("/a", Resource(redirect="file:///etc/passwd")))


@pytest.mark.parametrize("target", ["http://a..b/", "http://host:port/", "http://[::1/"])
@on_trio
async def test_a_redirect_to_what_is_no_address_is_refused(server: Server, target: str) -> None:
    with pytest.raises(SourceProblem, match="/a is no address, or redirects to none"):
        await read(server.serve("/a", Resource(redirect=target)))


@on_trio
async def test_a_redirect_from_https_to_http_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(302, headers={"Location": "http://example.org/a"})

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with HttpResource("https://example.org/a", PATIENCE) as resource, client:
        resource._client = client
        with pytest.raises(SourceProblem, match="redirects from https to http"):
            await anext(resource.chunks())


@on_trio
async def test_a_server_that_is_not_there(server: Server) -> None:
    with pytest.raises(StoreUnavailable, match="can't be reached"):
        await read("http://127.0.0.1:1/a")


@on_trio
async def test_a_reading_that_is_abandoned_ends_in_order(server: Server) -> None:
    """A regression: generators inside of httpx were left to the garbage collector, of which trio warns."""
    url = server.serve("/a", Resource(ramp(12_000_000)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with HttpResource(url, PATIENCE) as resource, aclosing(resource.chunks()) as chunks:
            await anext(chunks)
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
    assert [str(warning.message) for warning in warned] == []


@on_trio
async def test_a_file_that_seeks(server: Server) -> None:
    content = ramp(12_000_000)
    resource = Resource(content)
    url = server.serve("/a", resource)

    def use(file: RemoteFile) -> None:
        assert file.read(10) == content[:10]
        assert file.seekable()
        assert file.seek(-20, 2) == len(content) - 20
        assert file.read(100) == content[-20:]
        assert file.read(1) == b""
        assert file.seek(5) == 5
        assert file.read(1_500_000) == content[5:1_500_005]
        assert file.seek(100, 1) == 1_500_105 == file.tell()
        assert file.read() == content[1_500_105:]
        file.seek(0, 2)
        assert file.read() == b""

    async with opened(HttpResource(url, PATIENCE)) as file:
        await trio.to_thread.run_sync(use, file)
    ranges = [request.get("Range") for request in resource.requests]
    assert ranges == [None, "bytes=11999980-", "bytes=5-"], "a short skip reads on"


@on_trio
async def test_what_fails_in_the_pump_is_raised_as_itself(server: Server) -> None:
    url = server.serve("/a", Resource(CONTENT, etag=None, break_after=[1_500_000]))
    with pytest.raises(StoreUnavailable, match="neither an ETag"):
        async with opened(HttpResource(url, PATIENCE)) as file:
            await trio.to_thread.run_sync(file.read)
