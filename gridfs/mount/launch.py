"""Starts a daemon and waits until it is ready, or says why it is not.

The daemon is spawned, not forked: obstore can't be forked after its first use, and a spawned one shares nothing. It
gets its MountSpec on stdin and the writing end of a pipe; it answers with one line, its record or its failure. A pipe
that ends without a line is a daemon that died, and its log says of what.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NoReturn

from gridfs import errors
from gridfs.errors import AccessDenied, GridfsError, Unsupported
from gridfs.mount.spec import MountRecord, MountSpec, from_json, to_json

MODULE = "gridfs.mount.daemon"

END_TIMEOUT_S = 10.0
"""Of a daemon that is not needed any more: twice what it gives those who hold its mount (daemon.STOP_GRACE_S)."""


def ready_line(record: MountRecord) -> bytes:
    return json.dumps({"ready": json.loads(to_json(record))}).encode() + b"\n"


def failure_line(error: BaseException) -> bytes:
    """What `raise_failure` turns back into the same error."""
    error = errors.limit_reached(error) or error
    if isinstance(error, GridfsError):
        kind, message, remedy = type(error).__name__, error.message, error.remedy
    else:
        kind, message, remedy = "", f"{type(error).__name__}: {error}", None
    return json.dumps({"error": kind, "message": message, "remedy": remedy}).encode() + b"\n"


def _death(code: int, spec: MountSpec) -> GridfsError:
    """What to say of a daemon that said nothing; *code* as Popen.wait gives it."""
    if code == -signal.SIGKILL:
        return GridfsError(
            f"the daemon of {spec.source} was killed before it was ready",
            remedy="if nobody did, the kernel did (dmesg), and the memory limit of its cgroup or job is to be raised",
        )
    said = f"was ended by {signal.strsignal(-code)}" if code < 0 else f"ended with {code}"
    return GridfsError(f"the daemon of {spec.source} {said} before it was ready", remedy=f"see {spec.log_file}")


def start(spec: MountSpec, locks: Sequence[int] = ()) -> MountRecord:
    """Spawns the daemon of *spec*; its record once it is ready. Raises what it failed with.

    The descriptors *locks* go along, and are closed by the daemon once it is ready. Where the wait for it is broken off
    (Ctrl-C), it is ended too.
    """
    reading, writing = os.pipe()
    try:
        with _log_of(spec) as log:
            process = subprocess.Popen(
                [*command(), "--report", *map(str, (writing, *locks))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(writing, *locks),
                start_new_session=True,
                cwd="/",
            )
    finally:
        os.close(writing)
    assert process.stdin is not None
    with open(reading, "rb") as pipe:
        try:
            with process.stdin as stdin:
                stdin.write(to_json(spec).encode())
        except BrokenPipeError:
            pass  # it has died already: the pipe ends without a line
        try:
            line = pipe.readline()
        except BaseException:
            _end(process)
            raise
    if not line:
        raise _death(process.wait(), spec)
    answer = json.loads(line)
    if "ready" not in answer:
        process.wait()
        raise_failure(answer, spec)
    process.returncode = 0  # it is on its own now: no ResourceWarning for a child that outlives us
    return from_json(MountRecord, json.dumps(answer["ready"]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a daemon that is not ready: whoever takes away what it has made would else meet it at work."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()


def become(spec: MountSpec, locks: Sequence[int]) -> NoReturn:
    """Turns this process into the daemon of *spec* (`--foreground`): a supervisor sees one process, and its exit code.

    The descriptors *locks* (registry.starting's and more) go along, and are closed by the daemon once it is ready.
    """
    _log_of(spec).close()  # while there is somebody to tell
    reading, writing = os.pipe()
    text = to_json(spec).encode()
    assert len(text) < 1 << 16  # what a pipe holds: nobody reads it yet
    os.write(writing, text)
    os.close(writing)
    os.dup2(reading, 0)
    for lock in locks:
        os.set_inheritable(lock, True)
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [*command(), "--locks", *map(str, locks)]
    os.execv(arguments[0], arguments)


def command() -> list[str]:
    """`-P`: the directory that somebody happens to be in is no place to import from."""
    return [sys.executable, "-P", "-m", MODULE]


def expected_failure(answer: dict[str, str | None]) -> GridfsError | None:
    """The error that `failure_line` told of; None when it was a defect."""
    kind = getattr(errors, answer["error"] or "", None)
    if isinstance(kind, type) and issubclass(kind, GridfsError):
        return kind(answer["message"] or "", remedy=answer["remedy"])
    return None


def raise_failure(answer: dict[str, str | None], spec: MountSpec) -> NoReturn:
    error = expected_failure(answer)
    raise error or GridfsError(
        f"the daemon of {spec.source} failed: {answer['message']}", remedy=f"see {spec.log_file}"
    )


def _log_of(spec: MountSpec) -> IO[bytes]:
    """Raises AccessDenied, or Unsupported where only room is missing."""
    try:
        spec.log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(spec.log_file, "ab", opener=_private)
    except OSError as error:
        kind = Unsupported if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else AccessDenied
        raise kind(
            f"the log {spec.log_file} can't be written: {error.strerror}",
            remedy="choose another place by XDG_STATE_HOME",
        ) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
