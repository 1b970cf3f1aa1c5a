"""Entering a run's private view: a mount namespace (and, for an ordinary user, a user namespace) of its own.

`enter` changes the calling process for good and starts none; whoever called it then execs the run's command, so a
scheduler sees the job itself. Order of the acts, each needing the one before:

1. unshare. An ordinary user takes a user namespace with the mount namespace and keeps uid and gid (each mapped to
   itself). The process must have one thread: nothing that starts threads (obstore) may have run in it.
2. All mounts become slaves: what the host mounts later still appears, what the run mounts stays its own.
3. Directories of the plan are rebuilt on tmpfs (mount/view says when). `/` itself takes pivot_root(2).
4. Each datastore is attached at its path, under the veil where the kernel grants it (mount/veil).
5. An ordinary user keeps CAP_SYS_ADMIN over the new namespace across exec, and only that: it lets `grid mount` and a
   nested `grid run` work inside, where fusermount3 has lost its setuid bit.

Light: see gridfs/light.py.
"""

from __future__ import annotations

import os
import stat

from gridfs.errors import Busy, InvalidInput, Unsupported
from gridfs.mount import syscalls
from gridfs.mount.syscalls import MountFlag, UmountFlag, may_mount
from gridfs.mount.veil import show, source_of
from gridfs.mount.view import UNANSWERED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gridfs.mount.view import Placement, Rebuilt, ViewPlan

REBUILT_ENTRIES_MAX = 1000
"""Each entry of a rebuilt directory is a bind mount of some 20 us; a directory with more is somebody's data."""

_TMPFS_FLAGS = MountFlag.NOSUID | MountFlag.NODEV


def enter(plan: ViewPlan, scratch: str, *, veil: bool = True) -> None:
    """Moves this process into a namespace of its own where *plan* holds.

    *scratch* is an existing directory of this user's, used as a mountpoint inside the namespace only. The directories
    that the plan makes on the host must exist already. Raises Unsupported when the kernel denies namespaces,
    InvalidInput when a directory can't be rebuilt, or the current one not be entered, and OSError when there is none.
    """
    directory = os.getcwd()
    unprivileged = not may_mount()
    _unshare(with_user_namespace=unprivileged)
    syscalls.mount("none", "/", None, MountFlag.REC | MountFlag.SLAVE)
    empty = f"{scratch}/empty"  # overlayfs wants a second layer
    _make_directory(empty)
    for rebuilt in plan.rebuilt:
        try:
            if rebuilt.directory == "/":
                _rebuild_root(rebuilt, f"{scratch}/root")
            else:
                _rebuild(rebuilt)
        except OSError as error:  # /proc: once it is covered, nothing of it is found any more
            raise _not_rebuilt(rebuilt, str(error.strerror)) from error
    for placement in plan.placements:
        _attach(placement, empty, veil=veil)
    try:
        os.chdir(directory)  # through the new mounts: the old directory still points below them
    except OSError as error:
        raise InvalidInput(
            f"the current directory {directory} can't be entered in the run ({error.strerror})",
            remedy="start it from another one; what is mounted above it hides it, and not all may enter all of them",
        ) from error
    if unprivileged:
        syscalls.keep_only_capability_across_exec(syscalls.CAP_SYS_ADMIN)


def check_allowed() -> None:
    """Raises Unsupported where `enter` would for want of namespaces; a child tries it, before anything is started."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _unshare(with_user_namespace=not may_mount())
            status = 0
        except Unsupported as error:
            cause = error.__cause__
            status = (cause.errno if isinstance(cause, OSError) else None) or 1
        finally:
            os._exit(status)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise _denied(os.strerror(number), with_user_namespace=not may_mount())


def _unshare(*, with_user_namespace: bool) -> None:
    uid, gid = os.geteuid(), os.getegid()
    flags = syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if with_user_namespace else 0)
    try:
        syscalls.unshare(flags)
        if with_user_namespace:
            # setgroups must be given up before an ordinary user may map a gid (user_namespaces(7)).
            for name, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
    except OSError as error:
        raise _denied(str(error.strerror), with_user_namespace=with_user_namespace) from error


def _denied(reason: str, *, with_user_namespace: bool) -> Unsupported:
    what = "user and mount namespaces" if with_user_namespace else "mount namespaces"
    return Unsupported(
        f"this machine doesn't let you make {what} ({reason})",
        remedy="ask the administrator to allow unprivileged user namespaces (sysctl user.max_user_namespaces > 0, "
        "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), "
        "or mount on the host: grid mount NAME",
    )


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        pass


def _attach(placement: Placement, empty: str, *, veil: bool) -> None:
    try:
        wanted = veil and not placement.is_image
        show(placement.source, empty, placement.path, source_of(placement.label), veil=wanted)
    except OSError as error:
        if not os.path.ismount(placement.source):
            raise Busy(
                f"{placement.label} was unmounted while the run began",
                remedy="start it again, when nobody unmounts it",
            ) from error
        raise InvalidInput(
            f"{placement.label} can't be mounted at {placement.path}: {error.strerror}",
            remedy="choose another directory by --datastore_mount_dir",
        ) from error


def _rebuild(rebuilt: Rebuilt) -> None:
    """Covers a directory with a copy of itself made of bind mounts, plus what was missing."""
    directory = rebuilt.directory
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        before = f"/proc/self/fd/{descriptor}"
        names, status = _listing(rebuilt, before), os.stat(before)
        syscalls.mount("gridfs", directory, "tmpfs", _TMPFS_FLAGS, f"mode={stat.S_IMODE(status.st_mode):o}")
        for name in names:
            _reproduce(f"{before}/{name}", f"{directory}/{name}")
        _finish(rebuilt, lambda path: path, directory, status)
    finally:
        os.close(descriptor)


def _rebuild_root(rebuilt: Rebuilt, new: str) -> None:
    """As _rebuild for `/`, which can't be covered in place: the copy is made at *new* and becomes the root."""
    _make_directory(new)
    names, status = _listing(rebuilt, "/"), os.stat("/")
    syscalls.mount("gridfs", new, "tmpfs", _TMPFS_FLAGS, f"mode={stat.S_IMODE(status.st_mode):o}")
    syscalls.mount("none", new, None, MountFlag.UNBINDABLE)  # or the recursive binds below would copy it into itself
    for name in names:
        _reproduce(f"/{name}", f"{new}/{name}")
    _finish(rebuilt, lambda path: f"{new}{path}", new, status)
    os.chdir(new)
    # pivot_root(".", ".") stacks the old root on the new one, from where it can be dropped (pivot_root(2), NOTES).
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", UmountFlag.DETACH)
    os.chdir("/")


def _listing(rebuilt: Rebuilt, path: str) -> list[str]:
    try:
        names = os.listdir(path)
    except OSError as error:
        names, reason = [], error.strerror
    else:
        reason = f"it has {len(names)} entries" if len(names) > REBUILT_ENTRIES_MAX else None
    if reason is not None:
        raise _not_rebuilt(rebuilt, reason)
    return names


def _not_rebuilt(rebuilt: Rebuilt, reason: str) -> InvalidInput:
    return InvalidInput(
        f"{rebuilt.missing[0]} can't be made in {rebuilt.directory} ({reason})",
        remedy="choose an existing directory by --datastore_mount_dir",
    )


def _reproduce(source: str, target: str) -> None:
    try:
        mode = os.lstat(source).st_mode
    except OSError as error:
        if error.errno not in UNANSWERED:
            raise
        mode = stat.S_IFDIR
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    syscalls.mount(source, target, None, MountFlag.BIND | MountFlag.REC)


def _finish(rebuilt: Rebuilt, place: Callable[[str], str], top: str, status: os.stat_result) -> None:
    for path in rebuilt.missing:
        os.mkdir(place(path), 0o755)
    os.utime(top, ns=(status.st_atime_ns, status.st_mtime_ns))
    syscalls.mount("none", top, None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY | _TMPFS_FLAGS)
