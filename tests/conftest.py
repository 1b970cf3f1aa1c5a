"""Fixtures of all tests, and the rules that every test is held to.

No test leaves a mount or a process behind; none logs a warning that it did not expect; none exceeds its time limit;
none skips: what is missing (a server, /dev/fuse) fails the run. `kill -USR1` prints what each thread is doing.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
import trio

from gridfs.config import Paths
from gridfs.mount import syscalls
from gridfs.mount.syscalls import MountFlag
from tests.support import data
from tests.support.leftovers import ENDING_S, MARK_VARIABLE, remove_directory_of_killed_run, snapshot
from tests.support.logs import no_warnings_logged
from tests.support.s3 import CEPH_START_TIMEOUT_S, S3Server, ceph_server, moto_server
from tests.support.user import OrdinaryUser, ordinary_user
from tests.support.watchdog import time_limit

TIME_LIMIT_S = 300
"""No test should need a tenth of it; a noisy machine with two cores shall not make one fail."""

SETUP_LIMIT_S = CEPH_START_TIMEOUT_S + 60
"""One of them starts the server, which has a limit and a message of its own."""

hypothesis.settings.register_profile(
    "gridfs",
    derandomize=True,  # the same examples in every run: a failure is somebody's change
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("gridfs")


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0:  # our mounts are nobody else's business, and theirs are none of our leftovers
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", None, MountFlag.REC | MountFlag.PRIVATE)
        remove_directory_of_killed_run()
    os.environ[MARK_VARIABLE] = uuid4().hex
    # A shell's background jobs ignore the first, what nohup starts the second, and so would every program that the
    # tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, file=os.dup(2), all_threads=True)


def pytest_collection_finish() -> None:
    """What collecting has made lives as long as the run: each full collection of garbage would visit all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    # By this trio orders the tasks of one turn. Hypothesis, whose plugin in trio makes that all there is to it, sets it
    # only where it gives the examples.
    trio._core._run._r.seed(0)  # type: ignore[attr-defined]
    with time_limit(SETUP_LIMIT_S):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker("timeout_s")
    with time_limit(marker.args[0] if marker else TIME_LIMIT_S):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Unmounting is here."""
    with time_limit(TIME_LIMIT_S):
        return (yield)


@contextmanager
def _leaving_nothing(who: str) -> Iterator[None]:
    before = snapshot()
    yield
    left = before.leftovers(ENDING_S)
    left.remove()
    if left:
        pytest.fail(f"left behind by {who}:\n{left}", pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def _nothing_left_behind_by_the_run() -> Iterator[None]:
    """Outlasts the fixtures of packages and modules, which the check after each test can't judge."""
    with _leaving_nothing("a fixture"):
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with _leaving_nothing("this test"):
        yield


@pytest.fixture(autouse=True)
def _no_unexpected_warnings(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that asks for caplog, or is marked `logs_warnings`, judges the log itself."""
    if "caplog" in request.fixturenames or request.node.get_closest_marker("logs_warnings"):
        yield
        return
    with no_warnings_logged():
        yield


@pytest.fixture
def private_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """An environment of the test's own: gridfs's directories in a temporary one, and no settings of the caller's.

    The runtime directory lies apart with a short name, because a socket's address holds 107 bytes.
    """
    for variable in list(os.environ):
        if variable.startswith(("AWS_", "GRIDFS_", "XDG_", "SLURM_")) and variable != MARK_VARIABLE:
            monkeypatch.delenv(variable)
    runtime = tempfile.mkdtemp(prefix="gridfs-")
    home = tmp_path / "home"
    home.mkdir(0o700)
    monkeypatch.setenv("HOME", str(home))
    for variable, name in [
        ("XDG_DATA_HOME", "data"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_CONFIG_HOME", "config"),
    ]:
        monkeypatch.setenv(variable, str(home / name))
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield Paths.from_environment()
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def ramp() -> Callable[..., bytes]:
    """`ramp(size_bytes, start=0)`: bytes in which a wrong offset is seen (tests/support/data.py)."""
    return data.ramp


@pytest.fixture(scope="session")
def _moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def _ceph() -> Iterator[S3Server]:
    with ceph_server() as server:
        yield server


@pytest.fixture
def s3_moto(_moto: S3Server, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """moto with a bucket of the test's own; its credentials are in the environment, its endpoint is not."""
    return _with_credentials(_moto, monkeypatch)


@pytest.fixture
def s3_ceph(_ceph: S3Server, private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real S3 server (one for the session) with a bucket of the test's own; credentials as with s3_moto."""
    return _with_credentials(_ceph, monkeypatch)


def _with_credentials(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    return server.with_new_bucket()


@pytest.fixture
def an_ordinary_user() -> Iterator[OrdinaryUser]:
    """Someone who is not root, with /dev/fuse as udev makes it (tests/support/user.py)."""
    with ordinary_user() as user:
        yield user
