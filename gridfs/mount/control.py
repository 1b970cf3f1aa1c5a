"""The socket by which one daemon is asked: one line of JSON there, one back.

    {"do": "status"}     what it has done and what went wrong
    {"do": "keep"}       end no more by yourself: `grid mount` has made a daemon of a run its own
    {"do": "use"}        a run has come: count the linger anew
    {"do": "release"}    unless a path shows it: take your own mount out of the tree, and end when the kernel says that
                         nobody holds it
    {"do": "resolve", "spec": "NAME[@V]", "store": {...}}
                         the commit record, if that is the daemon's own store: a run that asks a daemon needs no client
                         of the store itself, whose import would cost more than all else that it does
    do=attach ...        the same and more in one question, in the fields of fields.py, which need no JSON (quick.py)

The asking side imports no trio, for the same reason.

The socket lies in the mount's directory (0700) and is 0600. Its name may be longer than the 107 bytes that an address
holds, so both sides name it by way of a descriptor of the directory.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridfs.errors import StoreUnavailable
from gridfs.mount import fields
from gridfs.mount.fields import CONTROL

if TYPE_CHECKING:
    import trio

REQUEST_LIMIT_BYTES = 4096
BACKLOG = 1024
"""A node full of jobs asks at one time; who finds the queue full is refused at once."""

REFUSED_PAUSE_S = 0.1
"""Without a free descriptor nobody can be let in, and who asks waits in the queue."""

ANSWER_TIMEOUT_S = 10.0
"""A daemon answers from memory; one that does not within this is in trouble, and `grid status` says so."""

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def serve(directory: Path, answer: Answer, *, task_status: trio.TaskStatus[None]) -> None:
    """Answers requests until cancelled. *answer* is given the request, an object with `do`, and raises nothing."""
    import trio

    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with _address(directory) as address:
            await listener.bind(address)
            os.chmod(directory / CONTROL, 0o600)
        listener.listen(BACKLOG)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError:  # EMFILE, ENFILE: no reason for a mount to end
                    await trio.sleep(REFUSED_PAUSE_S)
                    continue
                nursery.start_soon(_answer_one, connection, answer, name="control")


async def _answer_one(connection: trio.socket.SocketType, answer: Answer) -> None:
    import trio

    stream = trio.SocketStream(connection)
    with trio.move_on_after(ANSWER_TIMEOUT_S):
        async with stream:
            try:
                request = await _received(stream)
                in_fields = not request.startswith(b"{")
                parsed = {"do": "", **(fields.unpacked(request) if in_fields else json.loads(request))}
                answered = await answer(parsed)
                await stream.send_all(fields.packed(answered) if in_fields else json.dumps(answered).encode() + b"\n")
            except (trio.BrokenResourceError, ValueError, TypeError):
                return  # whoever asked has gone, or does not speak this


async def _received(stream: trio.SocketStream) -> bytes:
    """One request, or what there is of it when the asker stops or says too much."""
    request, end, limit = b"", b"\n", REQUEST_LIMIT_BYTES
    while not request.endswith(end) and len(request) < limit:
        received = await stream.receive_some(REQUEST_LIMIT_BYTES)
        if not received:
            break
        if not request and not received.startswith(b"{"):
            end, limit = fields.END, fields.LIMIT_BYTES
        request += received
    return request


def ask(directory: Path, word: str, **arguments: Any) -> dict[str, Any]:
    """The daemon's answer. Raises StoreUnavailable when there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _address(directory) as address:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(address)
            connection.sendall(json.dumps({"do": word, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
                return answer
    except (OSError, ValueError) as error:
        raise StoreUnavailable(f"the daemon of {directory.name} does not answer: {error}") from error


@contextmanager
def _address(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{CONTROL}"
    finally:
        os.close(descriptor)
