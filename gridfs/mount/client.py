"""Mounting, unmounting and looking, as the commands ask for it. Everything here is synchronous and starts no threads.

mount     clean what crashes left -> what is at the path? -> under the path's lock, the key's, and one that keeps the
          path from being removed: what is there now, and is there a daemon to share?
          yes: show its file system at the path too (who may not mount starts another on the same cache)
          no:  start one
unmount   take the path away; when it was the last one, the daemon takes its hidden mount away and ends
status    the registry, the mount table, and what each daemon says
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from gridfs.config import CacheSettings, MountOptions, Paths, StoreSettings
from gridfs.errors import AccessDenied, Busy, GridfsError, InvalidInput, NotFound, StoreUnavailable
from gridfs.model import Version, VersionSpec
from gridfs.mount import control, launch, veil
from gridfs.mount.attach import new_spec, owner, share, start
from gridfs.mount.handed_in import check as check_descriptor
from gridfs.mount.handed_in import descriptor_of
from gridfs.mount.holders import described, holders
from gridfs.mount.leftovers import leftovers_of
from gridfs.mount.mountpoint import Target, absolute, default_target, is_disconnected, is_ours, prepared, refuse_other
from gridfs.mount.mounts import Mounted, current, top_at
from gridfs.mount.registry import HIDDEN, Registry, is_seen, key_of
from gridfs.mount.requirements import check_allow_other, check_machine
from gridfs.mount.spec import MountRecord, from_json_value
from gridfs.mount.syscalls import may_mount
from gridfs.mount.veil import SOURCE_PREFIX
from gridfs.names import parse_spec

END_TIMEOUT_S = 10.0
"""An unmount waits this long for the daemon to end; one that a run still holds ends with the run."""

SWEEP_PATIENCE_S = 1.0
"""Others that start mounts keep an unmount from removing the directory that was made for it: usually this long at most.
"""

LAZY_END_TIMEOUT_S = 1.0
"""Long enough for a daemon that nobody holds; with --lazy somebody usually does."""


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What `grid mount` asks for."""

    store: StoreSettings
    version: Version
    cache: CacheSettings
    options: MountOptions
    path: Path | None = None
    """None: `/datastores/<name>`."""
    foreground: bool = False


@dataclass(frozen=True, slots=True)
class MountStatus:
    """One daemon, living or dead."""

    mount_id: str
    state: str
    """`mounted`, `starting`, `leaving` (detached, and held by someone), `silent` (does not answer), `dead`."""
    record: MountRecord | None
    """None while it starts, or when a crash left none."""
    paths: tuple[Path, ...]
    """Where it is seen from here, its hidden mountpoint aside."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What the daemon says of itself (control.py)."""


def mount(request: MountRequest, paths: Paths) -> Path:
    """Mounts a version; the path at which it is seen when this returns. With `foreground` it does not return.

    Mounting what is mounted there already is no error. Raises GridfsError.
    """
    descriptor = descriptor_of(request.path)
    if descriptor is not None:
        check_descriptor(descriptor, foreground=request.foreground)
        _serve_handed_in(request, paths, descriptor)
    check_machine()
    if request.options.allow_other:
        check_allow_other()
    version, registry = request.version, Registry(paths.runtime)
    registry.clean_dead(veil.detach)
    wanted = absolute(request.path if request.path is not None else default_target(version.name))
    if _is_there(registry, wanted, request):
        return wanted
    cache = request.cache.directory
    if cache.is_relative_to(wanted):
        raise InvalidInput(
            f"the mount at {wanted} would hide the cache {cache}", remedy="name another directory by --cache-dir"
        )
    key = key_of(request.store, version, request.options, owner())
    leftovers = leftovers_of(paths.runtime)
    attaching = leftovers.attaching([str(wanted)])
    with registry.taking(wanted) as taken, registry.starting(key) as lock:
        if _is_there(registry, wanted, request):  # since a moment: by a starter that was waited for, or its daemon
            return wanted
        with attaching, prepared(request.path, version.name) as target:
            if target.made:
                leftovers.note(str(target.path))
            usable = registry.usable(key, current()) if may_mount() and not request.foreground else []
            if any(share(registry, record, target.path, request.options) for record in usable):
                return target.path
            store, cached, options = request.store, request.cache, request.options
            spec = new_spec(registry, key, store, version, paths, cached, options, target=target, linger_s=None)
            locks = [taken, lock, *attaching.descriptors]
            if request.foreground:
                launch.become(spec, locks)
            try:
                start(registry, spec, locks)
            except BaseException:
                with suppress(GridfsError):
                    _top_without_remains(target.path)  # it may have died, or not have had a descriptor to unmount by
                raise
    return target.path


def _serve_handed_in(request: MountRequest, paths: Paths, descriptor: int) -> NoReturn:
    registry, version = Registry(paths.runtime), request.version
    key = key_of(request.store, version, request.options, owner())
    target = Target(Path(f"/dev/fd/{descriptor}"), made=False)
    with registry.starting(key) as lock:
        spec = new_spec(
            registry, key, request.store, version, paths, request.cache, request.options, target=target, linger_s=None
        )
        os.set_inheritable(descriptor, True)
        launch.become(spec, [lock])


def _is_there(registry: Registry, path: Path, request: MountRequest) -> bool:
    """Whether *path* shows what is asked for. Takes a dead daemon's remains away; raises Busy for another version."""
    mounted = _top_without_remains(path)
    if mounted is None or not is_ours(mounted):
        return False
    wanted = f"{request.version.name}@{request.version.version}"
    refuse_other(path, mounted.source.removeprefix(SOURCE_PREFIX), wanted)
    record = next((record for record in registry.living() if _shows(record, path)), None)
    holds = f"{wanted} of {'another user, or another XDG_RUNTIME_DIR' if record is None else record.store_url}"
    refuse_other(path, holds, f"{wanted} of {request.store.url}")
    return True


def _top_without_remains(path: Path) -> Mounted | None:
    """What is mounted at *path* after the remains of dead daemons were taken away from there."""
    while True:
        mounts = current()
        mounted = top_at(path, mounts)
        if mounted is None or not is_ours(mounted) or not is_disconnected(mounted, mounts):
            return mounted
        _hide(path, lazy=True)


def unmount(what: str, paths: Paths, *, lazy: bool = False) -> list[Path]:
    """Unmounts the path *what*, or every path of the datastore `NAME[@VERSION]`; the paths. Raises NotFound or Busy."""
    registry = Registry(paths.runtime)
    cleaned = registry.clean_dead(veil.detach)
    targets = _targets(what, registry, cleaned)
    for target in targets:
        if top_at(target, current()) is None:
            continue  # a dead daemon's, and gone already
        shown = top_at(target, current())
        of = next((record for record in registry.living() if shown is not None and _shows(record, target)), None)
        _hide(target, lazy=lazy)
        if of is not None and not _paths_of(of):
            _end(registry, of, LAZY_END_TIMEOUT_S if lazy else END_TIMEOUT_S)
    leftovers_of(paths.runtime).sweep(SWEEP_PATIENCE_S)
    return targets


def _targets(what: str, registry: Registry, cleaned: list[MountRecord]) -> list[Path]:
    path = absolute(Path(what))
    if path in (record.target for record in cleaned):
        return [path]
    mounted = top_at(path, current())
    if "/" in what or what in (".", "..") or mounted is not None:
        if mounted is None:
            raise NotFound(f"nothing is mounted at {path}", remedy="grid status shows what is mounted")
        if not is_ours(mounted):
            raise InvalidInput(
                f"{path} is no mount of gridfs but {mounted.fstype}",
                remedy="name a mount of gridfs; grid status shows them",
            )
        return [path]
    spec = parse_spec(what)
    found = [record.target for record in cleaned if record.target is not None and _is_meant(record, spec)]
    found += [path for record in registry.living() if _is_meant(record, spec) for path in _paths_of(record)]
    if not found:
        raise NotFound(f"{spec} is not mounted by you on this machine", remedy="grid status shows what is mounted")
    return found


def _is_meant(record: MountRecord, spec: VersionSpec) -> bool:
    return record.name == spec.name and spec.version in (None, record.version)


def _paths_of(record: MountRecord) -> list[Path]:
    """Where a daemon's file system is seen from here, its hidden mountpoint aside; the topmost first."""
    mounts = current()
    found = [mounted.mountpoint for mounted in record.uses_in(mounts)]
    if record.fuse_path == record.target and is_seen(record, mounts):
        found.append(record.fuse_path)
    return found[::-1]


def _shows(record: MountRecord, path: Path) -> bool:
    return path in _paths_of(record)


def _hide(path: Path, *, lazy: bool) -> None:
    try:
        veil.hide(path, lazy=lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Busy(
                f"{path} is in use by {described(holders(path))}", remedy=f"end that, or: grid unmount --lazy {path}"
            ) from error
        raise AccessDenied(
            f"{path} can't be unmounted: {error.strerror}", remedy="unmount as the user who mounted it"
        ) from error


def _end(registry: Registry, record: MountRecord, timeout_s: float) -> None:
    """Lets the daemon go and waits for its end, if nobody else holds its file system."""
    deadline = time.monotonic() + timeout_s
    try:
        is_hidden = may_mount() and record.fuse_path != record.target
        if is_hidden and not control.ask(registry.directory_of(record.mount_id), "release")["released"]:
            return  # somebody has just mounted it at another path
    except StoreUnavailable:
        pass  # it ends faster than it answers; or it is silent, which has taken the time, and `grid status` shows it
    registry.wait_for_end(record.mount_id, deadline - time.monotonic())


def status(paths: Paths) -> list[MountStatus]:
    """All daemons of this user, and the remains of dead ones."""
    registry = Registry(paths.runtime)
    return [_status_of(registry, mount_id) for mount_id in registry.mount_ids()]


def unregistered(known: Sequence[MountStatus]) -> list[Mounted]:
    """This user's mounts that none of *known* serves: XDG_RUNTIME_DIR was another, or the end of a login removed it.

    Those of daemons with a hidden mountpoint (root's, and of runs) are left out.
    """
    if any(status.record is None for status in known):
        return []  # one that is just starting
    mounts = current()
    others = {status.record.fuse_device for status in known if status.record is not None}
    others |= {mounted.device for mounted in mounts if mounted.mountpoint.match(f"mounts/*/{HIDDEN}")}
    return [
        mounted
        for mounted in mounts
        if mounted.is_fuse
        and is_ours(mounted)
        and mounted.device not in others
        and f"user_id={os.geteuid()}" in mounted.super_options.split(",")
    ]


def _status_of(registry: Registry, mount_id: str) -> MountStatus:
    record = registry.record(mount_id)
    shown = tuple(_paths_of(record)) if record is not None else ()
    if not registry.is_alive(mount_id):
        return MountStatus(mount_id, "dead", record, shown)
    try:
        detail = control.ask(registry.directory_of(mount_id), "status")
    except GridfsError:
        return MountStatus(mount_id, "silent" if record is not None else "starting", record, shown)
    state = "mounted" if record is not None else "leaving" if detail.get("released") else "starting"
    told = detail.pop("record", None)  # one that leaves has taken its file away
    if record is None and told is not None:
        record = from_json_value(MountRecord, told)
    return MountStatus(mount_id, state, record, shown, detail)
