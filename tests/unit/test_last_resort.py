"""A daemon that a defect has ended ends, whatever its threads wait for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gridfs.errors import EXIT_BUG

DAEMON = """
import sys, threading, trio
from gridfs.mount.last_resort import end_in_time

async def fail():
    await trio.sleep(0.05)
    raise TypeError("a defect")

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_in_time, 0.2, lambda: sys.argv[1] == "well")
        if sys.argv[1] == "stuck":
            nursery.start_soon(trio.to_thread.run_sync, threading.Event().wait)
        if sys.argv[1] == "well":
            nursery.cancel_scope.cancel()
        else:
            nursery.start_soon(fail)
    await trio.sleep(0.4)

trio.run(main)
"""


@pytest.mark.parametrize(("how", "code"), [("stuck", EXIT_BUG), ("failed", 1), ("well", 0)])
def test_it_ends(how: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", DAEMON, how], check=False, timeout=60, capture_output=True)
    assert ended.returncode == code, ended.stderr
