"""The short way of a read: a ranged GET over a kept connection, received straight into the reader's buffer.

    send        one request, its signature kept from the object's last read (signature.py)
    receive     the head into a scratch of 4 KiB; the body into the buffer, as the kernel has it, without a copy
    answer      only what is exactly right counts: 206, the range, the length, the ETag, no encoding

Everything happens in trio's thread: no worker is woken, no second runtime, nothing is copied in user space. Measured
beside obstore called in threads (docs/decisions/object-client.md).

A refusal is `Refused`, with what the server said. A server that is silent or gone in mid-answer is `Broken`: the
caller's retries go on from there. Any other answer is `Unanswered`: the caller asks once more by the other client,
which knows redirects, chunked bodies and whatever else there is. A connection whose answer was not read to its end is
closed. After one could not be made, none is tried for a while.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

import trio

from gridfs.errors import GridfsError
from gridfs.model import ByteRange
from gridfs.store import objects_client
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import Deliver
from gridfs.store.objects_client import CONNECT_TIMEOUT_S, READ_THREADS
from gridfs.store.signature import REUSED_FOR_S, Signer, encoded_path

_T = TypeVar("_T")

IDLE_LIMIT_S = 15.0
"""A kept connection that nobody used for so long is not used again: S3 closes idle ones after about 20 s."""

AVOIDED_FOR_S = 10.0
"""After a failed connection: the other client finds out what is wrong, and says it."""

SIGNED_OBJECTS = 1024
_HEAD_BYTES = 4096
_REFUSAL_BYTES = 64 << 10
_RECEIVE_BYTES = 1 << 20
"""At once, between two looks at other tasks: 0.2 ms of copying."""
_LOW_WATER_BYTES = 256 << 10
"""The kernel wakes us when so much of a body is there: a wake-up costs 30 us, as much as 200 KiB of copying."""

_HEAD = re.compile(rb"HTTP/1\.1 206[ \r]")
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


class Wire:
    """Connections to one bucket. Used from trio's thread."""

    def __init__(self, address: BucketAddress) -> None:
        parts = urlsplit(address.endpoint)
        self.is_encrypted = parts.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self.is_encrypted else 80)
        self._base = f"{parts.path.rstrip('/')}/{address.bucket}/"
        self._address = address
        self._authority = parts.netloc.rpartition("@")[2]
        self._idle: list[_Connection] = []
        self._lines: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._signer: Signer | None = None
        self._renew_at_s = 0.0
        self._avoided_until_s = 0.0

    async def read_into(
        self, path: str, byte_range: ByteRange, buffer: memoryview, deliver: Deliver, *, if_match: str | None
    ) -> None:
        """Fills *buffer*, which has the size of *byte_range*. Raises Refused, Broken, Unanswered."""
        if trio.current_time() < self._avoided_until_s:
            raise Unanswered("the last connection failed")
        request = await self._request(path, byte_range, if_match)
        while True:
            kept = self._kept()
            connection = kept or await self._connect()
            reusable = False
            try:
                reusable = await connection.exchange(request, byte_range, buffer, deliver, if_match)
                return
            except Refused:
                reusable = True  # its body has been read
                raise
            except _Stale:
                if kept is None:
                    raise Broken("the server closed the connection") from None
            except OSError as error:
                raise Broken(str(error)) from error
            finally:
                if reusable and len(self._idle) < READ_THREADS:
                    connection.idle_since_s = trio.current_time()
                    self._idle.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        """Gives up all connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    async def _request(self, path: str, byte_range: ByteRange, if_match: str | None) -> bytes:
        lines = await self._signed_lines(path)
        condition = f"if-match: {if_match}\r\n" if if_match is not None else ""
        return lines + f"range: bytes={byte_range.start}-{byte_range.stop - 1}\r\n{condition}\r\n".encode()

    async def _signed_lines(self, path: str) -> bytes:
        """The request of *path* up to what differs between two reads."""
        now_s = trio.current_time()
        signer = self._signer if now_s < self._renew_at_s else None
        if signer is None:
            signer = await self._new_signer()
        known = self._lines.get(path)
        if known is not None and now_s - known[0] < REUSED_FOR_S:
            return known[1]
        target = encoded_path(self._base + path)
        lines = f"GET {target} HTTP/1.1\r\n".encode("ascii") + signer.header_lines(target, datetime.now(UTC))
        self._lines[path] = now_s, lines
        self._lines.move_to_end(path)
        if len(self._lines) > SIGNED_OBJECTS:
            self._lines.popitem(last=False)
        return lines

    async def _new_signer(self) -> Signer:
        address, keys = self._address, self._address.credentials
        self._renew_at_s = float("inf")
        if callable(keys):
            try:
                provided = await trio.to_thread.run_sync(keys)
            except GridfsError as error:
                self._renew_at_s = 0.0
                raise Unanswered(str(error)) from error
            keys = StaticCredentials(provided["access_key_id"], provided["secret_access_key"], provided["token"])
            if provided["expires_at"] is not None:
                left_s = (provided["expires_at"] - datetime.now(UTC)).total_seconds()
                self._renew_at_s = trio.current_time() + left_s - REUSED_FOR_S
        self._signer = Signer(keys, address.region, self._authority, requester_pays=address.requester_pays)
        self._lines.clear()
        return self._signer

    def _kept(self) -> _Connection | None:
        """The connection that was used last, if it is young enough."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        if trio.current_time() - connection.idle_since_s < IDLE_LIMIT_S:
            return connection
        connection.close()
        self.close()  # those below it are older still
        return None

    async def _connect(self) -> _Connection:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
                raw = socket.socket(fileno=stream.socket.detach())
                try:
                    raw.setblocking(False)
                    if not self.is_encrypted:
                        return _Connection(raw)
                    self._tls = self._tls or ssl.create_default_context()  # 20 ms: it reads the certificates
                    raw = self._tls.wrap_socket(raw, server_hostname=self._host, do_handshake_on_connect=False)
                    await _nonblocking(raw, raw.do_handshake)
                    return _Connection(raw)
                except BaseException:
                    raw.close()
                    raise
        except (OSError, trio.TooSlowError) as error:
            self._avoided_until_s = trio.current_time() + AVOIDED_FOR_S
            raise Unanswered(f"no connection: {error}") from error


class _Stale(Exception):
    """The server had closed the connection before this request."""


class _Connection:
    """One socket, used for one exchange at a time."""

    def __init__(self, raw: socket.socket) -> None:
        self._socket = raw
        self._encrypted = isinstance(raw, ssl.SSLSocket)
        self._low_water = 1
        self.idle_since_s = 0.0

    def close(self) -> None:
        self._socket.close()

    async def exchange(
        self, request: bytes, byte_range: ByteRange, buffer: memoryview, deliver: Deliver, if_match: str | None
    ) -> bool:
        """Sends, and receives the body into *buffer*; whether the connection may be used again.

        Raises Refused, Unanswered, Broken (also when nothing came for STALL_TIMEOUT_S), _Stale, OSError.
        """
        with trio.CancelScope(deadline=trio.current_time() + objects_client.STALL_TIMEOUT_S) as patience:
            sent = 0
            while sent < len(request):
                sent += await _nonblocking(self._socket, lambda: self._socket.send(request[sent:]))  # noqa: B023
            head, body = await self._head()
            if (refusal := _REFUSAL.match(head)) is not None:
                raise Refused(int(refusal[1]), await self._rest(head, body))
            reusable = _checked(head, byte_range, if_match)
            arrived = len(body)
            if arrived > buffer.nbytes:
                raise Unanswered("more came than the body")
            buffer[:arrived] = body
            if arrived:
                deliver(buffer[:arrived])
            while arrived < buffer.nbytes:
                patience.deadline = trio.current_time() + objects_client.STALL_TIMEOUT_S
                count = await self._receive(buffer[arrived : arrived + _RECEIVE_BYTES])
                if not count:
                    raise Broken(f"the connection ended after {arrived} bytes")
                deliver(buffer[arrived : arrived + count])
                arrived += count
            return reusable
        raise Broken(f"nothing came for {objects_client.STALL_TIMEOUT_S:g} s")

    async def _head(self) -> tuple[bytes, bytes]:
        """Status line and headers with the line ends around them, and what of the body came along."""
        received = b""
        self._wake_at(1)
        await trio.lowlevel.wait_readable(self._socket)  # trying first would be in vain
        while True:
            scratch = bytearray(_HEAD_BYTES)
            try:
                count = await _nonblocking(self._socket, lambda: self._socket.recv_into(scratch))  # noqa: B023
            except ConnectionError as error:
                raise (Broken(str(error)) if received else _Stale) from error
            if not count:
                raise Broken("the connection ended in a head") if received else _Stale
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
        received = bytearray(int(length[1]))
        view, filled = memoryview(received), len(body)
        received[:filled] = body
        while filled < len(received):
            count = await self._receive(view[filled:])
            if not count:
                raise Broken("the connection ended in a refusal")
            filled += count
        return bytes(received)

    async def _receive(self, view: memoryview) -> int:
        try:
            return self._socket.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wake_at(min(view.nbytes, _LOW_WATER_BYTES))
            return await _nonblocking(self._socket, lambda: self._socket.recv_into(view))

    def _wake_at(self, size_bytes: int) -> None:
        """Readable is what has so many bytes, or has ended. Of encrypted bytes nobody knows how many there will be."""
        if size_bytes != self._low_water and not self._encrypted:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)
            self._low_water = size_bytes


async def _nonblocking(raw: socket.socket, operation: Callable[[], _T]) -> _T:
    """The result of *operation* on *raw*, as soon as it does not block."""
    while True:
        try:
            return operation()
        except (BlockingIOError, ssl.SSLWantReadError):
            await trio.lowlevel.wait_readable(raw)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(raw)


def _checked(head: bytes, byte_range: ByteRange, if_match: str | None) -> bool:
    """Whether the connection is kept after this answer, which is exactly right. Raises Unanswered."""
    if _HEAD.match(head) is None:
        raise Unanswered(head.partition(b"\r\n")[0].decode("latin-1"))
    length, found = _LENGTH.search(head), _RANGE.search(head)
    if (
        length is None
        or int(length[1]) != byte_range.size_bytes
        or found is None
        or (int(found[1]), int(found[2]) + 1) != tuple(byte_range)
        or _ENCODED.search(head) is not None
    ):
        raise Unanswered("the answer is for something else")
    if if_match is not None:
        etag = _ETAG.search(head)
        if etag is None or etag[1].decode("latin-1") != if_match:
            raise Unanswered("the answer has another ETag")
    return _CLOSES.search(head) is None
