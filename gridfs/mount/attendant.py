"""What a daemon answers to a run that asks for a datastore: which version is meant, and who serves it.

The run hands over what its user wrote and the settings of its environment; here they are read as the command itself
reads them (selection.py, config_file.py), with everything imported already. The store is asked anew for each run, so
that a version made a moment ago counts; but runs that ask at one time share a question: one that has not begun yet.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from gridfs.config import Environment, MountOptions, Paths, StoreSettings, check_memory_target, parse_size
from gridfs.config_file import ConfigFile, parse_config_file
from gridfs.errors import GridfsError
from gridfs.light import home_directory
from gridfs.model import Version, VersionSpec
from gridfs.mount.quick import KEY, KEYS
from gridfs.mount.registry import Owner, key_of
from gridfs.mount.spec import MountRecord, plain
from gridfs.names import parse_spec
from gridfs.selection import StoreFlags, select_store

log = logging.getLogger("gridfs.mount.attendant")

Resolve = Callable[[VersionSpec], Awaitable[Version]]


class SharedQuestions:
    """Asks *resolve* for whoever comes; those who come before a question has begun get its answer together."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._turns: dict[VersionSpec, trio.Lock] = {}
        self._next: dict[VersionSpec, _Question] = {}

    async def ask(self, spec: VersionSpec) -> Version:
        """The version that the store has for *spec* at some moment after this call. Raises GridfsError."""
        question = self._next.get(spec)
        if question is not None:
            await question.answered.wait()
            if question.answer is not None:
                return question.answer
            return await self._resolve(spec)  # whoever asked failed or was cancelled: an own failure says why
        question = self._next[spec] = _Question()
        turn = self._turns.setdefault(spec, trio.Lock())
        try:
            async with turn:
                del self._next[spec]
                question.answer = await self._resolve(spec)
        finally:
            if self._next.get(spec) is question:  # cancelled before its turn
                del self._next[spec]
            if not turn.statistics().tasks_waiting and not turn.locked():
                self._turns.pop(spec, None)
            question.answered.set()
        return question.answer


class _Question:
    """One question to the store, and all who wait for its answer."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Version | None = None


def store_of(request: Mapping[str, str]) -> StoreSettings | None:
    """The store that the command would select, had it been started where *request* was; None if that is unsure here.

    Raises GridfsError where the command would.
    """
    environment, paths = Environment.read(request), Paths.from_environment(dict(request))
    if environment.max_cache_size is not None:
        parse_size(environment.max_cache_size)
    if environment.memory_target is not None:
        check_memory_target(parse_size(environment.memory_target))
    if home_directory(request) != home_directory():
        return None  # `~` in an address or a setting means another directory
    file = ConfigFile(paths.config_file)
    if "config" in request:
        file = parse_config_file(Path(environment.config_file or paths.config_file), request["config"])
    named = environment.store
    if named is not None and "://" not in named and named not in file.stores and not named.startswith(("/", "~")):
        return None  # relative to the run's directory, and not to the daemon's
    return select_store(StoreFlags(), environment, file, paths).settings


def keys_for(request: Mapping[str, str], store: StoreSettings, version: Version) -> list[str]:
    """The keys of the daemons that may serve a run of *version* without options, best first."""
    owner = Owner(int(request["uid"]), int(request["gid"]), Environment.read(request).job)
    options = MountOptions.unsaid(owner.uid)
    return [key_of(store, version, options, lender) for lender in owner.lenders]


async def keys_asked_for(request: Mapping[str, str], own_store: StoreSettings, ask: Resolve) -> list[str]:
    """The keys for *request*; none when it is of another store, or the long way has to find out what is wrong."""
    if KEY in request:
        return [request[KEY]]
    try:
        if store_of(request) != own_store:
            return []
        return keys_for(request, own_store, await ask(parse_spec(request["datastore"])))
    except (GridfsError, KeyError, ValueError):
        return []


def answer_of(keys: list[str], record: MountRecord | None) -> dict[str, str]:
    """The answer to "attach", with the mount of the daemon that gives it, if that is among *keys*."""
    answer = {KEYS: " ".join(keys)} if keys else {}
    if record is not None:
        answer |= {"name": record.name, "version": str(record.version)}
        answer |= {"shown_path": str(record.shown_path), "shown_device": record.shown_device}
        answer |= {"is_image": "yes"} if record.is_image else {}
    return answer


async def resolved(request: Mapping[str, Any], own_store: StoreSettings, ask: Resolve) -> dict[str, Any]:
    """The answer to "resolve": the commit record, or nothing when it is another store's or can't be had."""
    if request["store"] != plain(own_store):
        return {}
    try:
        version = await ask(parse_spec(request["spec"]))
    except GridfsError as error:
        log.info("%s could not be resolved for a run: %s", request["spec"], error)
        return {}
    return {"version": plain(version)}
