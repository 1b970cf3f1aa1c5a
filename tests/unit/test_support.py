"""The tests' own footing: it must fail where it should."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import watchdog
from tests.support.data import ramp
from tests.support.leftovers import Leftovers, snapshot
from tests.support.logs import no_warnings_logged
from tests.support.user import OrdinaryUser


def test_a_range_of_the_ramp_equals_that_range_of_a_longer_one() -> None:
    assert ramp(1000, 777) == ramp(1777)[777:]
    assert ramp(0) == b""


@pytest.mark.logs_warnings
def test_a_warning_fails_the_test_that_logs_it() -> None:
    with pytest.raises(pytest.fail.Exception, match="disk is full"), no_warnings_logged():
        logging.getLogger("gridfs.cache").warning("disk is %s", "full")


def test_a_detached_process_is_found_and_removed() -> None:
    before = snapshot()
    command = [sys.executable, "-c", "print(flush=True); input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()  # in the midst of execve(2) it has no environment
    left = before.leftovers()
    assert [process.pid for process in left.processes] == [child.pid]
    left.remove()
    child.communicate()
    assert child.returncode == -9
    assert not before.leftovers(patience_s=10)


def test_a_limit_holds_also_for_what_waits_for_a_stopped_process(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    everything = watchdog.everything_started

    def the_child() -> Leftovers:  # and not the servers that other tests of this run still need
        return Leftovers((), tuple(process for process in everything().processes if process.pid == child.pid))

    monkeypatch.setattr(watchdog, "everything_started", the_child)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(pytest.fail.Exception, match=r"not done after 0\.1 s"), watchdog.time_limit(0.1):
        child.wait()
    child.communicate()
    # 0: the exception may come after the kernel has let go of the child, and before Python has noted how it ended.
    assert child.returncode in (-signal.SIGKILL, 0)
    assert not Path(f"/proc/{child.pid}").exists()


def test_the_ordinary_user_is_not_root_and_can_use_fuse_and_this_python(an_ordinary_user: OrdinaryUser) -> None:
    script = (
        "import os, pwd, gridfs; os.open('/dev/fuse', os.O_RDWR); print(os.getuid(), pwd.getpwuid(os.getuid()).pw_name)"
    )
    answer = an_ordinary_user.run([an_ordinary_user.python, "-c", script])
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.split() == [str(an_ordinary_user.uid), an_ordinary_user.name]
    assert an_ordinary_user.uid != 0
    assert (an_ordinary_user.home.stat().st_uid, os.path.exists("/proc/self")) == (an_ordinary_user.uid, True)
