"""Which daemons of this user there are on this node. Survives a crash of any part.

    <runtime>/mounts/<key>.lock          held while a daemon of that key is started or cleaned: two starters get one
    <runtime>/mounts/at-<path>.lock      held while a path is looked at and mounted on: of two versions it gets one
    <runtime>/mounts/<key>.<n>/          one daemon, n = 0, 1, ...
        alive                            flock'ed by the daemon for as long as it lives; the kernel lets go for it
        record.json                      what it is (spec.MountRecord), written once it is ready
        control                          its socket (control.py)
        fuse/  empty/                    the hidden mountpoint, and the second layer that overlayfs wants

The key names all that makes two mounts interchangeable: store, version, user and group, how files look. A daemon
is used again only when it lives *and* its mount is seen from here: one that was started in another mount namespace is
somebody else's. A directory whose lock is free is the remains of a crash, and `clean` takes them away: mounts first
(they answer ENOTCONN until then, never an empty directory), files after. Nothing is ever removed recursively, since a
mount might be below.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gridfs.config import MountOptions, StoreSettings, ensure_private
from gridfs.errors import AccessDenied
from gridfs.light import own_status
from gridfs.locks import is_held, trying
from gridfs.model import Version
from gridfs.mount.fields import CONTROL
from gridfs.mount.kernel import abort
from gridfs.mount.leftovers import leftovers_of
from gridfs.mount.mounts import Mounted, current, top_at, uses_of
from gridfs.mount.spec import MountRecord, from_json, to_json
from gridfs.mount.veil import SOURCE_PREFIX

RECORD, ALIVE, HIDDEN, TREE, EMPTY = "record.json", "alive", "fuse", "tree", "empty"
RECORD_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a daemon is, and with whom it ends."""

    uid: int
    gid: int
    """FUSE shuts out another group of the same user."""
    job: str | None = None
    """The scheduler's job in whose control group the daemon lives: it is killed with it, so no other job may use it."""

    @property
    def lenders(self) -> tuple[Owner, ...]:
        """Whose daemons this one may use: those of no job (a prolog's, systemd's), and its own."""
        return (self,) if self.job is None else (replace(self, job=None), self)


def key_of(store: StoreSettings, version: Version, options: MountOptions, owner: Owner) -> str:
    """Names all daemons that may stand in for each other.

    How long a read may take or what is prefetched is no part of it: a second user of a daemon takes it as it is.
    """
    parts = [
        [store.url, store.endpoint_url, store.profile, store.sign, store.requester_pays],
        [version.name, version.version, version.manifest_sha256],
        [owner.uid, owner.gid, owner.job],
        [options.allow_other, options.uid, options.gid, options.umask, options.file_mode, options.dir_mode],
        [options.xattr, options.zero_open, options.image, sorted(options.extra)],
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{version.name}-{version.version}-{digest[:12]}"


class Registry:
    """The daemons of one user on this node."""

    def __init__(self, runtime: Path) -> None:
        self._directory = runtime / "mounts"

    def directory_of(self, mount_id: str) -> Path:
        return self._directory / mount_id

    @contextmanager
    def starting(self, key: str) -> Iterator[int]:
        """Holds the lock under which a daemon of *key* is looked for and started; waits for whoever holds it.

        Gives the lock's descriptor, for a process that becomes the daemon itself.
        """
        ensure_private(self._directory.parent)
        ensure_private(self._directory)
        with _locked(self._directory / f"{key}.lock") as descriptor:
            yield descriptor

    def taking(self, path: Path) -> AbstractContextManager[int]:
        """As `starting`, for the *path* that is to be mounted on: daemons of different keys may be wanted there.

        To be taken before the lock of a key, so that nobody waits for a path and keeps a key from others meanwhile.
        """
        return self.starting(f"at-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}")

    def new_mount_id(self, key: str) -> str:
        """A free number of *key*, its directory made. To be called under `starting`."""
        number = 0
        while True:
            directory = self._directory / f"{key}.{number}"
            try:
                directory.mkdir(0o700)
            except FileExistsError:
                number += 1
                continue
            (directory / HIDDEN).mkdir(0o700)
            (directory / TREE).mkdir(0o700)
            (directory / EMPTY).mkdir(0o755)
            return directory.name

    def mount_ids(self) -> list[str]:
        """All directories, of the living and the dead. Raises AccessDenied when somebody else has taken their place.

        Root looks into the registries of all users.
        """
        try:
            if os.geteuid() != 0:
                own_status(self._directory.parent)
            return sorted(entry.name for entry in os.scandir(self._directory) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise AccessDenied(
                f"{self._directory} can't be read: {error.strerror}", remedy="choose another place by XDG_RUNTIME_DIR"
            ) from error

    def is_alive(self, mount_id: str) -> bool:
        """Whether its daemon runs: the kernel frees the lock of a process that ends in whatever way."""
        try:
            return is_held(self._directory / mount_id / ALIVE)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # gone, or a link, which no daemon makes
                return False
            raise

    def has_ended(self, mount_id: str) -> bool:
        """Whether a daemon that was alive is gone: its directory is, or after a crash its lock is free."""
        directory = self._directory / mount_id
        return not directory.exists() or ((directory / ALIVE).exists() and not self.is_alive(mount_id))

    def wait_for_end(self, mount_id: str, timeout_s: float) -> bool:
        """Whether the daemon has ended, at the latest when *timeout_s* are over."""
        deadline = time.monotonic() + timeout_s
        while not (ended := self.has_ended(mount_id)) and time.monotonic() < deadline:
            time.sleep(0.01)  # flock can't be waited for with a timeout
        return ended

    def record(self, mount_id: str) -> MountRecord | None:
        """What the daemon said of itself; None before it is ready, or when a crash left half of it."""
        try:
            return from_json(MountRecord, _read_regular(self._directory / mount_id / RECORD, RECORD_LIMIT_BYTES))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def living(self) -> list[MountRecord]:
        """The daemons that are ready and run."""
        records = (self.record(mount_id) for mount_id in self.mount_ids() if self.is_alive(mount_id))
        return [record for record in records if record is not None]

    def dead(self) -> list[str]:
        """Directories that a crash left."""
        return [mount_id for mount_id in self.mount_ids() if not self.is_alive(mount_id)]

    def usable(self, key: str, mounts: list[Mounted]) -> list[MountRecord]:
        """The living daemons of *key* whose FUSE mount is among *mounts*."""
        same = (record for record in self.living() if record.mount_id.rpartition(".")[0] == key)
        return [record for record in same if is_seen(record, mounts)]

    def clean(self, mount_id: str, detach: Callable[[Path], None]) -> None:
        """Takes away what a dead daemon left: its mounts, by *detach*, and its directory. Called under `starting`.

        A device number may belong to another file system by now, so none is trusted unless the FUSE mount still holds
        it, and only mounts that also bear our name are touched.
        """
        directory = self._directory / mount_id
        record = self.record(mount_id)
        fuse_path = record.fuse_path if record is not None else directory / HIDDEN
        mounts = current()
        own = frozenset({fuse_path, directory / TREE})
        left = []
        if record is not None:
            left = uses_of(own, record.devices if is_seen(record, mounts) else frozenset(), record.source, mounts)
        tree = top_at(directory / TREE, mounts)
        hidden = top_at(fuse_path, mounts)
        if hidden is not None and hidden.is_fuse and hidden.source.startswith(SOURCE_PREFIX):
            abort(hidden.device)  # a dead daemon's, as long as this mount of it stands
        for mounted in [*left, *(mounted for mounted in (tree, hidden) if mounted is not None)]:
            if mounted.source.startswith(SOURCE_PREFIX):
                detach(mounted.mountpoint)
        if record is not None and record.target_made:
            leftovers_of(self._directory.parent).sweep()
        remove_directory(directory)

    def clean_dead(self, detach: Callable[[Path], None]) -> list[MountRecord]:
        """Cleans what crashed daemons left, and says what they were. One that is just being started is not dead."""
        cleaned = []
        for mount_id in self.dead():
            with trying(self._directory / f"{mount_id.rpartition('.')[0]}.lock") as mine:
                if mine and not self.is_alive(mount_id):
                    record = self.record(mount_id)
                    self.clean(mount_id, detach)
                    cleaned += [record] if record is not None else []
        return cleaned


def is_seen(record: MountRecord, mounts: list[Mounted]) -> bool:
    """Whether the record's FUSE mount is among *mounts*, and so can be attached from here."""
    top = top_at(record.fuse_path, mounts)
    return top is not None and (top.device, top.source) == (record.fuse_device, record.source)


def write_record(directory: Path, record: MountRecord) -> None:
    """Puts the record in place in one step: a reader sees none or a whole one."""
    draft = directory / f"{RECORD}.new"
    draft.write_text(to_json(record))
    draft.replace(directory / RECORD)


def forget_record(directory: Path) -> None:
    """Nobody attaches to it any more; its daemon serves on for those who hold it."""
    (directory / RECORD).unlink(missing_ok=True)


def hold_alive(directory: Path) -> int:
    """Takes the lock that says that this process is the daemon of *directory*. Kept until the process ends."""
    descriptor = os.open(directory / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # someone may be testing it at this moment: wait for that
    return descriptor


def remove_directory(directory: Path) -> None:
    """Removes a mount's directory. Whatever else lies in it stays, and so does what is still mounted."""
    for name in (RECORD, f"{RECORD}.new", CONTROL, ALIVE):
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_symlink():  # a mount was killed while it named its image by it (veil.mount_image)
                path.unlink()
    for path in (directory / HIDDEN, directory / TREE, directory / EMPTY, directory):
        with contextlib.suppress(OSError):
            path.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_regular(path: Path, limit_bytes: int) -> bytes:
    """Up to *limit_bytes* of a file that another user may have put there: no pipe is waited for, no link followed.

    Raises OSError, and ValueError for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no file")
        return file.read(limit_bytes)
