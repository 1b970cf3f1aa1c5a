"""What is needed before anything large is imported: records, the runtime directory, the environment's settings.

`grid run` mostly finds a daemon that lives, mounts and becomes its command. Python itself is there after 8 ms; each of
dataclasses, pathlib and typing would add 6 to 12 ms, click 25 ms. So whatever such a run passes through imports only
modules of C, `os`, and others that say of themselves that they are light (tests/cli/test_run.py holds the list):

    gridfs/light.py  errors.py  cli/quick_run.py  cli/run_request.py
    gridfs/mount/{quick,fields,runs,view,leftovers,namespace,veil,syscalls}.py
"""

from __future__ import annotations

import errno
import os

from gridfs.errors import AccessDenied, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import TypeVar

    Place = TypeVar("Place", str, Path)


class LightRecord:
    """A record without dataclasses: its fields are its `__slots__`, and two are equal when all of them are."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._values()}"

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


SETTINGS = (
    *("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"),
    *("GRIDFS_STORE", "GRIDFS_CLUSTER", "GRIDFS_CONFIG", "GRIDFS_CACHE_DIR"),
    *("GRIDFS_MAX_CACHE_SIZE", "GRIDFS_MEMORY_TARGET", "SLURM_JOB_ID"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
"""The variables that decide which daemon serves a run. No secret is among them: daemons are asked with these."""

COMPLETION = "_GRID_COMPLETE"
"""A shell asks for completions by this one."""


def settings_of_environment() -> dict[str, str]:
    """Those of SETTINGS that are set."""
    return {name: os.environ[name] for name in (*SETTINGS, COMPLETION) if name in os.environ}


def home_directory(environ: Mapping[str, str] | None = None) -> str:
    """The home; `/`, as of login(1), where neither HOME nor the machine's list of users knows one (`docker --user`)."""
    home = (os.environ if environ is None else environ).get("HOME") or os.path.expanduser("~")
    return home if os.path.isabs(home) else "/"


def expanded(path: str) -> str:
    """*path* with the home that a `~` at its beginning means: shells leave it in `--option=~/x`, and files have it too.

    Raises InvalidInput for the home of somebody unknown.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise InvalidInput(
            f"{path!r} begins with the home of a user whom this machine does not know",
            remedy="write the whole path; ./ goes before a name that begins with ~",
        )
    return found


def runtime_directory(environ: Mapping[str, str]) -> str:
    """Where this user's mounts are registered on this node (config.Paths.runtime).

    The variable counts as unset where it names what this user can't have: a job of a scheduler has that of the login on
    another node, where it is, and `su` leaves that of the user before.
    """
    base = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base) and _is_or_may_be_mine(base):  # the XDG specification ignores relative ones
        return os.path.join(base, "gridfs")
    user = os.geteuid()
    return "/run/gridfs" if user == 0 else f"/tmp/gridfs-{user}"  # noqa: S108 - ensure_private refuses another's


def _is_or_may_be_mine(directory: str) -> bool:
    """Whether *directory* belongs to this user, or is not there and may be made."""
    place = directory = os.path.normpath(directory)
    while True:
        try:
            status = os.stat(place)
        except FileNotFoundError:
            place = os.path.dirname(place)
        except OSError:
            return False
        else:
            return status.st_uid == os.geteuid() if place == directory else os.access(place, os.W_OK | os.X_OK)


def config_path(environ: Mapping[str, str]) -> str:
    """The configuration file that counts when no option names one."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home_directory(environ), ".config")
    return expanded(environ.get("GRIDFS_CONFIG") or os.path.join(base, "gridfs", "config.toml"))


_ELSEWHERE = "choose another place by the XDG_* variables (for a cache: --cache-dir, or GRIDFS_CACHE_DIR)"


def ensure_private(directory: Place) -> Place:
    """Makes *directory* (0700) or checks that it is a directory of this user's that no one else can enter.

    Raises AccessDenied when it can't be made there, when someone else owns it, or when it is a symbolic link to such a
    place; OSError when the disk is full or fails.
    """
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise AccessDenied(f"{directory} can't be made: {error.strerror}", remedy=_ELSEWHERE) from error
    if own_status(directory).st_mode & 0o077:
        os.chmod(directory, 0o700)
    return directory


def own_status(directory: str | Path) -> os.stat_result:
    """The status of *directory*. Raises AccessDenied when it is someone else's, who may put anything there; OSError."""
    status = os.stat(directory)
    if status.st_uid != os.geteuid():
        raise AccessDenied(
            f"{directory} belongs to uid {status.st_uid} and not to you (uid {os.geteuid()})", remedy=_ELSEWHERE
        )
    return status
