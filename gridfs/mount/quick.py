"""The daemon that serves a run, found by asking those that live. Light: see gridfs/light.py.

A run knows no more than a name and its environment. Any daemon of this user can tell, having all of gridfs in memory:

    1. "attach", with what the user wrote   which store and version are meant (attendant.py asks the store anew), and so
       and the settings of the environment  the keys of the daemons that may serve it; and itself, when it is one
    2. "attach", with such a key            itself, if it still takes runs

Where no daemon answers with one, nothing is known: the caller takes the long way, which starts one and has the words
for what is wrong. Of a hundred runs that start at once one does so, holding the lock of that datastore, and the others
wait for the lock and ask again.
"""

from __future__ import annotations

import fcntl
import os

from gridfs.light import LightRecord, ensure_private, own_status
from gridfs.mount.fields import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

ANSWER_TIMEOUT_S = 5.0
"""A daemon answers after one or two requests to its store; the long way can wait longer, and says for what."""

KEYS, KEY = "keys", "key"


class Served(LightRecord):
    """A living daemon that counts this run as a user from now on, seen from here."""

    __slots__ = ("is_image", "label", "name", "shown_path", "version")

    def __init__(self, name: str, version: int, shown_path: str, is_image: bool) -> None:
        self.name = name
        self.version = version
        self.label = f"{name}@{version}"
        self.shown_path = shown_path
        self.is_image = is_image


def served(runtime: str, question: dict[str, str], name: str) -> Served | None:
    """The daemon that answers *question*; *name* is a guess at whom to ask first."""
    mounts = f"{runtime}/mounts"
    try:
        own_status(runtime)  # below /tmp anyone may be the first to make it, and listen
        ids = [entry for entry in os.listdir(mounts) if not entry.endswith(".lock")]
    except OSError:
        return None
    for mount_id in sorted(ids, key=lambda i: (i.startswith(f"{name}-"), i), reverse=True):
        answer = ask(f"{mounts}/{mount_id}", question, ANSWER_TIMEOUT_S)
        if answer is None or KEYS not in answer:
            continue
        found = _seen(answer)
        if found is not None:
            return found
        for key in answer[KEYS].split():
            for other in ids:
                if other != mount_id and other.rpartition(".")[0] == key:
                    found = _seen(ask(f"{mounts}/{other}", {"do": "attach", KEY: key}, ANSWER_TIMEOUT_S))
                    if found is not None:
                        return found
        return None
    return None


def _seen(answer: dict[str, str] | None) -> Served | None:
    """The daemon that answered, if it takes this run and its mount is the one that is seen here at its path."""
    if not answer or "shown_path" not in answer:
        return None
    try:
        device = os.stat(answer["shown_path"]).st_dev
    except OSError:
        return None
    if f"{os.major(device)}:{os.minor(device)}" != answer["shown_device"]:
        return None  # started in another mount namespace
    return Served(answer["name"], int(answer["version"]), answer["shown_path"], "is_image" in answer)


class StartLock:
    """The lock of one datastore's start: whoever holds it takes the long way, the others wait and ask again."""

    def __init__(self, runtime: str, name: str) -> None:
        self.name = name
        mounts = ensure_private(f"{ensure_private(runtime)}/mounts")
        self._descriptor = os.open(f"{mounts}/{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def take(self) -> None:
        """Waits until it is held; nothing when it is held already."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def take_or_wait(self) -> bool:
        """Whether it was free, and is held now; else waits, together with others, until its holder lets go."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            return False
        return True

    def let_go(self) -> None:
        os.close(self._descriptor)


def start_lock_name(spec: str) -> str | None:
    """The name of the lock for starting a daemon of *spec*; None for what can't be a file's name."""
    return f"run-{spec}" if len(os.fsencode(spec)) <= 200 and "/" not in spec and "\0" not in spec else None


def served_or_locked(runtime: str, spec: str, look: Callable[[], Served | None]) -> Served | StartLock | None:
    """What *look* finds; else the lock under which to start one, held; None when there can be no such lock."""
    found = look()
    name = start_lock_name(spec)
    if found is not None or name is None:
        return found
    lock = StartLock(runtime, name)
    try:
        if not lock.take_or_wait():
            found = look()
            if found is None:
                lock.take()
        found = found or look()
    except BaseException:
        lock.let_go()
        raise
    if found is None:
        return lock
    lock.let_go()
    return found
