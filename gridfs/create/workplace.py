"""Where creations keep their journals on this node: <state>/creations/<key of the request>[-n]/.

    request.json   what is being made, and in which store; the user's alone, since a URL may have a password in it
    lock           flocked by the process that works on it
    journal.sqlite
    manifest.sqlite  the manifest, while it is written

The same request again finds the directory of the one that was interrupted. If that one is still running, a second
creation begins beside it under the next n: two creations of one name at once make two versions. A directory goes when
its version is committed; until then its lock says whether somebody works on it, and a killed process holds no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gridfs.config import Paths, StoreSettings, ensure_private
from gridfs.create.request import CreateRequest
from gridfs.errors import FormatError
from gridfs.locks import is_held


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A creation that has not committed."""

    directory: Path
    request: CreateRequest
    store_url: str
    store: StoreSettings
    """How that store is reached; without a secret."""
    started_at: str
    """UTC, ISO 8601 with a `Z`."""
    is_running: bool


@contextmanager
def claimed(paths: Paths, request: CreateRequest, store_url: str, store: StoreSettings | None = None) -> Iterator[Path]:
    """The directory of this creation, for this process alone; removed by `discard` and kept otherwise.

    *store* is kept for a later `resume`.
    """
    parent = ensure_private(paths.state / "creations")
    directory, lock = _claim(parent, request.key(store_url))
    try:
        file = directory / "request.json"
        if not file.exists():
            _write_request(file, request, store_url, store)
        yield directory
    finally:
        os.close(lock)


def discard(directory: Path) -> None:
    """Forgets a creation; whoever calls this holds its lock."""
    gone = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")  # by a pid: each container's is 1
    directory.rename(gone)
    _remove(gone)


def _remove(gone: Path) -> None:
    """Removes what nobody works on; others may do so at the same time, and what is left goes with the next creation."""
    shutil.rmtree(gone, ignore_errors=True)


def incomplete(paths: Paths) -> list[Incomplete]:
    """The creations of this node that have not committed, the youngest first. What is damaged is left out."""
    found = []
    for directory in _places(paths):
        if not directory.name.startswith("."):
            try:
                document = json.loads((directory / "request.json").read_text())
                request = CreateRequest.from_json(json.dumps(document["request"]))
                running = is_held(directory / "lock")
                store = StoreSettings(**document["store"])
                found.append(
                    Incomplete(directory, request, document["store_url"], store, document["started_at"], running)
                )
            except (OSError, ValueError, KeyError, TypeError, FormatError):
                continue
    return sorted(found, key=lambda creation: creation.started_at, reverse=True)


def clear(paths: Paths) -> int:
    """Forgets all creations that nobody works on; how many."""
    count = 0
    for directory in _places(paths):
        if directory.name.startswith("."):
            _remove(directory)
            continue
        lock = _try_lock(directory)
        if lock is not None:
            discard(directory)
            os.close(lock)
            count += 1
    return count


def _places(paths: Paths) -> list[Path]:
    """What `claimed` has made; nothing where the home is somebody else's (`sudo -E`, `su -m`), who lets nobody look."""
    try:
        return sorted((paths.state / "creations").iterdir())
    except (FileNotFoundError, PermissionError):
        return []


def _claim(parent: Path, key: str) -> tuple[Path, int]:
    """A directory of that key and its lock: one that was interrupted if there is any, else a new one."""
    existing = set()
    for path in parent.iterdir():
        if path.name.startswith("."):  # its process was killed while it discarded it
            _remove(path)
        elif path.name == key or path.name.startswith(f"{key}-"):
            existing.add(path.name)
    names = sorted(existing) + [name for name in map(_numbered(key), range(len(existing) + 1)) if name not in existing]
    while True:
        for name in names:
            lock = _try_lock(parent / name)
            if lock is not None:
                return parent / name, lock
        names = [f"{names[-1]}-1"]  # somebody else was faster with each of them


def _numbered(key: str) -> Callable[[int], str]:
    return lambda number: key if number == 0 else f"{key}-{number}"


def _write_request(file: Path, request: CreateRequest, store_url: str, store: StoreSettings | None) -> None:
    started_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    document = {
        "request": json.loads(request.to_json()),
        "store_url": store_url,
        "store": asdict(store or StoreSettings(url=store_url)),
        "started_at": started_at,
    }
    temporary = file.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.rename(file)


def _try_lock(directory: Path) -> int | None:
    """A descriptor that holds the lock of *directory*, which is made if need be; None when somebody else has it."""
    while True:
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / "lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # finished and removed between the two lines
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        os.close(lock)  # it was removed before we had it
