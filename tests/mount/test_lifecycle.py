"""A mount's life: made, shared, taken away, and what a crash leaves; by root, who may mount what they like."""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gridfs.config import MountOptions
from gridfs.errors import Busy, GridfsError, Unsupported
from gridfs.model import Version
from gridfs.mount import client, control, launch, mountpoint, syscalls, veil
from gridfs.mount.attach import ensure_daemon, find_daemon
from gridfs.mount.mounts import current, top_at
from gridfs.mount.registry import Registry
from gridfs.mount.users import others_with
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp


@pytest.fixture
def version(staged: Stage, tmp_path: Path) -> Version:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_bytes(ramp(300_000))
    (source / "below" / "other").write_bytes(b"other")
    return staged.create(source, "life").version


SLOW_READER = "import sys; f = open(sys.argv[1], 'rb'); print(flush=True); input(); print(len(f.read()))"
HOLDER = 'mount --bind "$1" "$2" && echo; read x; wc -c < "$2"/file'


@contextmanager
def held_by(command: list[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """A process that says a line once it uses a mount, and ends after one is said to it."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def wait_for_end(pid: int) -> None:
    """Returns when the process has ended, whoever's child it was."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(30_000), f"process {pid} did not end"
    finally:
        os.close(descriptor)


def test_unmount_ends_the_daemon_and_leaves_nothing(staged: Stage, version: Version, tmp_path: Path, mode: str) -> None:
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    pid = staged.record().pid
    assert (mount / "file").read_bytes() == ramp(300_000)
    staged.unmount(mount)
    wait_for_end(pid)
    assert list(mount.iterdir()) == []
    assert Registry(staged.paths.runtime).mount_ids() == []
    places = [str(mounted.mountpoint) for mounted in current()]
    assert not [place for place in places if place.startswith((str(tmp_path), str(staged.paths.runtime)))]


def test_status_says_what_a_mount_is(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    (status,) = staged.statuses()
    record = status.record
    assert record is not None
    assert (status.state, status.paths, record.label) == ("mounted", (mount,), "life@1")
    assert (record.zero_open, record.veil, record.read_ahead, record.max_background) == (True, "image", "512", "512")
    bare = staged.mount(version, tmp_path / "bare", MountOptions(allow_other=True, zero_open=False, veil=False))
    (other,) = (s.record for s in staged.statuses() if s.record is not None and s.record.target == bare)
    assert (other.zero_open, other.veil) == (False, "off: --no-veil")


@pytest.mark.usefixtures("cache_elsewhere")
def test_read_ahead_is_longer_where_bytes_come_from_afar(
    staged: Stage, version: Version, tmp_path: Path, mode: str
) -> None:
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    assert staged.record().read_ahead == "2048"
    shown = os.stat(mount).st_dev if mode == "image" else os.stat(staged.record().fuse_path).st_dev
    assert Path(f"/sys/class/bdi/{os.major(shown)}:{os.minor(shown)}/read_ahead_kb").read_text() == "2048\n"


def test_mounting_again_is_no_error_and_another_version_is_refused(
    staged: Stage, version: Version, tmp_path: Path
) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    assert client.mount(staged.request(version, mount), staged.paths) == mount
    assert staged.record().pid == pid
    second = staged.create(tmp_path / "source", "life").version
    with pytest.raises(Busy, match=r"already holds life@1.*grid unmount"):
        client.mount(staged.request(second, mount), staged.paths)


def test_second_path_is_a_bind_mount_of_the_same_daemon(staged: Stage, version: Version, tmp_path: Path) -> None:
    first = staged.mount(version, tmp_path / "first")
    second = staged.mount(version, tmp_path / "second")
    record = staged.record()
    assert os.stat(first / "file").st_dev == os.stat(second / "file").st_dev
    staged.unmount(first)
    assert (second / "file").read_bytes() == ramp(300_000)
    assert staged.record().pid == record.pid
    staged.unmount(second)
    wait_for_end(record.pid)


def test_two_starters_at_once_get_one_daemon(staged: Stage, version: Version, tmp_path: Path) -> None:
    paths = [tmp_path / f"mount{number}" for number in range(4)]
    for path in paths:
        path.mkdir()
    starters = [
        threading.Thread(target=client.mount, args=(staged.request(version, path), staged.paths)) for path in paths
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    staged.mounted += paths
    assert sorted(staged.statuses()[0].paths) == paths
    staged.record()


def test_of_two_versions_that_are_mounted_at_one_path_at_once_one_is_refused(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were mounted, one above the other, and whoever wanted the lower one read the other's bytes."""
    second = staged.create(tmp_path / "source", "life").version
    mount = tmp_path / "mount"
    mount.mkdir()
    refused: list[str] = []
    are_two_starting = threading.Event()

    def mount_second() -> None:
        try:
            client.mount(staged.request(second, mount), staged.paths)
        except Busy as error:
            refused.append(str(error))

    other = threading.Thread(target=mount_second)
    really_start = client.start

    def start(*arguments: Any) -> None:
        if other.ident is not None:
            are_two_starting.set()
        else:
            other.start()
            while other.is_alive() and not are_two_starting.is_set() and not is_waiting_for_a_lock():
                are_two_starting.wait(0.01)
        really_start(*arguments)

    monkeypatch.setattr(client, "start", start)
    client.mount(staged.request(version, mount), staged.paths)
    other.join()
    staged.mounted += [mount] * (2 - len(refused))
    (reason,) = refused
    assert "already holds life@1" in reason
    assert staged.record().version == 1


def is_waiting_for_a_lock() -> bool:
    """Whether a thread of this process waits for a file's lock (proc_locks(5))."""
    waiting = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line)
    return str(os.getpid()) in (field for line in waiting for field in line)


def test_busy_names_the_processes_and_lazy_lets_them_go_on(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    with held_by([sys.executable, "-c", SLOW_READER, mount / "file"]) as reader:
        with pytest.raises(Busy, match=rf"is in use by .*\(pid {reader.pid}: {mount}/file\).*--lazy"):
            client.unmount(str(mount), staged.paths)
        assert (mount / "below" / "other").read_bytes() == b"other"
        staged.unmount(mount, lazy=True)
        assert list(mount.iterdir()) == []
        assert reader.communicate("\n")[0] == "300000\n"
    wait_for_end(pid)


@pytest.mark.parametrize("is_first_path", [True, False])
def test_what_is_unmounted_while_it_is_shown_at_a_second_path_is_never_an_empty_directory_there(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_first_path: bool
) -> None:
    """The directory below the mount was bound, and `grid mount` had succeeded."""
    first = staged.mount(version, tmp_path / "first")
    record = staged.record()
    assert record.tree_path is not None
    if not is_first_path:
        veil.hide(first, lazy=False)
    really_mount = syscalls.mount

    def mount(source: Path, *arguments: Any) -> None:
        if source in (first, record.tree_path):
            monkeypatch.setattr(syscalls, "mount", really_mount)
            veil.hide(source, lazy=False)
        really_mount(source, *arguments)

    monkeypatch.setattr(syscalls, "mount", mount)
    second = staged.mount(version, tmp_path / "second")
    assert syscalls.mount is really_mount
    assert (second / "file").read_bytes() == ramp(300_000)
    staged.unmount(second)
    assert list(second.iterdir()) == []
    os.kill(record.pid, signal.SIGTERM)
    wait_for_end(record.pid)


def test_an_unmount_of_the_last_path_leaves_one_that_is_mounted_at_that_moment(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second mount had succeeded, and was taken away again."""
    first, second = staged.mount(version, tmp_path / "first"), tmp_path / "second"
    pid = staged.record().pid
    really_ask = control.ask

    def ask(directory: Path, word: str) -> dict[str, Any]:
        if word == "release":
            monkeypatch.setattr(control, "ask", really_ask)
            staged.mount(version, second)
        return really_ask(directory, word)

    monkeypatch.setattr(control, "ask", ask)
    staged.unmount(first)
    assert (second / "file").read_bytes() == ramp(300_000)
    assert staged.record().pid == pid
    staged.unmount(second)
    wait_for_end(pid)


def test_of_two_unmounts_at_once_neither_fails(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one was told "Invalid argument; unmount as the user who mounted it"."""
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    really_unmount = syscalls.umount

    def umount(target: Path, flags: int = 0) -> None:
        if target == mount:
            really_unmount(target, flags)
        really_unmount(target, flags)

    monkeypatch.setattr(syscalls, "umount", umount)
    staged.unmount(mount)
    wait_for_end(pid)
    assert list(mount.iterdir()) == []


def test_killed_daemon_leaves_enotconn_and_the_next_mount_recovers(
    staged: Stage, version: Version, tmp_path: Path, mode: str
) -> None:
    """Invariant 7: an error, never a directory that looks empty."""
    mount = staged.mount(version, tmp_path / "mount", MODES[mode])
    pid = staged.record().pid
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    if mode == "image":  # which statfs does not ask; the kernel has read nothing else of it yet
        attempts, number = [lambda path: (path / "file").stat(), os.listdir], errno.EIO
    else:
        attempts, number = [os.listdir, os.statvfs, lambda path: (path / "file").stat()], errno.ENOTCONN
    for attempt in [*attempts, lambda path: (path / "none").stat()]:
        with pytest.raises(OSError) as caught:
            attempt(mount)
        assert caught.value.errno == number
    (status,) = staged.statuses()
    assert status.state == "dead"
    assert client.mount(staged.request(version, mount, MODES[mode]), staged.paths) == mount
    assert (mount / "file").read_bytes() == ramp(300_000)
    assert staged.record().pid != pid


def test_remains_of_a_mount_whose_registry_is_gone_are_replaced(
    staged: Stage, version: Version, tmp_path: Path
) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    record = staged.record()
    os.kill(record.pid, signal.SIGKILL)
    wait_for_end(record.pid)
    directory = Registry(staged.paths.runtime).directory_of(record.mount_id)
    (directory / "record.json").unlink()
    assert client.mount(staged.request(version, mount), staged.paths) == mount
    assert (mount / "file").read_bytes() == ramp(300_000)


@pytest.mark.parametrize("what", ["life", "mount"], ids=["name", "directory"])
def test_unmount_of_a_dead_daemon(
    staged: Stage, version: Version, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert client.unmount(what, staged.paths) == [mount]
    assert top_at(mount, current()) is None
    assert staged.statuses() == []


def test_sigterm_unmounts_cleanly(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid)
    assert list(mount.iterdir()) == []
    assert staged.statuses() == []


IMPATIENT = """
import sys
from gridfs.mount import daemon
daemon.STOP_GRACE_S = daemon.LOOK_EVERY_S = 0.2
sys.exit(daemon.main())
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemons that are started do after a moment what they do after seconds."""
    monkeypatch.setattr(launch, "command", lambda: [sys.executable, "-c", IMPATIENT])


@pytest.mark.usefixtures("impatient")
def test_sigterm_ends_a_daemon_whose_mount_is_held_by_someone_silent(
    staged: Stage, version: Version, tmp_path: Path
) -> None:
    """After a grace of some seconds; no request comes that would wake it."""
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    holder = subprocess.Popen(["cat"], cwd=mount, stdin=subprocess.PIPE)
    with holder:
        os.kill(pid, signal.SIGTERM)
        wait_for_end(pid)
        assert holder.poll() is None
        holder.communicate()
    assert staged.statuses() == []


@pytest.mark.usefixtures("impatient")
def test_umount_by_hand_ends_the_daemon(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    pid = staged.record().pid
    subprocess.run(["umount", mount], check=True)
    wait_for_end(pid)
    assert staged.statuses() == []


def test_daemon_of_runs_lingers_and_then_goes(staged: Stage, version: Version) -> None:
    request = staged.request(version, None)
    arguments = (request.store, version, request.options)
    record = ensure_daemon(*arguments, request.cache, staged.paths, linger_s=0.2)
    assert (record.fuse_path / "file").read_bytes() == ramp(300_000)
    assert find_daemon(*arguments, staged.paths) == record
    assert ensure_daemon(*arguments, request.cache, staged.paths, linger_s=0.2) == record
    wait_for_end(record.pid)
    assert find_daemon(*arguments, staged.paths) is None


def test_a_daemon_without_a_free_descriptor_serves_on_and_answers_later(staged: Stage, version: Version) -> None:
    request = staged.request(version, None)
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))
    try:
        record = ensure_daemon(request.store, version, request.options, request.cache, staged.paths, linger_s=0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    assert resource.prlimit(record.pid, resource.RLIMIT_NOFILE, (3, most)) == (most, most)
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(control.ask(record.fuse_path.parent, "status")))
    asking.start()
    asking.join(1)  # several times its linger
    assert asking.is_alive()
    resource.prlimit(record.pid, resource.RLIMIT_NOFILE, (most, most))
    asking.join()
    assert not answers[0]["released"]
    assert "can't be seen" in answers[0]["incidents"][0]["message"]
    wait_for_end(record.pid)
    assert "defect" not in record.log_file.read_text()


def test_detached_mount_lives_on_in_a_namespace_that_holds_it(staged: Stage, version: Version, tmp_path: Path) -> None:
    """The kernel counts the users: the daemon ends when the last one lets go."""
    request = staged.request(version, None)
    record = ensure_daemon(request.store, version, request.options, request.cache, staged.paths, linger_s=0.2)
    place = tmp_path / "place"
    place.mkdir()
    with held_by(["unshare", "--mount", "sh", "-c", HOLDER, "sh", record.fuse_path, place]) as run:
        control.ask(Registry(staged.paths.runtime).directory_of(record.mount_id), "release")
        assert top_at(record.fuse_path, current()) is None
        assert run.communicate("\n")[0] == "300000\n"
    wait_for_end(record.pid)


def test_foreground_tells_systemd_and_ends_with_the_signal(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    address = staged.paths.runtime / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(60)
        code = (
            "import pickle, sys; from gridfs.mount import client;"
            "import dataclasses; request, paths = pickle.load(sys.stdin.buffer);"
            "client.mount(dataclasses.replace(request, foreground=True), paths)"
        )
        supervised = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
        )
        with supervised:
            assert supervised.stdin is not None
            assert supervised.stderr is not None
            supervised.stdin.write(pickle.dumps((staged.request(version, mount), staged.paths)))
            supervised.stdin.close()
            assert listener.recv(1000).startswith(b"READY=1\n")
            assert (mount / "file").read_bytes() == ramp(300_000)
            assert staged.record().pid == supervised.pid
            supervised.send_signal(signal.SIGTERM)
            assert listener.recv(1000) == b"STOPPING=1"
            assert supervised.wait(60) == 0
    address.unlink()
    assert list(mount.iterdir()) == []


NUMBERING = """
import dataclasses, sys
from gridfs.mount import daemon
number, reveal = sys.argv.pop(1), daemon.reveal
daemon.reveal = lambda *arguments, **options: dataclasses.replace(reveal(*arguments, **options), veil_device=number)
sys.exit(daemon.main())
"""


@pytest.mark.parametrize("how", ["unmount", "signal"])
def test_a_foreign_file_system_that_got_the_number_of_ours_is_left_alone(
    staged: Stage, version: Version, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it happens after an umount by hand: the daemon is told that the number of a tmpfs is its own."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "foreign", foreign], check=True)
    try:
        of_foreign = top_at(foreign, current())
        assert of_foreign is not None
        monkeypatch.setattr(launch, "command", lambda: [sys.executable, "-c", NUMBERING, of_foreign.device])
        mount = staged.mount(version, tmp_path / "mount", MODES["bare"])
        assert staged.statuses()[0].paths == (mount,)
        pid = staged.record().pid
        if how == "signal":
            os.kill(pid, signal.SIGTERM)
            staged.mounted.remove(mount)
        else:
            client.unmount("life", staged.paths)
            staged.mounted.remove(mount)
        wait_for_end(pid)
        assert top_at(foreign, current()) == of_foreign
    finally:
        subprocess.run(["umount", foreign], check=True)


def test_every_mount_of_a_datastore_is_found_by_its_name(
    staged: Stage, version: Version, tmp_path: Path, mode: str
) -> None:
    """A second one of ours, a bind mount of somebody's, and that in a namespace of its own."""
    first = staged.mount(version, tmp_path / "first", MODES[mode])
    second = staged.mount(version, tmp_path / "second", MODES[mode])
    third = tmp_path / "third"
    third.mkdir()
    subprocess.run(["mount", "--bind", first, third], check=True)
    record = staged.record()
    assert set(staged.statuses()[0].paths) == {first, second, third}
    place = tmp_path / "place"
    place.mkdir()
    with held_by(["unshare", "--mount", "sh", "-c", HOLDER, "sh", second, place]) as run:
        assert [holder.command for holder in others_with(record)] == ["sh"]
        run.communicate("\n")
    assert set(client.unmount("life", staged.paths)) == {first, second, third}
    staged.mounted.clear()
    wait_for_end(record.pid)


STARTER = """
import pickle, sys
from gridfs.mount import client, launch, mountpoint
request, paths, mountpoint.DATASTORES, command = pickle.load(sys.stdin.buffer)
launch.command = lambda: command
client.mount(request, paths)
"""


def start_in_datastores(
    staged: Stage, version: Version, datastores: Path, command: list[str], *, foreground: bool = False
) -> subprocess.Popen[bytes]:
    """A process that mounts below *datastores*, in place of /datastores, by a daemon that is *command*."""
    request = dataclasses.replace(staged.request(version, None), foreground=foreground)
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE)
    assert starter.stdin is not None
    starter.stdin.write(pickle.dumps((request, staged.paths, datastores, command)))
    starter.stdin.close()
    return starter


LATE = """
import os, sys
open(sys.argv[1], "w").close()  # a pipe, whose reader knows then that this one is about to begin
with open(sys.argv[2]):
    pass
del sys.argv[1:3]
from gridfs.mount import daemon
sys.exit(daemon.main())
"""


def started_late(staged: Stage, version: Version, tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that waits for a daemon, and the pipe whose opening lets that one begin."""
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    os.mkfifo(begun)
    os.mkfifo(go_on)
    command = [sys.executable, "-c", LATE, str(begun), str(go_on)]
    starter = start_in_datastores(staged, version, tmp_path / "datastores", command)
    begun.read_bytes()
    return starter, go_on


@pytest.mark.timeout_s(60)
def test_who_mounts_after_a_starter_was_killed_waits_for_its_daemon(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second daemon in the same directory would have waited for the end of the first, and its starter with it."""
    monkeypatch.setattr(mountpoint, "DATASTORES", tmp_path / "datastores")
    starter, go_on = started_late(staged, version, tmp_path)
    starter.kill()
    starter.wait()
    registry = Registry(staged.paths.runtime)
    assert registry.clean_dead(veil.detach) == []
    (mount_id,) = registry.mount_ids()
    go_on.write_text("")
    mount = client.mount(staged.request(version, None), staged.paths)
    staged.mounted.append(mount)
    assert staged.record().mount_id == mount_id
    assert [each.mountpoint for each in current()].count(mount) == 1


@pytest.mark.timeout_s(60)
def test_a_starter_that_is_interrupted_ends_its_daemon(staged: Stage, version: Version, tmp_path: Path) -> None:
    starter, _ = started_late(staged, version, tmp_path)
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
    starter.send_signal(signal.SIGINT)
    starter.wait()
    for daemon in children:
        wait_for_end(int(daemon))
    assert staged.statuses() == []
    assert list((tmp_path / "datastores").iterdir()) == []


SWEEPING = """
import sys
from gridfs.mount import daemon
from gridfs.mount.leftovers import leftovers_of
leftovers_of(sys.argv.pop(1)).sweep()
sys.exit(daemon.main())
"""


@pytest.mark.parametrize("foreground", [False, True])
def test_a_sweep_leaves_the_directory_of_a_mount_that_is_being_started(
    staged: Stage, version: Version, tmp_path: Path, foreground: bool
) -> None:
    place = tmp_path / "datastores" / "life"
    command = [sys.executable, "-c", SWEEPING, str(staged.paths.runtime)]
    with start_in_datastores(staged, version, place.parent, command, foreground=foreground) as starter:
        while not Registry(staged.paths.runtime).living():
            assert not starter.poll(), "the mount failed"
            select.select([], [], [], 0.01)
        assert starter.wait() == 0 if not foreground else starter.poll() is None
        staged.mounted.append(place)
        assert (place / "file").read_bytes() == ramp(300_000)
        staged.unmount(place)
    assert not place.exists()


WAITING = """
import sys
from gridfs.mount import daemon
place, reveal = sys.argv.pop(1), daemon.reveal
def wait(*arguments, **options):
    open(place).read()
    return reveal(*arguments, **options)
daemon.reveal = wait
sys.exit(daemon.main())
"""


def test_a_mount_whose_starter_was_killed_serves_all_the_same(staged: Stage, version: Version, tmp_path: Path) -> None:
    """By a timeout, or with its terminal, while the store was slow."""
    place, go = tmp_path / "datastores" / "life", tmp_path / "go"
    os.mkfifo(go)
    command = [sys.executable, "-c", WAITING, str(go)]
    with start_in_datastores(staged, version, place.parent, command) as starter, go.open("w"):  # the daemon is there
        starter.kill()
        starter.wait()
    while not any(status.record for status in staged.statuses()):
        select.select([], [], [], 0.01)
    staged.mounted.append(place)
    record = staged.record()
    assert (place / "file").read_bytes() == ramp(300_000)
    staged.unmount(place)
    wait_for_end(record.pid)
    assert "defect" not in record.log_file.read_text()
    assert not place.exists()


FAILING = """
import sys
from gridfs.errors import Unsupported
from gridfs.mount import daemon
def refuse(*arguments, **options): raise Unsupported("refused")
daemon.reveal = refuse
sys.exit(daemon.main())
"""


@pytest.mark.timeout_s(60)
def test_a_start_that_fails_removes_its_directory_and_waits_for_nobody(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon sweeps as it ends, while its starter waits for it and keeps sweeps away."""
    monkeypatch.setattr(launch, "command", lambda: [sys.executable, "-c", FAILING])
    monkeypatch.setattr(mountpoint, "DATASTORES", tmp_path / "datastores")
    with pytest.raises(Unsupported, match="refused"):
        client.mount(staged.request(version, None), staged.paths)
    assert list((tmp_path / "datastores").iterdir()) == []


def test_a_daemon_that_was_killed_as_it_started_names_what_may_have_done_it(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said `ended with -9`, and see a log in which nothing is: the kernel kills what exceeds a memory limit."""
    monkeypatch.setattr(launch, "command", lambda: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    (tmp_path / "mount").mkdir()
    with pytest.raises(GridfsError, match=r"was killed before it was ready; .*memory limit"):
        client.mount(staged.request(version, tmp_path / "mount"), staged.paths)


DEFECTIVE = """
import sys
from gridfs.mount import daemon
async def bug(self): raise RuntimeError("a bug")
daemon.Daemon._watch_users = bug
sys.exit(daemon.main())
"""


def test_daemon_that_ends_by_a_defect_of_its_own_does_not_unmount(
    staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 7: an unmount would make the tree look empty to whoever copies it at that moment."""
    with monkeypatch.context() as defective:
        defective.setattr(launch, "command", lambda: [sys.executable, "-c", DEFECTIVE])
        path = tmp_path / "mount"
        path.mkdir()
        mount = client.mount(staged.request(version, path), staged.paths)
    staged.mounted.append(mount)
    record = staged.record()
    wait_for_end(record.pid)
    with pytest.raises(OSError) as caught:
        os.listdir(mount)
    assert caught.value.errno == errno.EIO
    assert "RuntimeError: a bug" in record.log_file.read_text()
    assert client.mount(staged.request(version, mount), staged.paths) == mount
    assert (mount / "file").read_bytes() == ramp(300_000)
