"""gridfs.store.wire and exchange: what a connection may do to a read. What a store promises is in test_store.

A server that speaks bytes: a test says for each connection which pieces it sends, and what it expects.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gridfs.errors import AccessDenied
from gridfs.model import ByteRange, WholeObject
from gridfs.store import objects_client, wire
from gridfs.store.address import BucketAddress, ProvidedCredentials, StaticCredentials
from gridfs.store.exchange import Broken, Connection, Refused, Unanswered
from gridfs.store.wire import Wire
from tests.support.data import ramp
from tests.support.on_trio import on_trio

DATA = ramp(300_000)
Serve = Callable[[socket.socket, int], None]
"""Serves one connection, of this number."""


def request_of(connection: socket.socket) -> bytes:
    """The next request's head; empty at the end."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            return b""
        received += piece
    return received


def head(start: int = 0, stop: int = len(DATA), *, status: str = "206 Partial Content", more: str = "") -> bytes:
    return (
        f'HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\nETag: "one"\r\n'
        f"content-range: bytes {start}-{stop - 1}/{len(DATA)}\r\n{more}\r\n"
    ).encode()


class Peer:
    """The running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.requests: list[bytes] = []

    def wire(self, *, scheme: str = "http", **address: object) -> Wire:
        keys = {"credentials": StaticCredentials("key", "secret")} | address
        endpoint = f"{scheme}://localhost:{self.port}" if scheme == "https" else f"{scheme}://127.0.0.1:{self.port}"
        return Wire(BucketAddress("bucket", "us-east-1", endpoint, **keys))  # type: ignore[arg-type]


@contextmanager
def peer(serve: Callable[[Peer, socket.socket, int], None], *, tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    listener = socket.create_server(("127.0.0.1", 0))
    running = Peer(listener.getsockname()[1])
    threads: list[threading.Thread] = []

    def one(connection: socket.socket, number: int) -> None:
        try:
            with tls.wrap_socket(connection, server_side=True) if tls else connection as talking:
                serve(running, talking, number)
        except OSError:
            pass  # the client has gone

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            running.connections += 1
            thread = threading.Thread(target=one, args=(connection, running.connections))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join()


def answering(*pieces: bytes) -> Callable[[Peer, socket.socket, int], None]:
    """Sends the pieces, each by itself, for every request."""

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        while request := request_of(connection):
            running.requests.append(request)
            for piece in pieces:
                connection.sendall(piece)

    return serve


RANGE, WHOLE = ByteRange(0, len(DATA)), WholeObject(0, len(DATA))


async def read(subject: Wire, *, if_match: str | None = None, byte_range: ByteRange = RANGE) -> bytes:
    buffer, delivered = memoryview(bytearray(len(DATA))), bytearray()
    await subject.read_into("k/ü", byte_range, buffer, delivered.extend, if_match=if_match)
    assert delivered == buffer
    return bytes(delivered)


@on_trio
async def test_a_connection_is_used_again_and_the_signature_too() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        for _ in range(3):
            assert await read(subject) == DATA
        subject.close()
        assert running.connections == 1
    first, second, _ = running.requests
    assert first == second
    assert first.startswith(b"GET /bucket/k/%C3%BC HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nrange: bytes=0-299999\r\n" in first
    assert b"if-match" not in first


@on_trio
async def test_prepared_it_begins_with_the_first_read() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        assert not subject.begin("k/ü", RANGE, if_match=None)
        await subject.prepare()
        assert subject.begin("k/ü", RANGE, if_match=None)
        assert await read(subject) == DATA
        subject.close()
        assert (running.connections, len(running.requests)) == (1, 1)


@on_trio
async def test_what_can_t_be_prepared_is_found_by_the_first_read() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
    await subject.prepare()
    with pytest.raises(Unanswered, match="the last connection failed"):
        await read(subject)


@on_trio
async def test_a_condition_is_asked_and_its_answer_compared() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        assert await read(subject, if_match='"one"') == DATA
        assert b'\r\nif-match: "one"\r\n' in running.requests[0]
        with pytest.raises(Unanswered, match="ETag"):
            await read(subject, if_match='"two"')
        subject.close()


@on_trio
async def test_a_whole_object_is_asked_for_without_a_range() -> None:
    length = b'HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nETag: "one"\r\n\r\n'
    with peer(answering(length + DATA)) as running:
        subject = running.wire()
        assert await read(subject, byte_range=WHOLE, if_match='"one"') == DATA
        assert b"\r\nrange:" not in running.requests[0]
        assert b'\r\nif-match: "one"\r\n' in running.requests[0]
        with pytest.raises(Unanswered, match="ETag"):
            await read(subject, byte_range=WHOLE, if_match='"two"')
        subject.close()


@pytest.mark.parametrize("etag", ['"one"\r\nrange: bytes=0-0', "\n", "é", "\x7f"])
@on_trio
async def test_an_etag_adds_no_header(etag: str) -> None:
    with peer(answering(head() + DATA)) as running:
        with pytest.raises(Unanswered, match="ETag"):
            await read(running.wire(), if_match=etag)
        assert running.connections == 0


@pytest.mark.parametrize("cut", [1, 20, len(head()) - 2, len(head()), len(head()) + 1, len(head()) + 100_000])
@on_trio
async def test_an_answer_may_come_in_any_pieces(cut: int) -> None:
    whole = head() + DATA
    with peer(answering(whole[:cut], whole[cut : cut + 3], whole[cut + 3 :])) as running:
        subject = running.wire()
        assert await read(subject) == DATA
        assert await read(subject) == DATA
        subject.close()
        assert running.connections == 1


ODD_ANSWERS = {
    "200": head(status="200 OK") + DATA,
    "301": head(status="301 Moved Permanently") + DATA,
    "shorter": head(0, 100) + DATA[:100],
    "elsewhere": head(1, len(DATA) + 1) + DATA,
    "encoded": head(more="Content-Encoding: gzip\r\n") + DATA,
    "chunked": head(more="Transfer-Encoding: chunked\r\n") + DATA,
    "chunked refusal": b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "1.0": b"HTTP/1.0 206 Partial Content\r\n\r\n" + DATA,
    "no HTTP": b"not HTTP at all\r\n\r\n",
    "endless head": b"HTTP/1.1 206 Partial Content\r\n" + b"x: y\r\n" * 4000,
    "another length": head().replace(b"Length: 300000", b"Length: 300001") + DATA,
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
@on_trio
async def test_what_is_not_exactly_right_is_left_to_the_other_client(answer: bytes) -> None:
    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(answer)
        connection.recv(1)  # until the client has hung up: it must not use this connection again

    with peer(serve) as running:
        subject = running.wire()
        for byte_range in (RANGE, WHOLE):
            with pytest.raises(Unanswered):
                await read(subject, byte_range=byte_range)
        assert running.connections == 2
        subject.close()


@on_trio
async def test_a_refusal_says_what_the_server_said_and_keeps_the_connection() -> None:
    body = b"<Error><Code>AccessDenied</Code></Error>"
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body)
    with peer(answering(refusal, body[:10], body[10:])) as running:
        subject = running.wire()
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await read(subject)
            assert (caught.value.status, caught.value.body) == (403, body)
        assert running.connections == 1
        subject.close()


@on_trio
async def test_a_refusal_that_is_longer_than_it_says_is_left_to_the_other_client() -> None:
    with peer(answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n<Error>")) as running:
        subject = running.wire()
        for _ in range(2):
            with pytest.raises(Unanswered, match="more came"):
                await read(subject)
        assert running.connections == 2


@on_trio
async def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(head() + DATA)

    with peer(serve) as running:
        subject = running.wire()
        for _ in range(3):
            assert await read(subject) == DATA
        subject.close()
        assert running.connections == 3


@on_trio
async def test_one_that_says_it_closes_is_not_kept() -> None:
    with peer(answering(head(more="Connection: close\r\n") + DATA)) as running:
        subject = running.wire()
        for _ in range(2):
            assert await read(subject) == DATA
        assert running.connections == 2


@on_trio
async def test_one_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE_LIMIT_S", 0.0)
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        for _ in range(2):
            assert await read(subject) == DATA
        subject.close()
        assert running.connections == 2


@on_trio
async def test_what_was_begun_outlives_the_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        async with trio.open_nursery() as nursery:
            for _ in range(2):  # side by side, on a connection each
                nursery.start_soon(read, subject)
        assert running.connections == 2
        assert subject.begin("k/ü", RANGE, if_match=None)
        monkeypatch.setattr(wire, "IDLE_LIMIT_S", 0.0)
        assert not subject.begin("another", RANGE, if_match=None), "what is left is too old"
        assert await read(subject) == DATA
        subject.close()
        assert running.connections == 2
        assert len(running.requests) == 3


async def begun(subject: Wire, running: Peer) -> None:
    """A second request, begun after a first, and received by the server."""
    assert not subject.begin("k/ü", RANGE, if_match=None), "there is no connection yet"
    assert await read(subject) == DATA
    assert subject.begin("k/ü", RANGE, if_match=None)
    with trio.fail_after(10):
        while len(running.requests) < 2:
            await trio.sleep(0.01)


@on_trio
async def test_what_was_begun_is_asked_for_once() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        await begun(subject, running)
        assert not subject.begin("k/ü", RANGE, if_match=None), "it is on its way, and nobody has called for it"
        assert await read(subject) == DATA
        assert await read(subject) == DATA
        subject.close()
        assert (running.connections, len(running.requests)) == (1, 3)
    assert running.requests[0] == running.requests[1]


@on_trio
async def test_what_was_begun_is_for_exactly_that() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        await begun(subject, running)
        assert not subject.begin("another", RANGE, if_match=None), "its connection is taken"
        assert await read(subject, if_match='"one"') == DATA
        assert running.connections == 2
        assert await read(subject) == DATA
        subject.close()
        assert (running.connections, len(running.requests)) == (2, 3)


@on_trio
async def test_what_was_begun_in_vain_is_asked_for_again() -> None:
    """The server takes the second request of each connection, and closes it."""

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        running.requests.append(request_of(connection))
        connection.sendall(head() + DATA)
        running.requests.append(request_of(connection))

    with peer(serve) as running:
        subject = running.wire()
        await begun(subject, running)
        assert await read(subject) == DATA
        subject.close()
        assert running.connections == 2


@on_trio
async def test_nothing_begins_on_a_connection_that_is_gone() -> None:
    idle, gone = threading.Event(), threading.Event()

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(head() + DATA)
        if number == 1:
            idle.wait(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes by a reset
            connection.close()
            gone.set()

    with peer(serve) as running:
        subject = running.wire()
        assert await read(subject) == DATA
        idle.set()
        await trio.to_thread.run_sync(gone.wait)
        assert not subject.begin("k/ü", RANGE, if_match=None)
        assert await read(subject) == DATA
        subject.close()
        assert running.connections == 2


@on_trio
async def test_what_nobody_calls_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_THREADS", 1)
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        await begun(subject, running)
        assert await read(subject, if_match='"one"') == DATA
        assert subject.begin("another", RANGE, if_match=None)
        assert await read(subject) == DATA, "by a new connection: the one that had begun was given up"
        assert running.connections == 3
        subject.close()  # and so the server's threads end


@pytest.mark.parametrize("etag", ['"\N{SNOWMAN}"', '"a\r\nb"'])
@on_trio
async def test_nothing_begins_that_can_t_be_said(etag: str) -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
        assert await read(subject) == DATA
        assert not subject.begin("k/ü", RANGE, if_match=etag)
        assert await read(subject) == DATA
        subject.close()
        assert running.connections == 1


@pytest.mark.parametrize("sent", [0, 7, len(head()), len(head()) + 200_000])
@on_trio
async def test_a_connection_that_ends_early_is_broken_and_what_came_is_right(sent: int) -> None:
    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall((head() + DATA)[:sent])

    with peer(serve) as running:
        subject = running.wire()
        buffer, delivered = memoryview(bytearray(len(DATA))), bytearray()
        with pytest.raises(Broken):
            await subject.read_into("k", ByteRange(0, len(DATA)), buffer, delivered.extend, if_match=None)
        assert delivered == DATA[: len(delivered)]
        assert len(delivered) == max(0, sent - len(head()))


@on_trio
async def test_silence_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_client, "STALL_TIMEOUT_S", 0.2)

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(head() + DATA[:1000])
        connection.recv(1)

    with peer(serve) as running, pytest.raises(Broken, match="nothing came"):
        await read(running.wire())


@on_trio
async def test_a_slow_server_is_not_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes come all the time, and never as many within the time of a stall as the kernel wakes us for."""
    monkeypatch.setattr(objects_client, "STALL_TIMEOUT_S", 0.5)

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        while request := request_of(connection):
            running.requests.append(request)
            connection.sendall(head())
            for start in range(0, len(DATA), 20_000):
                if len(running.requests) == 1:
                    time.sleep(0.06)
                connection.sendall(DATA[start : start + 20_000])

    with peer(serve) as running:
        subject = running.wire()
        assert await read(subject) == DATA
        assert (running.connections, len(running.requests)) == (1, 1)
        assert await read(subject) == DATA, "and the connection is as good as before"
        subject.close()
        assert (running.connections, len(running.requests)) == (1, 2)


@on_trio
async def test_a_slow_server_may_fall_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_client, "STALL_TIMEOUT_S", 0.5)
    buffer, delivered = memoryview(bytearray(len(DATA))), bytearray()
    has_bytes, looks = Connection._has_bytes, list[Connection]()

    def look(connection: Connection) -> bool:
        looks.append(connection)
        return has_bytes(connection)

    monkeypatch.setattr(Connection, "_has_bytes", look)

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(head())
        for start in range(0, 100_000, 10_000):
            time.sleep(0.06)
            connection.sendall(DATA[start : start + 10_000])
        connection.recv(1)

    with peer(serve) as running:
        with pytest.raises(Broken, match="nothing came"):
            await running.wire().read_into("k", RANGE, buffer, delivered.extend, if_match=None)
        assert len(looks) == 1, "the second wait in vain is the last"
        assert running.connections == 1
    assert delivered == DATA[:100_000], "what came before is not fetched again"


@on_trio
async def test_a_cancelled_read_closes_its_connection() -> None:
    stalled = threading.Event()

    def serve(running: Peer, connection: socket.socket, number: int) -> None:
        request_of(connection)
        connection.sendall(head() + DATA[:1000])
        stalled.set()
        assert connection.recv(1) == b""

    with peer(serve) as running:
        subject = running.wire()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, subject)
            await trio.to_thread.run_sync(stalled.wait)
            nursery.cancel_scope.cancel()
        assert running.connections == 1


@on_trio
async def test_after_a_failed_connection_none_is_tried_for_a_while() -> None:
    with peer(answering(head() + DATA)) as running:
        subject = running.wire()
    with pytest.raises(Unanswered, match="no connection"):
        await read(subject)
    with pytest.raises(Unanswered, match="the last connection failed"):
        await read(subject)


def keys(number: int, lifetime_s: float) -> ProvidedCredentials:
    """What a provider gives when it is asked for the *number*th time."""
    return {
        "access_key_id": f"key{number}",
        "secret_access_key": "secret",
        "token": None,
        "expires_at": datetime.now(UTC) + timedelta(seconds=lifetime_s),
    }


@on_trio
async def test_credentials_are_asked_for_again_when_they_end() -> None:
    asked = 0

    def provide() -> ProvidedCredentials:
        nonlocal asked
        asked += 1
        return keys(asked, 30 if asked == 1 else 3600)

    with peer(answering(head() + DATA)) as running:
        subject = running.wire(credentials=provide)
        assert await read(subject) == DATA
        assert await read(subject) == DATA
        assert await read(subject) == DATA
        subject.close()
    for number, request in zip((1, 2, 2), running.requests, strict=True):
        assert b"Credential=key%d/" % number in request
    assert asked == 2


@on_trio
async def test_without_credentials_the_other_client_says_why() -> None:
    def provide() -> ProvidedCredentials:
        raise AccessDenied("the session has expired")

    with peer(answering(head() + DATA)) as running:
        with pytest.raises(Unanswered, match="expired"):
            await read(running.wire(credentials=provide))
        assert running.connections == 0


BROKEN_HELPERS = [
    RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
    json.JSONDecodeError("Expecting value", "", 0),
    FileNotFoundError(2, "No such file or directory", "helper"),
]


@pytest.mark.parametrize("failure", BROKEN_HELPERS, ids=lambda failure: type(failure).__name__)
@on_trio
async def test_a_provider_that_fails_in_any_way_is_asked_again(failure: Exception) -> None:
    asked = 0

    def provide() -> ProvidedCredentials:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise failure
        return keys(asked, 30 if asked == 1 else 3600)

    with peer(answering(head() + DATA)) as running:
        subject = running.wire(credentials=provide)
        assert await read(subject) == DATA
        with pytest.raises(Unanswered, match="no credentials"):
            await read(subject)
        assert await read(subject) == DATA
        subject.close()
    for number, request in zip((1, 3), running.requests, strict=True):
        assert b"Credential=key%d/" % number in request


@on_trio
async def test_a_provider_whose_wait_is_cancelled_is_asked_again() -> None:
    asked = 0

    def provide() -> ProvidedCredentials:
        nonlocal asked
        asked += 1
        if asked == 2:
            trio.from_thread.run(trio.sleep_forever)
        return keys(asked, 30)

    with peer(answering(head() + DATA)) as running:
        subject = running.wire(credentials=provide)
        assert await read(subject) == DATA
        with trio.move_on_after(0.05):
            await read(subject)
        assert await read(subject) == DATA
        subject.close()
    assert b"Credential=key3/" in running.requests[1]


@pytest.fixture
def own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context whose certificate this process trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@on_trio
async def test_encrypted_connections_are_kept_too(own_authority: ssl.SSLContext) -> None:
    with peer(answering(head() + DATA), tls=own_authority) as running:
        subject = running.wire(scheme="https")
        for _ in range(3):
            assert await read(subject) == DATA
        assert subject.begin("k/ü", RANGE, if_match=None)
        assert await read(subject) == DATA
        subject.close()
        assert (running.connections, len(running.requests)) == (1, 4)


@on_trio
async def test_a_certificate_that_nobody_vouches_for_is_no_connection(
    own_authority: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with peer(answering(head() + DATA), tls=own_authority) as running:
        with pytest.raises(Unanswered, match="certificate"):
            await read(running.wire(scheme="https"))
        assert running.requests == []
