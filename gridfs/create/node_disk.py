"""A creation keeps journal, manifest and spools on this node's disk: what it means that this is full or fails."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridfs.create.groups import leaves
from gridfs.errors import GridfsError, Unsupported

_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})

_DAMAGES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: BaseException) -> bool:
    """Whether *error* says that a journal is none, or not whole."""
    return isinstance(error, sqlite3.Error) and _code(error) in _DAMAGES


def is_disk_failure(error: BaseException) -> bool:
    """Whether *error* says that a disk is full, read-only or broken. What a source is on, the sources see to."""
    if isinstance(error, sqlite3.Error):
        return _code(error) in _CODES
    return isinstance(error, OSError) and error.errno in _ERRNOS


def _code(error: sqlite3.Error) -> int:
    """Of SQLite; the module's own errors have none. The upper bits, which say more of the same, are left out."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def disk_failures_named(directory: Path) -> Iterator[None]:
    """Turns the failures of the disk that *directory* is on into an Unsupported; also in a group of exceptions.

    What SQLite says afterwards (that there is no transaction any more) is a consequence, and what the store or the
    source say meanwhile is not what has to be mended first.
    """
    try:
        yield
    except (sqlite3.Error, OSError, BaseExceptionGroup) as error:
        each = list(leaves(error))
        failure = next(filter(lambda leaf: is_disk_failure(leaf) or is_damage(leaf), each), None)
        if failure is None or not all(isinstance(leaf, GridfsError | sqlite3.Error | OSError) for leaf in each):
            raise
        cause = failure.strerror if isinstance(failure, OSError) else str(failure)
        if is_damage(failure):
            raise Unsupported(
                f"the journal of this creation in {directory} is damaged: {cause}",
                remedy="`grid datastore clearcache` forgets it; then the same command begins anew",
            ) from error
        raise Unsupported(
            f"a creation can't work in {directory}: {cause}",
            remedy="make room there, or choose another place by XDG_STATE_HOME",
        ) from error
