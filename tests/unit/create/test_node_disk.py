"""Which failures are told as those of the state directory's disk (create/node_disk.py); tests/cli fills one."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from gridfs.create.node_disk import disk_failures_named
from gridfs.errors import SourceProblem, StoreUnavailable, Unsupported
from tests.support.creations import Place
from tests.support.on_trio import on_trio


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
