"""Questions of a run that attaches, and a daemon's answers: text fields, as an environment block has them.

    NAME=VALUE NUL NAME=VALUE NUL ... newline

No value can hold a NUL, each being an argument, a path or a variable, so nothing needs escaping and neither side a
parser: json alone would cost a run 6 ms. It is spoken on the control socket (control.py), where JSON begins with `{`.
Light: see gridfs/light.py.
"""

from __future__ import annotations

import _socket
import os

CONTROL = "control"
"""The socket's name in a mount's directory."""

LIMIT_BYTES = 128 * 1024
"""Of one question: some paths and names, and the text of the configuration file."""

END = b"\0\n"
"""No field begins with a newline, since none has a name that does."""


def packed(fields: dict[str, str]) -> bytes:
    """The block of *fields*. Raises ValueError when one holds a NUL."""
    parts = [os.fsencode(f"{name}={value}") for name, value in fields.items()]
    if any(b"\0" in part for part in parts):
        raise ValueError("a field holds a NUL")
    return b"\0".join(parts) + END


def unpacked(block: bytes) -> dict[str, str]:
    """The fields of a block; what is no field is left out."""
    texts = (os.fsdecode(part).partition("=") for part in block.removesuffix(END).split(b"\0"))
    return {name: value for name, equals, value in texts if equals}


def ask(directory: str, fields: dict[str, str], timeout_s: float) -> dict[str, str] | None:
    """What the daemon of *directory* answers; None when it does not."""
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)  # socket.py costs 3 ms
    try:
        connection.settimeout(timeout_s)
        connection.connect(f"/proc/self/fd/{descriptor}/{CONTROL}")  # an address holds 107 bytes only
        connection.sendall(packed(fields))
        block = b""
        while not block.endswith(END):
            received = connection.recv(LIMIT_BYTES)
            if not received:
                return None
            block += received
        return unpacked(block)
    except OSError:
        return None
    finally:
        connection.close()
        os.close(descriptor)
