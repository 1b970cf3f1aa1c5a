"""Which failures are told as those of the state directory's disk (create/node_disk.py); tests/cli fills one."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gridfs.create.node_disk import disk_failures_named
from gridfs.create.source import Found, Outcome
from gridfs.create.workplace import incomplete
from gridfs.errors import SourceProblem, StoreUnavailable, Unsupported
from gridfs.store.directory import DirectoryStore
from tests.support.creations import Failing, Place
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.sources import Tampered
from tests.support.versions import folder_tree

Tamper = Callable[[Callable[[Found], Outcome | None]], list[Tampered]]


@on_trio
async def test_an_archive_that_can_not_be_read_is_not_taken_for_the_state_directory(place: Place) -> None:
    with pytest.raises(SourceProblem, match="/proc/self/mem can't be read: Input/output error"):
        await place.create(Path("/proc/self/mem"), extract=True)


def test_what_else_fails_is_a_defect(tmp_path: Path) -> None:
    def full() -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(Unsupported, match=f"in {tmp_path}: No space left"), disk_failures_named(tmp_path):
        raise ExceptionGroup("of tasks", [StoreUnavailable("s"), ExceptionGroup("of tasks", [full()])])
    for defect in (OSError("no errno"), KeyError(), sqlite3.IntegrityError(), ExceptionGroup("", [full(), KeyError()])):
        with pytest.raises(type(defect)), disk_failures_named(tmp_path):
            raise defect


@on_trio
async def test_a_journal_that_is_none_any_more_is_begun_anew(place: Place, tmp_path: Path) -> None:
    place.fill({str(number): ramp(20_000, number) for number in range(9)})
    place.store = Failing(tmp_path / "store", puts=2)
    with pytest.raises(StoreUnavailable):
        await place.create()
    (creation,) = incomplete(place.paths)
    (creation.directory / "journal.sqlite").write_bytes(ramp(5000))
    place.store = DirectoryStore(tmp_path / "store")
    await place.create()
    assert (await place.tree()).nodes == folder_tree(place.folder)
    assert incomplete(place.paths) == []


@on_trio
async def test_a_journal_that_is_found_damaged_later_says_what_forgets_it(place: Place, tamper: Tamper) -> None:
    place.fill({str(number): ramp(20_000, number) for number in range(9)})

    def damage(file: Found) -> Outcome | None:
        raise no_database()

    tamper(damage)
    with pytest.raises(Unsupported, match=r"journal of this creation .* is damaged: file is not.*clearcache"):
        await place.create()


def no_database() -> sqlite3.DatabaseError:
    """What SQLite raises for a file of something else."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(ramp(5000))
        connection.execute("SELECT * FROM sqlite_schema")
    except sqlite3.DatabaseError as error:
        return error
    finally:
        connection.close()
    raise AssertionError
