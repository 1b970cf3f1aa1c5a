"""Finding a daemon to share, or starting one: what `grid mount` and `grid run` have in common.

A daemon may be shared by whoever asks for the same version of the same store with the same look (registry.key_of), as
the same user and group, and sees its mount from where they are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from gridfs.config import CacheSettings, Environment, MountOptions, Paths, StoreSettings
from gridfs.errors import StoreUnavailable, Unsupported
from gridfs.model import Version
from gridfs.mount import control, launch, veil
from gridfs.mount.mountpoint import Target
from gridfs.mount.mounts import current
from gridfs.mount.registry import EMPTY, Owner, Registry, key_of
from gridfs.mount.spec import MountRecord, MountSpec

KILLED_S = 1.0
"""A process that was killed has let go of everything within this, unless the machine is in trouble."""


def owner() -> Owner:
    """Whose daemon this process would start."""
    return Owner(os.geteuid(), os.getegid(), Environment.read().job)


def find_daemon(store: StoreSettings, version: Version, options: MountOptions, paths: Paths) -> MountRecord | None:
    """A living daemon that may be shared, told that it is wanted; None when there is none. A few milliseconds."""
    registry = Registry(paths.runtime)
    mounts = current()
    keys = [key_of(store, version, options, lender) for lender in owner().lenders]
    for record in (record for key in keys for record in registry.usable(key, mounts)):
        if record.linger_s is None:
            return record
        try:
            answer = control.ask(registry.directory_of(record.mount_id), "use")
        except StoreUnavailable:
            continue
        if not answer["released"]:
            return record
    return None


def ensure_daemon(
    store: StoreSettings,
    version: Version,
    options: MountOptions,
    cache: CacheSettings,
    paths: Paths,
    *,
    linger_s: float | None,
) -> MountRecord:
    """A daemon for a run: shared, or started without a visible path and with *linger_s*. Two callers get one.

    What to show is at the record's `shown_path`. Raises what the daemon failed with.
    """
    found = find_daemon(store, version, options, paths)
    if found is not None:
        return found
    registry = Registry(paths.runtime)
    registry.clean_dead(veil.detach)
    key = key_of(store, version, options, owner())
    with registry.starting(key) as lock:
        found = find_daemon(store, version, options, paths)
        if found is not None:
            return found
        spec = new_spec(registry, key, store, version, paths, cache, options, target=None, linger_s=linger_s)
        return start(registry, spec, [lock])


def new_spec(
    registry: Registry,
    key: str,
    store: StoreSettings,
    version: Version,
    paths: Paths,
    cache: CacheSettings,
    options: MountOptions,
    *,
    target: Target | None,
    linger_s: float | None,
) -> MountSpec:
    """The spec of a new daemon, its directory made. To be called under `registry.starting(key)`."""
    mount_id = registry.new_mount_id(key)
    return MountSpec(
        mount_id=mount_id,
        store=store,
        version=version,
        directory=registry.directory_of(mount_id),
        target=target.path if target is not None else None,
        target_made=target is not None and target.made,
        log_file=paths.state / "log" / f"{mount_id}.log",
        cache=cache,
        options=options,
        linger_s=linger_s,
    )


def start(registry: Registry, spec: MountSpec, locks: Sequence[int]) -> MountRecord:
    """Starts the daemon of *spec*; of one that fails nothing remains. To be called under `registry.starting`.

    *locks*, that of `registry.starting` among them, are held by the daemon too until it is ready: whoever waits for it
    may be killed, and the next one would take its directory for remains and give it to a second daemon.
    """
    try:
        return launch.start(spec, locks)
    except BaseException:
        registry.clean(spec.mount_id, veil.detach)
        raise


def share(registry: Registry, record: MountRecord, target: Path, options: MountOptions) -> bool:
    """Shows a living daemon's file system at *target* too, for good. For one who may mount.

    False when the daemon is about to leave, or has just ended or been killed. Raises StoreUnavailable when it does not
    answer.
    """
    directory = registry.directory_of(record.mount_id)
    try:
        if control.ask(directory, "keep")["released"]:
            return False
    except StoreUnavailable:
        # The kernel closes a killed daemon's socket before it frees its lock, by which it counted as alive.
        if registry.wait_for_end(record.mount_id, KILLED_S):
            return False
        raise
    shown = record.uses_in(current())
    try:
        if shown:
            veil.bind(shown[0].mountpoint, target)
        elif record.tree_path is not None:
            veil.bind(record.tree_path, target)
        else:
            source = veil.source_of(record.label)
            veil.show(record.fuse_path, directory / EMPTY, target, source, veil=veil.refusal(options) is None)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTCONN):  # ended, or unmounted at the path that was to be shown
            return False
        raise Unsupported(f"{target} can't be mounted on: {error.strerror}") from error
    return True
