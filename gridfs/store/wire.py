"""The short way of a read: a GET over a kept connection, received straight into the reader's buffer.

    sign        once a minute for each object (signature.py)
    connect     kept connections, the one that was used last first
    exchange    one request and its answer (exchange.py)

Everything happens in trio's thread: no worker is woken, no second runtime, nothing is copied in user space. Measured
beside obstore called in threads (docs/decisions/object-client.md).

What is `Unanswered` the caller asks for once more by the other client, which knows redirects, chunked bodies and
whatever else there is. After a connection could not be made, none is tried for a while.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import OrderedDict
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import trio

from gridfs.model import ByteRange, WholeObject
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import Deliver
from gridfs.store.exchange import Broken, Connection, Refused, Stale, Unanswered, when_ready
from gridfs.store.objects_client import CONNECT_TIMEOUT_S, READ_THREADS
from gridfs.store.signature import REUSED_FOR_S, Signer, encoded_path

IDLE_LIMIT_S = 15.0
"""A kept connection that nobody used for so long is not used again: S3 closes idle ones after about 20 s."""

AVOIDED_FOR_S = 10.0
"""After a failed connection: the other client finds out what is wrong, and says it."""

SIGNED_OBJECTS = 1024


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
        self._idle: list[Connection] = []
        self._begun: OrderedDict[_Question, Connection] = OrderedDict()
        """Connections on which an answer is due that nobody has asked for by `read_into` yet."""
        self._lines: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._signer: Signer | None = None
        self._renew_at_s = 0.0
        self._avoided_until_s = 0.0

    async def prepare(self) -> None:
        """Has a signer and a connection ready for the first read, which otherwise waits for both: of a TLS server three
        round trips. What fails is left for that read to find.
        """
        with contextlib.suppress(Unanswered):
            if self._valid_signer() is None:
                await self._new_signer()
            self._keep(await self._connect())

    def begin(self, path: str, byte_range: ByteRange, *, if_match: str | None) -> bool:
        """Sends the request of a `read_into` that is to come, if there is a connection for it; whether it did.

        The server is at work then while that is prepared (docs/decisions/object-client.md).
        """
        signer, question = self._valid_signer(), _Question.of(path, byte_range, if_match)
        if signer is None or question in self._begun or trio.current_time() < self._avoided_until_s:
            return False
        try:
            request = _request(self._signed_lines(signer, path), byte_range, if_match)
        except Unanswered:
            return False
        connection = self._kept()
        if connection is None:
            return False
        if not connection.send_nowait(request):
            connection.close()
            return False
        self._begun[question] = connection
        if len(self._begun) > READ_THREADS:
            self._begun.popitem(last=False)[1].close()
        return True

    async def read_into(
        self, path: str, byte_range: ByteRange, buffer: memoryview, deliver: Deliver, *, if_match: str | None
    ) -> None:
        """Fills *buffer*, which has the size of *byte_range*. Raises Refused, Broken, Unanswered."""
        answer = byte_range, buffer, deliver, if_match
        begun = self._begun.pop(_Question.of(path, byte_range, if_match), None)
        if begun is not None:
            with contextlib.suppress(Stale):
                return await self._exchange(begun, b"", *answer)
        if trio.current_time() < self._avoided_until_s:
            raise Unanswered("the last connection failed")
        signer = self._valid_signer() or await self._new_signer()
        request = _request(self._signed_lines(signer, path), byte_range, if_match)
        while (kept := self._kept()) is not None:
            with contextlib.suppress(Stale):
                return await self._exchange(kept, request, *answer)
        try:
            await self._exchange(await self._connect(), request, *answer)
        except Stale:
            raise Broken("the server closed the connection") from None

    async def _exchange(
        self,
        connection: Connection,
        request: bytes,
        byte_range: ByteRange,
        buffer: memoryview,
        deliver: Deliver,
        if_match: str | None,
    ) -> None:
        """One exchange; the connection is kept or closed after it."""
        reusable = False
        try:
            reusable = await connection.exchange(request, byte_range, buffer, deliver, if_match)
        except Refused:
            reusable = True  # its body has been read
            raise
        except OSError as error:
            raise Broken(str(error)) from error
        finally:
            if reusable:
                self._keep(connection)
            else:
                connection.close()

    def forget_keys(self) -> None:
        """The next request is signed anew, with keys asked for anew.

        For a server that refuses them: while a machine sleeps, keys and signatures age and trio's clock stands still.
        """
        self._signer = None

    def close(self) -> None:
        """Gives up all connections that nobody uses."""
        self._close_idle()
        while self._begun:
            self._begun.popitem()[1].close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _valid_signer(self) -> Signer | None:
        return self._signer if trio.current_time() < self._renew_at_s else None

    def _signed_lines(self, signer: Signer, path: str) -> bytes:
        """The request of *path* up to what differs between two reads."""
        now_s = trio.current_time()
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
        self._renew_at_s = float("inf")  # until the new one is here others sign with the old one, which is still good
        if callable(keys):
            try:
                provided = await trio.to_thread.run_sync(keys)
            except BaseException as error:
                self._renew_at_s = 0.0
                if isinstance(error, Exception):  # a provider runs programs and reads files of others: any kind
                    raise Unanswered(f"no credentials: {error}") from error
                raise
            keys = StaticCredentials(provided["access_key_id"], provided["secret_access_key"], provided["token"])
            if provided["expires_at"] is not None:
                left_s = (provided["expires_at"] - datetime.now(UTC)).total_seconds()
                self._renew_at_s = trio.current_time() + left_s - REUSED_FOR_S
        self._signer = Signer(keys, address.region, self._authority, requester_pays=address.requester_pays)
        self._lines.clear()
        return self._signer

    def _keep(self, connection: Connection) -> None:
        if len(self._idle) >= READ_THREADS:
            connection.close()
            return
        connection.idle_since_s = trio.current_time()
        self._idle.append(connection)

    def _kept(self) -> Connection | None:
        """The connection that was used last, if it is young enough."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        if trio.current_time() - connection.idle_since_s < IDLE_LIMIT_S:
            return connection
        connection.close()
        self._close_idle()  # those below it are older still
        return None

    async def _connect(self) -> Connection:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
                raw = socket.socket(fileno=stream.socket.detach())
                try:
                    raw.setblocking(False)
                    if not self.is_encrypted:
                        return Connection(raw)
                    self._tls = self._tls or ssl.create_default_context()  # 20 ms: it reads the certificates
                    raw = self._tls.wrap_socket(raw, server_hostname=self._host, do_handshake_on_connect=False)
                    await when_ready(raw, raw.do_handshake)
                    return Connection(raw)
                except BaseException:
                    raw.close()
                    raise
        except (OSError, trio.TooSlowError) as error:
            self._avoided_until_s = trio.current_time() + AVOIDED_FOR_S
            raise Unanswered(f"no connection: {error}") from error


class _Question(NamedTuple):
    """What a request asks for."""

    path: str
    kind: type[ByteRange]
    """A whole object is asked for in another way than the range of all its bytes."""
    start: int
    stop: int
    if_match: str | None

    @classmethod
    def of(cls, path: str, byte_range: ByteRange, if_match: str | None) -> _Question:
        return cls(path, type(byte_range), *byte_range, if_match)


def _request(lines: bytes, byte_range: ByteRange, if_match: str | None) -> bytes:
    """A GET. Raises Unanswered when it can't be put into words."""
    if if_match is not None and not (if_match.isascii() and if_match.isprintable()):
        raise Unanswered("the ETag can't stand in a header")  # of a listing, which anyone may have written
    asked = b""
    if not isinstance(byte_range, WholeObject):
        asked = b"range: bytes=%d-%d\r\n" % (byte_range.start, byte_range.stop - 1)
    if if_match is not None:
        asked += b"if-match: " + if_match.encode("ascii") + b"\r\n"
    return lines + asked + b"\r\n"
