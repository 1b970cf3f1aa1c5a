"""sd_notify(3): tells systemd, or whoever listens at $NOTIFY_SOCKET, how a service does."""

from __future__ import annotations

import contextlib
import socket

from gridfs.config import notify_socket


def notify(state: str) -> None:
    """Sends *state* (`READY=1`, `STOPPING=1`, ...); nothing where nobody listens."""
    address = notify_socket()
    if address is None:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)  # @: an abstract address
        sender.send(state.encode())
