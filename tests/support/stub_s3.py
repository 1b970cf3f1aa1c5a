"""An HTTP server that answers as a test says: for what neither moto nor Ceph does.

The test gives a function from a request to a reply; requests are kept for its assertions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

LAST_MODIFIED = "Sun, 22 Nov 2026 10:00:00 GMT"


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    """Decoded: `/bucket/key`."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def range(self) -> tuple[int, int]:
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """The connection ends after so many bytes of the body (-1: before anything was answered)."""
    stall_after: int | None = None
    """Nothing more comes after so many bytes, until the server stops (-1: not even the status)."""


Answer = Callable[[Asked], Reply]


def error(status: int, code: str, message: str = "says the stub", **headers: str) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/xml"} | named)


def part_of(data: bytes, asked: Asked, *, etag: str = '"stub"', **shape: int) -> Reply:
    """A 206 with the range that was asked for, or a 200 with everything."""
    headers = {"ETag": etag, "Last-Modified": LAST_MODIFIED}
    if "range" not in asked.headers:
        return Reply(200, data, headers, shape.get("cut_after"), shape.get("stall_after"))
    start, stop = asked.range()
    stop = min(stop, len(data))
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Reply(206, data[start:stop], headers, shape.get("cut_after"), shape.get("stall_after"))


class StubS3:
    """The running server."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                asked = Asked(self.command, unquote(parts.path, errors="surrogateescape"), query, headers, body)
                stub.asked.append(asked)
                reply = stub.answer(asked)
                try:
                    self._send(reply)
                except OSError:
                    self.close_connection = True

            def _send(self, reply: Reply) -> None:
                if reply.stall_after == -1:
                    stub.stopping.wait()
                if reply.cut_after == -1 or reply.stall_after == -1:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                ends = reply.cut_after if reply.cut_after is not None else reply.stall_after
                self.wfile.write(reply.body[:ends])
                if reply.stall_after is not None:
                    stub.stopping.wait()
                if ends is not None:
                    self.close_connection = True

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815 - names of the standard library

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False  # a client may keep its connection open
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def stub_s3(answer: Answer) -> Iterator[StubS3]:
    stub = StubS3(answer)
    try:
        yield stub
    finally:
        stub.stop()
