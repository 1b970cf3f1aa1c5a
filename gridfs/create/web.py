"""One resource over HTTP: its bytes from any position on, continued when the connection breaks.

Each (re)connection starts at the address that the user gave, follows at most MAX_REDIRECTS redirects itself (a signed
target may have expired meanwhile) and none from https to http. The first answer settles what the resource is: its
length and its validator (a strong ETag, else Last-Modified). A later one has to agree:

    206 with our validator, our range and our length     goes on (a length that was not said before is ours from now on)
    200 with our validator (the server has no ranges)    what was read already is read again and dropped
    anything else                                        the resource changed: SourceProblem, nothing is mixed

A connection that breaks, stalls or ends before the announced length is continued after a pause; only ATTEMPTS failures
in a row without a byte between them are given up. A server that says how long it wants to be left alone (Retry-After)
is, if that is bearable.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from gridfs import __version__
from gridfs.addresses import shown_url
from gridfs.errors import AccessDenied, GridfsError, NotFound, SourceProblem, StoreUnavailable

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS = 10
ATTEMPTS = 8
"""With pauses of 0.5 s doubled up to 30 s: about a minute and a half without a byte."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CONNECT_TIMEOUT_S, STALL_TIMEOUT_S = 10.0, 30.0
LONGEST_RETRY_AFTER_S = 300.0
"""Limits of requests are counted by the minute or by five; who says an hour has nothing for us today."""
CHUNK_SIZE_BYTES = 1 << 20

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent server is waited for."""

    attempts: int = ATTEMPTS
    first_pause_s: float = FIRST_PAUSE_S
    stall_timeout_s: float = STALL_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """What the first answer has settled."""

    size_bytes: int | None
    """None: the server did not say."""
    validator: str | None
    """A strong ETag or a Last-Modified; None: what breaks can't be continued."""
    has_ranges: bool
    content_type: str


class _Broken(Exception):
    """A connection ended early; worth another attempt, after *retry_after_s* where the server has said so."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HttpResource:
    """The resource at *url*; an async context manager that holds the connections."""

    def __init__(self, url: str, patience: Patience = Patience()) -> None:
        self.url = url
        self.label = shown_url(url)
        self._patience = patience
        self._stack = AsyncExitStack()
        self._client: httpx2.AsyncClient | None = None
        self._info: ResourceInfo | None = None

    async def __aenter__(self) -> Self:
        import httpx2

        headers = {"Accept-Encoding": "identity", "User-Agent": f"gridfs/{__version__}"}
        timeout = httpx2.Timeout(self._patience.stall_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._client = await self._stack.enter_async_context(
            httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=False)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._stack.aclose()

    @property
    def info(self) -> ResourceInfo:
        """Known once the first chunk has come."""
        assert self._info is not None
        return self._info

    async def chunks(self, start: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes from *start* on, in pieces of about CHUNK_SIZE_BYTES.

        Raises NotFound, AccessDenied, SourceProblem (it changed, it redirects badly), StoreUnavailable.
        """
        position, failures, pause_s = start, 0, self._patience.first_pause_s
        while True:
            try:
                async with aclosing(self._connection(position)) as connection:
                    async for chunk in connection:
                        position += len(chunk)
                        failures, pause_s = 0, self._patience.first_pause_s
                        yield chunk
                return
            except _Broken as error:
                failures += 1
                asked_s = error.retry_after_s
                if failures >= self._patience.attempts or asked_s > LONGEST_RETRY_AFTER_S:
                    raise self._gave_up(position, error) from error
                if position > 0 and self._info is not None and self._info.validator is None:
                    raise StoreUnavailable(
                        f"the connection to {self.label} broke at byte {position}, and the server gives neither an "
                        "ETag nor a date by which the rest could be told from another file's",
                        remedy="run the command again",
                    ) from error
            await trio.sleep(max(asked_s, pause_s * random.uniform(0.5, 1.0)))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _gave_up(self, position: int, error: _Broken) -> GridfsError:
        if self._info is None:
            return StoreUnavailable(
                f"{self.label} can't be reached: {error}",
                remedy="check the address and the network, or try again later",
            )
        size = self._info.size_bytes
        of = f" of {size}" if size is not None else ""
        return StoreUnavailable(
            f"{self.label} can't be read on from byte {position}{of}: {error}", remedy="try again later"
        )

    async def _connection(self, position: int) -> AsyncGenerator[bytes, None]:
        """What one connection gives from *position* on. Raises _Broken when it ends early."""
        import httpx2

        pieces: list[bytes] = []  # httpx gives 64 KiB at a time; what came before a break is not lost
        size = 0
        try:
            async with AsyncExitStack() as stack:
                response = await self._answer(stack, position)
                skip = self._judge(response, position)
                if skip is None:
                    return
                end = position - skip
                parts = await stack.enter_async_context(_unwound(response.aiter_raw()))
                async for piece in parts:
                    end += len(piece)
                    if skip:
                        skip, piece = max(0, skip - len(piece)), piece[skip:]
                    pieces.append(piece)
                    size += len(piece)
                    if size >= CHUNK_SIZE_BYTES:
                        chunk, size = b"".join(pieces), 0
                        pieces.clear()
                        yield chunk
                if pieces:
                    yield b"".join(pieces)
                    pieces.clear()
                if self.info.size_bytes is not None and end < self.info.size_bytes:
                    raise _Broken("the connection ended early")
        except (httpx2.TransportError, httpx2.InvalidURL, UnicodeError) as error:  # the last by a host like a..b
            if size:
                yield b"".join(pieces)
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> Exception:
        import httpx2

        if isinstance(error, httpx2.TimeoutException):
            return _Broken("the server is silent")
        if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | UnicodeError):
            return SourceProblem(f"{self.label} is no address, or redirects to none: {error}")
        return _Broken(str(error) or type(error).__name__)

    async def _answer(self, stack: AsyncExitStack, position: int) -> httpx2.Response:
        """The answer to a GET from *position* on, after redirects."""
        import httpx2

        assert self._client is not None
        headers = {}
        if position > 0 and self._info is not None:
            headers["Range"] = f"bytes={position}-"
            if self._info.validator is not None:
                headers["If-Range"] = self._info.validator
        url = httpx2.URL(self.url)
        for _ in range(MAX_REDIRECTS + 1):
            response = await stack.enter_async_context(self._client.stream("GET", url, headers=headers))
            if response.status_code not in _REDIRECTS:
                return response
            target = url.join(response.headers.get("Location", ""))
            if target.scheme not in ("http", "https"):
                raise SourceProblem(f"{self.label} redirects to {target.scheme}://, which is refused")
            if url.scheme == "https" and target.scheme == "http":
                raise SourceProblem(
                    f"{self.label} redirects from https to http, which is refused",
                    remedy="if you trust the network, give the http:// address itself",
                )
            url = target
        raise SourceProblem(f"{self.label} redirects more than {MAX_REDIRECTS} times")

    def _judge(self, response: httpx2.Response, position: int) -> int | None:
        """How many bytes of the answer to drop; None when there is nothing left to read."""
        status = response.status_code
        if status in (404, 410):
            raise NotFound(f"there is nothing at {self.label} ({status})", remedy="check the address")
        if status in (401, 403, 407):
            raise AccessDenied(
                f"{self.label} may not be read ({status})", remedy="check the address and its credentials"
            )
        if status == 416 and self._info is not None and position == self._info.size_bytes:
            return None
        if status in (408, 425, 429) or status >= 500:
            asked_s = _retry_after_s(response)
            told = f", and to come back in {asked_s:.0f} s" if asked_s else ""
            raise _Broken(f"the server answers {status}{told}", asked_s)
        if status not in (200, 206):
            raise SourceProblem(f"{self.label} answers {status}")
        seen = _info_of(response)
        if self._info is None:
            self._info = seen
            return 0
        if position == 0 and self._info.validator is None:
            self._info = seen
            return 0
        size_bytes = self._info.size_bytes if seen.size_bytes is None else seen.size_bytes
        if seen.validator != self._info.validator or self._info.size_bytes not in (None, size_bytes):
            raise SourceProblem(f"{self.label} changed while it was read", remedy="run the command again")
        self._info = replace(self._info, size_bytes=size_bytes)
        if status == 200:
            return position
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != position:
            raise SourceProblem(f"{self.label} answers with another range than was asked for")
        return 0


@asynccontextmanager
async def _unwound(parts: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """*parts*, with an orderly end when the rest of it is not wanted.

    httpx and httpcore nest several asynchronous generators and don't close the inner ones when the outermost is closed;
    trio warns of each. Cancelled while it waits for the network, every one of them ends by itself.
    """
    try:
        yield parts
    finally:
        with suppress(Exception), trio.CancelScope() as scope:
            scope.cancel()
            async for _ in parts:
                pass


def _retry_after_s(response: httpx2.Response) -> float:
    """How long the server wants to be left alone; 0 if it does not say. Of a date, by the server's own clock."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        if not text.endswith("GMT"):
            return max(0.0, float(int(text)))
        now = parsedate_to_datetime(response.headers["Date"])
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0.0


def _info_of(response: httpx2.Response) -> ResourceInfo:
    headers = response.headers
    size_bytes: int | None = None
    match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    if response.status_code == 206 and match is not None:
        size_bytes = None if match[3] == "*" else int(match[3])
    elif "Content-Length" in headers and "Transfer-Encoding" not in headers:
        size_bytes = int(headers["Content-Length"])
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    ranges = headers.get("Accept-Ranges", "").strip().lower() == "bytes" or response.status_code == 206
    return ResourceInfo(size_bytes, validator, ranges, headers.get("Content-Type", ""))
