"""`grid run` as most write it, without click: 80 ms of CPU become 15. Light: see gridfs/light.py.

    grid run --datastore_name NAME[@VERSION][:DIR] [--datastore_version V] [--datastore_mount_dir D] ... [--] COMMAND

Where that is all that was said, and a daemon lives that serves it, this process becomes the command at once. In every
other case (other options, a mistake, no daemon) nothing has been done or said, and the command tree (app.py) starts
from the beginning. What the words mean is decided by the same functions for both (run_request.py, and in the daemon
selection.py); tests/unit/test_quick_run.py holds them against each other.
"""

from __future__ import annotations

import os
import sys

from gridfs.cli.run_request import NAME, OPTIONS, Given, assign, highest_taken, mount_path
from gridfs.errors import GridfsError
from gridfs.light import COMPLETION, LightRecord, config_path, runtime_directory, settings_of_environment
from gridfs.mount.quick import Served, StartLock, served, served_or_locked
from gridfs.mount.runs import replace_process
from gridfs.mount.view import Placement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridfs.cli.run_request import RequestedDatastore

CONFIG_LIMIT_BYTES = 64 * 1024


class QuickRun(LightRecord):
    """A command line that was understood."""

    __slots__ = ("command", "datastores")

    def __init__(self, datastores: list[RequestedDatastore], command: list[str]) -> None:
        self.datastores = datastores
        self.command = command


def quick_run(words: Sequence[str]) -> StartLock | None:
    """Becomes the command of *words*, or returns: with the lock for starting the daemon that was missed, if it was."""
    try:
        return _found_and_run(words)
    except BaseException as error:
        raise SystemExit(_ended_with(error)) from None


def _found_and_run(words: Sequence[str]) -> StartLock | None:
    run = recognised(words)
    environ = settings_of_environment()
    if run is None or environ.get(COMPLETION):
        return None
    runtime = runtime_directory(environ)
    try:
        paths = [mount_path(request) for request in run.datastores]
        question = {"do": "attach", "uid": str(os.geteuid()), "gid": str(os.getegid()), **environ, **_config(environ)}
        daemons = []
        for request in run.datastores:
            found = _daemon(runtime, question, request)
            if not isinstance(found, Served):
                return found
            daemons.append(found)
    except (GridfsError, OSError, ValueError):
        return None  # the long way says what is wrong
    for request, path, daemon in zip(run.datastores, paths, daemons, strict=True):
        if request.version is None:
            _say(highest_taken(request.name, daemon.version, path))
    placements = [
        Placement(daemon.label, path, daemon.shown_path, daemon.is_image)
        for path, daemon in zip(paths, daemons, strict=True)
    ]
    return replace_process(placements, run.command, runtime)


def recognised(words: Sequence[str]) -> QuickRun | None:
    """What *words* ask for, when it is what is done here; None for everything else."""
    if words[:1] != ["run"]:
        return None
    given = []
    rest = list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        spelling, equals, value = word.partition("=")
        if spelling not in OPTIONS or not (equals or rest):
            return None
        if not equals:
            value = rest.pop(0)
        if value.startswith("-") or not value.isprintable():
            return None
        given.append(Given(OPTIONS[spelling], value))
    if not rest or not any(each.option == NAME for each in given):
        return None
    try:
        return QuickRun(assign(given), rest)
    except GridfsError:
        return None


def _daemon(runtime: str, question: dict[str, str], request: RequestedDatastore) -> Served | StartLock | None:
    asked = question | {"datastore": request.label}
    return served_or_locked(runtime, request.label, lambda: served(runtime, asked, request.name))


def _config(environ: dict[str, str]) -> dict[str, str]:
    """The text of the configuration file, as a field; nothing where there is none. Raises OSError or ValueError."""
    try:
        with open(config_path(environ), encoding="utf-8") as file:
            text = file.read(CONFIG_LIMIT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if environ.get("GRIDFS_CONFIG"):
            raise
        return {}
    if len(text) > CONFIG_LIMIT_BYTES:
        raise ValueError("more than one would send")
    return {"config": text}


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
    except OSError:  # nobody can read it any more (a lost terminal)
        pass


def _ended_with(error: BaseException) -> int:
    """As every command ends; it is none that is in a hurry."""
    from gridfs.cli.failures import end_with
    from gridfs.cli.invocation import Invocation

    return end_with(error, Invocation())
