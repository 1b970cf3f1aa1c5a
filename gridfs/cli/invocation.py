"""One run of `grid`: its global options, what they select, and how its work is run.

Commands get it with `@click.pass_obj`. They are plain functions; what is asynchronous they hand to `Invocation.run`,
which ends it in good order on Ctrl-C, SIGTERM and SIGHUP. A second signal ends the process at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gridfs.config import CacheSettings, Environment, Paths, StoreSettings, check_memory_target, parse_size
from gridfs.config_file import ConfigFile, read_config_file
from gridfs.errors import GridfsError, Interrupted, InvalidInput
from gridfs.light import expanded
from gridfs.selection import SelectedStore, StoreFlags, select_store

if TYPE_CHECKING:
    import trio

    from gridfs.catalog import Catalog
    from gridfs.mount.quick import StartLock
    from gridfs.store.base import ObjectStore
    from gridfs.store.retry import RetryPolicy

T = TypeVar("T")

LOOK_UP_PATIENCE_S = 5.0
"""At a prompt a store that is down is told of after this, and not after the 20 s of a read."""
UNREACHABLE_PATIENCE_S = 2.0
"""Where nobody is at the address of a store that has never answered, it is most likely mistyped."""


class Invocation:
    """Global options as they were given, and what follows from them. Everything is worked out when first asked for."""

    def __init__(self, environment: Environment | None = None, paths: Paths | None = None) -> None:
        self.environment = environment or Environment.read()
        self.paths = paths or Paths.from_environment()
        self.flags = StoreFlags()
        self.config_path: Path | None = None
        self.output = "console"
        self.debug = False
        self.start_lock: StartLock | None = None
        """What `quick_run` holds for `grid run`, which is to start a daemon."""

    @property
    def json(self) -> bool:
        """Whether the result is wanted as JSON."""
        return self.output == "json"

    @property
    def log_file(self) -> Path:
        """Where defects leave their traceback."""
        return self.paths.state / "log" / "grid.log"

    @cached_property
    def config_file(self) -> ConfigFile:
        asked_for = self.config_path or _named(self.environment.config_file)
        return read_config_file(asked_for or self.paths.config_file, required=asked_for is not None)

    @cached_property
    def selected_store(self) -> SelectedStore:
        return select_store(self.flags, self.environment, self.config_file, self.paths)

    @property
    def store_settings(self) -> StoreSettings:
        return self.selected_store.settings

    def cache_settings(
        self,
        directory: Path | None = None,
        max_size_bytes: int | None = None,
        memory_target_bytes: int | None = None,
    ) -> CacheSettings:
        """The caches, from the flags given here, the environment, the configuration file, defaults."""
        environment, file = self.environment, self.config_file
        settings = CacheSettings(
            (directory or _named(environment.cache_dir) or file.cache_directory or self.paths.cache).absolute(),
            _first(max_size_bytes, "GRIDFS_MAX_CACHE_SIZE", environment.max_cache_size, file.max_cache_size_bytes),
            _first(memory_target_bytes, "GRIDFS_MEMORY_TARGET", environment.memory_target, file.memory_target_bytes),
        )
        check_memory_target(settings.memory_target_bytes)
        return settings

    @asynccontextmanager
    async def open_store(self, *, patience_s: float | None = None) -> AsyncIterator[ObjectStore]:
        """The selected store with its retries and limits; closed at the end. *patience_s*: when to give up."""
        from gridfs.store.stack import open_store

        store = await open_store(self.store_settings, retry=retry_policy(patience_s))
        try:
            yield store
        finally:
            await store.aclose()

    @asynccontextmanager
    async def open_catalog(self, *, patience_s: float | None = None) -> AsyncIterator[Catalog]:
        from gridfs.catalog import Catalog

        async with self.open_store(patience_s=patience_s) as store:
            yield Catalog(store)

    def run(
        self, work: Callable[[], Awaitable[T]], *, after_signal: str | None = None, clock: trio.abc.Clock | None = None
    ) -> T:
        """Runs *work* under trio. A signal cancels it and raises Interrupted with *after_signal* as the remedy."""
        import trio

        from gridfs.observe import set_up_logging

        set_up_logging(stream=sys.stderr if self.debug else None, level="DEBUG")
        received: list[signal.Signals] = []

        async def watched() -> T:
            async with trio.open_nursery() as nursery:
                await nursery.start(_cancel_on_signal, nursery.cancel_scope, received, name="signals")
                result = await work()
                nursery.cancel_scope.cancel()
            return result

        try:
            result = trio.run(watched, clock=clock)
        except BaseException as error:
            cause = single_cause(error)
            if received or isinstance(cause, KeyboardInterrupt):
                name = received[0].name if received else "SIGINT"
                raise Interrupted(f"ended by {name}", remedy=after_signal) from error
            raise cause from cause.__cause__
        if received:
            raise Interrupted(f"ended by {received[0].name}", remedy=after_signal)
        return result


async def _cancel_on_signal(
    scope: trio.CancelScope, received: list[signal.Signals], *, task_status: trio.TaskStatus[None]
) -> None:
    """Cancels *scope* at the first SIGINT, SIGTERM or SIGHUP; under nohup SIGHUP stays ignored."""
    import trio

    wanted = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if _is_heeded(number)]
    with trio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for number in signals:
            received.append(signal.Signals(number))
            break
    # The receiver has put the handlers back, so a second signal ends the process at once.
    scope.cancel()


def retry_policy(patience_s: float | None = None) -> RetryPolicy:
    """Of a store while someone waits for the command; *patience_s*: when to give up."""
    from gridfs.store.retry import RetryPolicy

    policy = RetryPolicy(unreachable_deadline_s=UNREACHABLE_PATIENCE_S)
    return policy if patience_s is None else replace(policy, deadline_s=patience_s)


def single_cause(error: BaseException) -> BaseException:
    """What a group of exceptions is about: a defect if there is one, else the first expected failure."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [single_cause(inner) for inner in error.exceptions]
    expected = [leaf for leaf in leaves if isinstance(leaf, GridfsError)]
    defects = [leaf for leaf in leaves if not isinstance(leaf, GridfsError | KeyboardInterrupt)]
    return (defects or expected or leaves)[0]


def _is_heeded(number: signal.Signals) -> bool:
    return signal.getsignal(number) is not signal.SIG_IGN


def _named(path: str | None) -> Path | None:
    """What an environment variable names."""
    return None if path is None else Path(expanded(path))


def _first(flag: int | None, variable: str, value: str | None, setting: int | None) -> int | None:
    """The size that counts: the flag's, the environment variable's, the configuration file's."""
    if flag is not None or value is None:
        return setting if flag is None else flag
    try:
        return parse_size(value)
    except InvalidInput as error:
        raise InvalidInput(f"{variable}: {error.message}", remedy=error.remedy) from error
