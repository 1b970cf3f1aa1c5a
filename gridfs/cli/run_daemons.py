"""The daemons that serve a run's datastores: those that live, or new ones.

Asking the store and starting daemons takes trio and the store's client, which start threads; and a process with threads
may not enter a user namespace. So that work is done in a forked child, which reports through a pipe. Before that, a
daemon that lives already may answer for the store (mount/resolve): a run that only attaches imports neither.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from gridfs.cli.invocation import Invocation
from gridfs.config import CacheSettings, MountOptions
from gridfs.errors import GridfsError
from gridfs.model import VersionSpec
from gridfs.mount.launch import expected_failure, failure_line
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
    settings, paths = invocation.store_settings, invocation.paths
    found = [resolved_by_a_daemon(settings, spec, options, paths) for spec in specs]
    missing = [spec for spec, record in zip(specs, found, strict=True) if record is None]
    started = iter(_in_a_child(invocation, missing, options, cache, linger_s) if missing else ())
    return [record if record is not None else next(started) for record in found]


def _in_a_child(
    invocation: Invocation,
    specs: Sequence[VersionSpec],
    options: MountOptions,
    cache: CacheSettings,
    linger_s: float,
) -> list[MountRecord]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _report(writing, lambda: _ensured(invocation, specs, options, cache, linger_s))
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
            line = json.dumps([json.loads(to_json(record)) for record in work()]).encode()
        except BaseException as error:
            line = failure_line(error)
            if not isinstance(error, GridfsError):
                sys.excepthook(type(error), error, error.__traceback__)
        os.write(descriptor, line)
    finally:
        sys.stderr.flush()
        os._exit(0)


def _received(answer: Any) -> list[MountRecord]:
    if isinstance(answer, list):
        return [from_json_value(MountRecord, daemon) for daemon in answer]
    raise expected_failure(answer) or RuntimeError(answer["message"])


def _ensured(
    invocation: Invocation,
    specs: Sequence[VersionSpec],
    options: MountOptions,
    cache: CacheSettings,
    linger_s: float,
) -> list[MountRecord]:
    from gridfs.mount.attach import ensure_daemon
    from gridfs.mount.namespace import check_allowed
    from gridfs.mount.requirements import check_allow_other, check_machine

    check_allowed()
    check_machine()
    if options.allow_other:
        check_allow_other()

    async def versions() -> list[Any]:
        async with invocation.open_catalog() as catalog:
            return [await catalog.resolve(spec) for spec in specs]

    settings, paths = invocation.store_settings, invocation.paths
    return [
        ensure_daemon(settings, version, options, cache, paths, linger_s=linger_s)
        for version in invocation.run(versions)
    ]
