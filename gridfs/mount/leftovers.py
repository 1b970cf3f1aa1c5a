"""Directories that runs and mounts made on the host, and their removal after the last that uses them.

A directory must not be removed while any run has a datastore mounted on it: rmdir(2) of a mountpoint of another
namespace succeeds and takes the mount away there. So all of this happens under a lock, shared by runs from looking
which directories there are until they are mounted, exclusive for a removal, which then looks through the mount tables
of all processes for one that still uses the path. What is locked is the root directory of the file system that holds
the path: whoever can take the path away sees that, whatever their user or runtime directory.

A mount may hold the lock for minutes, while its store is slow. Runs and other mounts share it, and a janitor has time;
an unmount waits a moment, and whoever else would remove something not at all: the daemon whose start has failed, for
one, is itself waited for.

    run:      lock shared; look; mkdir and write a record; enter the namespace and mount; exec (which drops the lock)
    mount:    lock shared; look; mkdir and write a record; start the daemon, which holds the lock too until it is ready
    janitor:  a detached process of the run that made something: waits for the end of the run, then of every other
              process that has the path mounted (by pidfd, so without polling), then locks exclusively, looks once
              more, removes the directory (if it is empty) and the record

After a kill -9 of a janitor the next run sweeps what it left. Where no exclusive lock is to be had, nothing is removed:
on a network file system (flock(2) wants a writable descriptor there) another node may have the path in use.

Light: see gridfs/light.py; what only a janitor or a sweep needs is imported there.
"""

from __future__ import annotations

import fcntl
import os
import time

from gridfs.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Leftovers:
    """The records of one user on this node, in *directory* (private, below the runtime directory)."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)

    def attaching(self, paths: Iterable[str]) -> _Locked:
        """Keeps removals of *paths* away until the block ends or the process execs: what is seen in it stays."""
        return _Locked(paths, fcntl.LOCK_SH)

    def note(self, path: str) -> None:
        """Says that *path* was made for a mount: once nobody has it mounted, `sweep` removes it."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        with open(self._record(path), "wb") as record:
            record.write(os.fsencode(path))

    def make(self, paths: Iterable[str]) -> list[str]:
        """Makes *paths*, while `attaching`; those that this call really made, for `leave_janitor`.

        Raises InvalidInput where none can be made, though it may be written to (/proc for root).
        """
        new: list[str] = []
        for path in paths:
            self.note(path)
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:  # another run was faster: its record and janitor stand
                continue
            except OSError as error:
                raise InvalidInput(
                    f"{path} can't be made ({error.strerror})",
                    remedy="choose an existing directory by --datastore_mount_dir",
                ) from error
            new.append(path)
        return new

    def leave_janitor(self, paths: list[str]) -> None:
        """Starts a detached process that removes *paths* once this process and all other users of them have ended.

        It shares nothing with the run: session, standard streams and descriptors are its own, and the run does not see
        it as a child.
        """
        run = os.getpid()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork() == 0:
                _detach()
                _wait_for_end(run)
                self.remove(paths)
        finally:
            os._exit(0)

    def sweep(self, patience_s: float = 0.0) -> None:
        """Removes what was made and no process has mounted any more, a run in its own namespace included.

        What is in use, or after *patience_s* perhaps still about to be, stays for a later sweep.
        """
        deadline = time.monotonic() + patience_s
        try:
            records = list(os.scandir(self._directory))
        except FileNotFoundError:
            return
        for path in sorted((_recorded(record.path) for record in records), reverse=True):
            if not os.path.isabs(path):
                continue  # its run was killed before it had written the path, or is about to write it
            while not self._swept(path) and time.monotonic() < deadline:
                time.sleep(0.01)  # flock can't be waited for with a timeout

    def _swept(self, path: str) -> bool:
        """Whether the lock was to be had; then *path* is gone, or in use."""
        with _Locked([path], fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
            if locked and next(users(path), None) is None:
                self._remove(path)
        return locked

    def remove(self, paths: list[str]) -> None:
        """Waits until no process has one of *paths* mounted, and removes them, children first."""
        for path in reversed(paths):
            while True:
                with _Locked([path], fcntl.LOCK_EX) as locked:
                    user = next(users(path), None) if locked else None
                    if user is None:
                        if locked:
                            self._remove(path)
                        break
                _wait_for_end(user)

    def _remove(self, path: str) -> None:
        for remove, what in (os.rmdir, path), (os.unlink, self._record(path)):
            try:
                remove(what)
            except OSError:  # a directory that is not empty, or gone, is no longer ours
                pass

    def _record(self, path: str) -> str:
        import hashlib

        return f"{self._directory}/{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


def leftovers_of(runtime: str | os.PathLike[str]) -> Leftovers:
    """The records below a user's runtime directory."""
    return Leftovers(os.path.join(runtime, "made"))


def _recorded(record: str) -> str:
    with open(record, "rb") as file:
        return os.fsdecode(file.read())


def _root_above(path: str) -> str:
    """The root directory of the file system that holds *path*, or would."""
    above = os.path.dirname(path)
    while not os.path.ismount(above):
        above = os.path.dirname(above)
    return above


class _Locked:
    """Holds the locks for *paths* in a block, as far as they are to be had; gives whether all of them were."""

    def __init__(self, paths: Iterable[str], operation: int) -> None:
        self._paths = paths
        self._operation = operation
        self.descriptors: list[int] = []
        """A process that inherits them holds the locks too."""

    def __enter__(self) -> bool:
        had = True
        for root in sorted({_root_above(path) for path in self._paths}):
            try:
                self.descriptors.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                fcntl.flock(self.descriptors[-1], self._operation)
            except OSError:
                had = False
        return had

    def __exit__(self, *_: object) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def users(path: str) -> Iterator[int]:
    """A process id for each mount namespace that has something mounted at or below *path*."""
    from gridfs.mount.mounts import in_each_namespace

    # Anyone may have mounted on a directory of ours, in a namespace of their own; and a run, asked from inside of
    # another one, is as closed to us as somebody else's.
    for pid, mounts in in_each_namespace(of_anyone=True):
        points = (str(mounted.mountpoint) for mounted in mounts)
        if any(path == point or point.startswith(f"{path}/") for point in points):
            yield pid


def _wait_for_end(pid: int) -> None:
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # ESRCH: it has ended
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    finally:
        os.close(descriptor)


def _detach() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in 0, 1, 2:
        os.dup2(null, stream)
    os.closerange(3, 1 << 16)
    os.chdir("/")
