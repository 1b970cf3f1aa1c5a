"""A small HTTP server of the tests that can break, stall, redirect, and lie."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """What one path answers, and how badly."""

    content: bytes = b""
    ranges: bool = True
    etag: str | None = '"v1"'
    last_modified: str | None = None
    break_after: list[int] = field(default_factory=list)
    """Of each connection in turn: bytes of the body after which it is cut; those that follow are whole."""
    stall_after: list[int] = field(default_factory=list)
    """As break_after, but the connection stays open and says nothing."""
    announced: int | None = None
    """A Content-Length other than the true one."""
    chunked: bool = False
    """No Content-Length: the end is the end of the connection."""
    redirect: str | None = None
    statuses: list[int] = field(default_factory=list)
    """Of each request in turn, before anything else."""
    retry_after: str | None = None
    """Said with each of the *statuses*."""
    changes_to: bytes | None = None
    """What the content is from the second request on, under another ETag."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Headers of what was asked."""


class Server:
    """A running server; resources may be added and changed at any time."""

    def __init__(self, address: str, released: threading.Event) -> None:
        self.address = address
        self.resources: dict[str, Resource] = {}
        self.released = released
        """Set at the end: who stalls goes home."""
        self.stalled = threading.Event()
        """Set when somebody stalls."""

    def serve(self, path: str, resource: Resource) -> str:
        """Adds *resource*; its URL."""
        self.resources[path] = resource
        return self.address + path


@contextmanager
def web_server() -> Iterator[Server]:
    """A server on loopback."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}", released)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        released.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    resource = server.resources.get(handler.path.partition("?")[0])
    if resource is None:
        handler.send_error(404)
        return
    resource.requests.append(dict(handler.headers))
    if resource.statuses:
        handler.send_response(resource.statuses.pop(0))
        if resource.retry_after is not None:
            handler.send_header("Retry-After", resource.retry_after)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if resource.redirect is not None:
        handler.send_response(302)
        handler.send_header("Location", resource.redirect)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if resource.changes_to is not None and len(resource.requests) > 1:
        resource.content, resource.etag, resource.changes_to = resource.changes_to, '"v2"', None
    body, start = resource.content, 0
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    condition = handler.headers.get("If-Range")
    if wanted and resource.ranges and condition in (None, resource.etag, resource.last_modified):
        start = int(wanted[1])
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        total = resource.announced or len(body)
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    else:
        handler.send_response(200)
    if resource.ranges:
        handler.send_header("Accept-Ranges", "bytes")
    if resource.etag is not None:
        handler.send_header("ETag", resource.etag)
    if resource.last_modified is not None:
        handler.send_header("Last-Modified", resource.last_modified)
    if not resource.chunked:
        handler.send_header("Content-Length", str((resource.announced or len(body)) - start))
    handler.send_header("Connection", "close")
    handler.close_connection = True
    handler.end_headers()
    cut = resource.break_after.pop(0) if resource.break_after else None
    stall = resource.stall_after.pop(0) if resource.stall_after else None
    limit = cut if cut is not None else stall
    try:
        handler.wfile.write(body[start:] if limit is None else body[start : start + limit])
        handler.wfile.flush()
        if stall is not None:
            server.stalled.set()
            server.released.wait()
    except OSError:  # the reader has gone
        pass
