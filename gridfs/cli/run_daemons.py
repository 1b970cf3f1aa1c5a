"""The daemons that serve a run's datastores: those that live, or new ones.

Asking the store and starting daemons takes trio and the store's client, which start threads; and a process with threads
may not enter a user namespace. So that work is done in a forked child, which reports through a pipe. Before that, a
daemon that lives already may answer for the store (mount/resolve): a run that only attaches imports neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from gridfs.cli.invocation import Invocation
from gridfs.config import CacheSettings, MountOptions
from gridfs.errors import GridfsError, Interrupted, limit_reached
from gridfs.model import Version, VersionSpec
from gridfs.mount.launch import expected_failure, failure_line
from gridfs.mount.quick import StartLock, start_lock_name
from gridfs.mount.registry import Registry
from gridfs.mount.resolve import resolved_by_a_daemon
from gridfs.mount.spec import MountRecord, from_json_value, to_json


def served(
    invocation: Invocation,
    specs: Sequence[VersionSpec],
    options: MountOptions,
    cache: CacheSettings,
    linger_s: float,
) -> list[MountRecord]:
    """A living daemon for each of *specs*, in their order. Raises what resolving or starting failed with."""
    return [_served(invocation, spec, options, cache, linger_s) for spec in specs]


def _served(
    invocation: Invocation, spec: VersionSpec, options: MountOptions, cache: CacheSettings, linger_s: float
) -> MountRecord:
    settings, paths = invocation.store_settings, invocation.paths
    found = resolved_by_a_daemon(settings, spec, options, paths)
    if found is not None:
        return found
    # Of a hundred runs that start at once, one takes the long way; for the others its daemon will answer.
    with _start_lock(invocation, spec):
        found = resolved_by_a_daemon(settings, spec, options, paths)
        return found if found is not None else _in_a_child(invocation, spec, options, cache, linger_s)


def _start_lock(invocation: Invocation, spec: VersionSpec) -> AbstractContextManager[object]:
    """The one that quick.py takes, or waits for; perhaps this process holds it since then."""
    runtime = invocation.paths.runtime
    name = start_lock_name(str(spec))
    if name is None:
        return Registry(runtime).starting("run-" + hashlib.sha256(os.fsencode(str(spec))).hexdigest()[:12])
    held = invocation.start_lock
    if held is not None and held.name == name:
        invocation.start_lock = None
        return held
    return StartLock(str(runtime), name)


def _in_a_child(
    invocation: Invocation, spec: VersionSpec, options: MountOptions, cache: CacheSettings, linger_s: float
) -> MountRecord:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _report(writing, lambda: _ensured(invocation, spec, options, cache, linger_s))
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        raise RuntimeError(f"the process that starts daemons ended with status {status} and said nothing")
    return _received(json.loads(answer))


def _report(descriptor: int, work: Any) -> None:
    """Ends this process after writing what *work* returned, or failed with."""
    try:
        try:
            line = to_json(work()).encode()
        except KeyboardInterrupt:  # the parent has it too, and says so
            line = failure_line(Interrupted("ended by SIGINT"))
        except BaseException as error:
            line = failure_line(error)
            if not isinstance(limit_reached(error) or error, GridfsError):
                sys.excepthook(type(error), error, error.__traceback__)
        os.write(descriptor, line)
    finally:
        sys.stderr.flush()
        os._exit(0)


def _received(answer: Any) -> MountRecord:
    if "error" not in answer:
        return from_json_value(MountRecord, answer)
    raise expected_failure(answer) or RuntimeError(answer["message"])


def _ensured(
    invocation: Invocation, spec: VersionSpec, options: MountOptions, cache: CacheSettings, linger_s: float
) -> MountRecord:
    from gridfs.mount.attach import ensure_daemon
    from gridfs.mount.namespace import check_allowed
    from gridfs.mount.requirements import check_allow_other, check_machine

    check_allowed()
    check_machine()
    if options.allow_other:
        check_allow_other()

    async def resolved() -> Version:
        async with invocation.open_catalog() as catalog:
            return await catalog.resolve(spec)

    version = invocation.run(resolved)
    return ensure_daemon(invocation.store_settings, version, options, cache, invocation.paths, linger_s=linger_s)
