"""One request for a range, and its answer, on a connection that may be used again.

    send        the request, in one piece
    receive     the head into a scratch of 4 KiB; the body into the reader's buffer, as the kernel has it
    answer      only what is exactly right counts: 206, the range, the length, the ETag, no encoding; 200 and the length
                where a whole object was asked for without a range

A refusal is `Refused`, with what the server said. A server that is silent or gone in mid-answer is `Broken`: what came
is right, and a retry goes on from there. Any other answer is `Unanswered`. A connection whose answer was not read to
its end must be closed.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from gridfs.model import ByteRange, WholeObject
from gridfs.store import objects_client
from gridfs.store.base import Deliver

_T = TypeVar("_T")

_HEAD_BYTES = 4096
_REFUSAL_BYTES = 64 << 10
_RECEIVE_BYTES = 1 << 20
"""At once: the first blocks of a part are handed over, and verified, while the rest of it comes."""
_LOW_WATER_BYTES = 256 << 10
"""The kernel wakes us when so much of a body is there: a wake-up costs 30 us, as much as 200 KiB of copying."""

_HEAD = re.compile(rb"HTTP/1\.1 206[ \r]")
_WHOLE_HEAD = re.compile(rb"HTTP/1\.1 200[ \r]")
_REFUSAL = re.compile(rb"HTTP/1\.1 ([45]\d\d)[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
_RANGE = re.compile(rb"\r\ncontent-range: *bytes (\d+)-(\d+)/", re.IGNORECASE)
_ETAG = re.compile(rb"\r\netag: *([^\r]*?) *\r\n", re.IGNORECASE)
_ENCODED = re.compile(rb"\r\n(?:transfer|content)-encoding:", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Unanswered(Exception):
    """Nothing was delivered, and this read has to be asked for in another way; the message says why, for the log."""


class Refused(Exception):
    """The server has answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


class Broken(Exception):
    """The server was asked and failed; trying again may help. What was delivered before is right."""


class Stale(Exception):
    """The server had closed the connection before this request."""


class Connection:
    """One socket, used for one exchange at a time."""

    def __init__(self, raw: socket.socket) -> None:
        self._socket = raw
        self._encrypted = isinstance(raw, ssl.SSLSocket)
        self._low_water = 1
        self.idle_since_s = 0.0

    def close(self) -> None:
        self._socket.close()

    def send_nowait(self, request: bytes) -> bool:
        """Whether all of *request* could be sent without waiting; if not, the connection must be closed."""
        try:
            return self._socket.send(request) == len(request)
        except OSError:
            return False

    async def exchange(
        self, request: bytes, byte_range: ByteRange, buffer: memoryview, deliver: Deliver, if_match: str | None
    ) -> bool:
        """Sends, and receives the body into *buffer*; whether the connection may be used again.

        An empty *request*: what asks for this was sent before.

        Raises Refused, Unanswered, Broken (also when nothing came for STALL_TIMEOUT_S), Stale, OSError.
        """
        with _patience():
            sent = 0
            while sent < len(request):
                sent += await when_ready(self._socket, lambda: self._socket.send(request[sent:]))  # noqa: B023
            head, body = await self._head()
            if (refusal := _REFUSAL.match(head)) is not None:
                raise Refused(int(refusal[1]), await self._rest(head, body))
        reusable = _checked(head, byte_range, if_match)
        if len(body) > buffer.nbytes:
            raise Unanswered("more came than the body")
        buffer[: len(body)] = body
        if body:
            deliver(buffer[: len(body)])
        await self._body(buffer, len(body), deliver)
        return reusable

    async def _body(self, buffer: memoryview, arrived: int, deliver: Deliver) -> None:
        """Receives what of *buffer* has not *arrived*."""
        low_water = _LOW_WATER_BYTES
        while arrived < buffer.nbytes:
            count = -1
            with trio.move_on_after(objects_client.STALL_TIMEOUT_S):
                count = await self._receive(buffer[arrived : arrived + _RECEIVE_BYTES], low_water)
            if not count:
                raise Broken(f"the connection ended after {arrived} bytes")
            if count > 0:
                deliver(buffer[arrived : arrived + count])
                arrived += count
            elif low_water > 1 and self._has_bytes():
                low_water = 1  # less came than wakes us: this server is slow; silent if the next wait is in vain
            else:
                raise _silence()

    async def _head(self) -> tuple[bytes, bytes]:
        """Status line and headers with the line ends around them, and what of the body came along."""
        received = b""
        self._wake_at(1)
        await trio.lowlevel.wait_readable(self._socket)  # trying first would be in vain
        while True:
            scratch = bytearray(_HEAD_BYTES)
            try:
                count = await when_ready(self._socket, lambda: self._socket.recv_into(scratch))  # noqa: B023
            except ConnectionError as error:
                raise (Broken(str(error)) if received else Stale) from error
            if not count:
                raise Broken("the connection ended in a head") if received else Stale
            received += scratch[:count]
            head, end, body = received.partition(b"\r\n\r\n")
            if end:
                return head + b"\r\n", body
            if len(received) > 4 * _HEAD_BYTES:
                raise Unanswered("a head without an end")

    async def _rest(self, head: bytes, body: bytes) -> bytes:
        """The body of a refusal."""
        length = _LENGTH.search(head)
        if length is None or int(length[1]) > _REFUSAL_BYTES or _ENCODED.search(head) or _CLOSES.search(head):
            raise Unanswered("a refusal that is not understood")
        if len(body) > int(length[1]):
            raise Unanswered("more came than the refusal")
        received = bytearray(int(length[1]))
        view, filled = memoryview(received), len(body)
        received[:filled] = body
        while filled < len(received):
            count = await self._receive(view[filled:])
            if not count:
                raise Broken("the connection ended in a refusal")
            filled += count
        return bytes(received)

    def _has_bytes(self) -> bool:
        """Whether the kernel holds some for us, fewer than its low-water mark."""
        try:
            return not self._encrypted and len(self._socket.recv(1, socket.MSG_PEEK)) > 0
        except BlockingIOError:
            return False

    async def _receive(self, view: memoryview, low_water: int = _LOW_WATER_BYTES) -> int:
        try:
            return self._socket.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wake_at(min(view.nbytes, low_water))
            return await when_ready(self._socket, lambda: self._socket.recv_into(view))

    def _wake_at(self, size_bytes: int) -> None:
        """Readable is what has so many bytes, or has ended. Of encrypted bytes nobody knows how many there will be."""
        if size_bytes != self._low_water and not self._encrypted:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)
            self._low_water = size_bytes


async def when_ready(raw: socket.socket, operation: Callable[[], _T]) -> _T:
    """The result of *operation* on *raw*, as soon as it does not block."""
    while True:
        try:
            return operation()
        except (BlockingIOError, ssl.SSLWantReadError):
            await trio.lowlevel.wait_readable(raw)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(raw)


@contextmanager
def _patience() -> Iterator[None]:
    """Raises Broken when what is in the block has taken STALL_TIMEOUT_S."""
    with trio.move_on_after(objects_client.STALL_TIMEOUT_S) as scope:
        yield
    if scope.cancelled_caught:
        raise _silence()


def _silence() -> Broken:
    return Broken(f"nothing came for {objects_client.STALL_TIMEOUT_S:g} s")


def _checked(head: bytes, byte_range: ByteRange, if_match: str | None) -> bool:
    """Whether the connection is kept after this answer, which is exactly right. Raises Unanswered."""
    is_whole = isinstance(byte_range, WholeObject)
    if (_WHOLE_HEAD if is_whole else _HEAD).match(head) is None:
        raise Unanswered(head.partition(b"\r\n")[0].decode("latin-1"))
    length, found = _LENGTH.search(head), _RANGE.search(head)
    if (
        length is None
        or int(length[1]) != byte_range.size_bytes
        or (found is None) is not is_whole
        or (found is not None and (int(found[1]), int(found[2]) + 1) != tuple(byte_range))
        or _ENCODED.search(head) is not None
    ):
        raise Unanswered("the answer is for something else")
    if if_match is not None:
        etag = _ETAG.search(head)
        if etag is None or etag[1].decode("latin-1") != if_match:
            raise Unanswered("the answer has another ETag")
    return _CLOSES.search(head) is None
