"""Every way to fail, and the one table of what each means: errno for a reader, exit code for a shell.

A message names the input and says what happened; *remedy* says what to do about it. Whoever raises one of these has
written both for the person who will read them. Foreign exceptions are mapped to these once, at the edge where they
arise (store/, create/, fuse), with `raise ... from`.
"""

from __future__ import annotations

import errno


class GridfsError(Exception):
    """Base of all expected failures."""

    exit_code = 1
    errno = errno.EIO
    retryable = False

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}; {self.remedy}"


class InvalidInput(GridfsError):
    """The user's input can't be what was meant: an impossible name, an option that contradicts another."""

    exit_code = 2
    errno = errno.EINVAL


class NotFound(GridfsError):
    """No such datastore, version, path, folder, bucket or prefix."""

    exit_code = 3
    errno = errno.ENOENT


class Busy(GridfsError):
    """Something holds what was to be changed: a mountpoint in use, a version that is mounted."""

    exit_code = 4
    errno = errno.EBUSY


class AccessDenied(GridfsError):
    """401 or 403 of a store, an archived storage class, or permissions of this machine."""

    exit_code = 5
    errno = errno.EACCES


class CredentialsRefused(AccessDenied):
    """The credentials are wrong or have expired: they open nothing else of the same store either."""


class SourceProblem(GridfsError):
    """The source can't be taken as it is: unreadable, changing while it is read, a damaged archive."""

    exit_code = 6


class ObjectMissing(GridfsError):
    """A manifest names an object that the store lacks. EIO and not ENOENT: the entry does exist."""

    exit_code = 7


class ObjectChanged(GridfsError):
    """A source object is not the one that the version was made of (412, or ETag or size differ)."""

    exit_code = 7
    errno = errno.ESTALE


class IntegrityError(GridfsError):
    """Bytes that differ from their checksum, also after they were fetched once more."""

    exit_code = 7


class FormatError(GridfsError):
    """A manifest, record or cache that this gridfs can't read: damaged, or of a newer format."""

    exit_code = 8


class StoreUnavailable(GridfsError):
    """Timeouts, refused connections, 5xx, throttling: may work if tried again."""

    exit_code = 9
    retryable = True


class StoreUnreachable(StoreUnavailable):
    """Nobody is at the store's address: its connections are refused, or its host name is not known."""


class ReadTimeout(StoreUnavailable):
    """The deadline of a read passed while it waited for the store."""

    errno = errno.ETIMEDOUT
    retryable = False


class StoreRefused(StoreUnavailable):
    """The server answered, and will answer the same again: no S3 server, an operation it lacks, another region."""

    retryable = False


class StoreFull(StoreUnavailable):
    """No space or quota left in a directory store: trying again helps only after someone made room."""

    errno = errno.ENOSPC
    retryable = False


class Unsupported(GridfsError):
    """This machine or this store lacks something: /dev/fuse, libfuse, pyfuse3, create-only puts, namespaces, room for
    what gridfs itself keeps on the node."""

    exit_code = 10
    errno = errno.ENOSYS


class ObjectExists(GridfsError):
    """A create-only put found the key taken."""

    exit_code = 4
    errno = errno.EEXIST


class Interrupted(GridfsError):
    """Ended by the user (Ctrl-C, SIGTERM, SIGHUP) in a state that a later command continues."""

    exit_code = 130
    errno = errno.EINTR


EXIT_BUG = 70
"""Exit code of a defect of gridfs itself (EX_SOFTWARE of sysexits.h)."""


def limit_reached(error: BaseException) -> Unsupported | None:
    """What *error* means where this machine or job gives no more of something; None for everything else."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Unsupported(f"no more files may be opened here ({error.strerror})", remedy="raise the limit (ulimit -n)")
    no_thread = isinstance(error, RuntimeError) and str(error) == "can't start new thread"
    if no_thread or isinstance(error, BlockingIOError):  # fork(2) and clone(2) answer EAGAIN
        remedy = "raise the limit of processes (ulimit -u; pids.max of the cgroup) or of memory (ulimit -v)"
        return Unsupported("no more processes or threads can be started here", remedy=remedy)
    if isinstance(error, MemoryError):
        return Unsupported("there is no more memory here", remedy="raise the limit (ulimit -v, or the job's)")
    return None


def errno_of(error: BaseException) -> int:
    """The errno that a reader gets for *error*: what is no GridfsError is a defect, and EIO."""
    return error.errno if isinstance(error, GridfsError) else errno.EIO


def exit_code_of(error: BaseException) -> int:
    """The exit code that a shell gets for *error*."""
    if isinstance(error, GridfsError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else EXIT_BUG
