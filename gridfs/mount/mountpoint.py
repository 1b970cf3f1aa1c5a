"""The place where a datastore shall be seen: which one, whether it can be taken, and what is there already."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gridfs.errors import AccessDenied, Busy, InvalidInput, NotFound
from gridfs.mount import view
from gridfs.mount.mounts import Mounted
from gridfs.mount.veil import SOURCE_PREFIX

DATASTORES = Path(view.DATASTORES)

PROBE_TIMEOUT_S = 5.0
"""A daemon that hangs would keep a statfs for ever; a dead one answers at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """A directory to mount on."""

    path: Path
    """Absolute and without links, as mountinfo will have it."""
    made: bool
    """It was made for this, and is to be removed with the mount."""


def absolute(path: Path) -> Path:
    """*path* as mountinfo will name it. Its last component is not followed: that may be a dead mount."""
    path = Path(os.path.abspath(path))
    if os.path.islink(path):  # Path.is_symlink raises what a dead mount answers, and what somebody else's does
        path = Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def default_target(name: str) -> Path:
    return DATASTORES / name


@contextmanager
def prepared(path: Path | None, name: str) -> Iterator[Target]:
    """An empty directory to mount on: *path*, which must exist, or `/datastores/<name>`, which is made.

    Raises NotFound, InvalidInput, Busy or AccessDenied. A directory that was made goes again if the body raises.
    """
    made = False
    if path is None:
        path, made = _made(default_target(name), name)
        remedy = two_remedies(name)
    else:
        remedy = "name a directory of yours"
    target = Target(absolute(path), made)
    try:
        _check(target.path, remedy)
        yield target
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                target.path.rmdir()
        raise


def _made(path: Path, name: str) -> tuple[Path, bool]:
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.mkdir(mode=0o755)
    except FileExistsError:
        return path, False
    except OSError as error:
        raise AccessDenied(
            f"{path} can't be made ({error.strerror})",
            remedy=two_remedies(name),
        ) from error
    return path, True


def two_remedies(name: str) -> str:
    """For one who may not mount below /datastores."""
    return (
        f"have an administrator make {DATASTORES} yours (sudo install -d -o $USER {DATASTORES}), "
        f"or name a directory: grid mount {name} DIR"
    )


def _check(path: Path, remedy: str) -> None:
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise NotFound(f"the mountpoint {path} does not exist", remedy=f"make it: mkdir -p {path}") from None
    except NotADirectoryError:
        raise InvalidInput(f"the mountpoint {path} is not a directory", remedy="name a directory") from None
    except OSError as error:
        raise AccessDenied(f"the mountpoint {path} can't be read: {error.strerror}", remedy=remedy) from error
    if names:
        raise InvalidInput(
            f"the mountpoint {path} is not empty, and a mount would hide what is in it",
            remedy="name an empty directory",
        )
    if not os.access(path, os.W_OK):
        raise AccessDenied(f"the mountpoint {path} is not yours", remedy=remedy)


def is_ours(mounted: Mounted) -> bool:
    return mounted.source.startswith(SOURCE_PREFIX)


def refuse_other(path: Path, holds: str, wanted: str) -> None:
    """Raises Busy when *path* shows something else than what is *wanted*."""
    if holds != wanted:
        raise Busy(f"{path} already holds {holds}", remedy=f"grid unmount {path}, or name another directory")


def is_disconnected(mounted: Mounted, mounts: Iterable[Mounted]) -> bool:
    """Whether *mounted* is the remains of a daemon.

    An image answers without its daemon, as far as the kernel has read it: there the FUSE mount that it lies in, which
    has the same name, is asked.
    """
    if mounted.fstype != "erofs":
        return _answers_not(mounted.mountpoint)
    return all(_answers_not(other.mountpoint) for other in mounts if other.is_fuse and other.source == mounted.source)


def _answers_not(path: Path) -> bool:
    """Whether the file system at *path* has lost its daemon: statfs is never answered from a cache."""
    result: list[int | None] = []

    def probe() -> None:
        try:
            os.statvfs(path)
        except OSError as error:
            result.append(error.errno)
        else:
            result.append(None)

    thread = threading.Thread(target=probe, daemon=True, name="statfs")
    thread.start()
    thread.join(PROBE_TIMEOUT_S)
    return result == [errno.ENOTCONN]
