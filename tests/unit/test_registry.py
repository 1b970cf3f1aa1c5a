"""The registry's files: who lives, who is dead, and that cleaning touches nothing else."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from gridfs.config import CacheSettings, MountOptions, StoreSettings
from gridfs.errors import AccessDenied, StoreUnavailable
from gridfs.model import Mode, Version
from gridfs.mount import attach, leftovers, quick, registry
from gridfs.mount.leftovers import leftovers_of
from gridfs.mount.mounts import Mounted
from gridfs.mount.registry import Owner, Registry, key_of
from gridfs.mount.spec import MountRecord, MountSpec, from_json, to_json

STORE = StoreSettings("file:///store")
VERSION = Version(
    name="data", version=3, created_at="2026-01-01T00:00:00Z", source="/s", mode=Mode.COPY, file_count=1,
    directory_count=0, symlink_count=0, total_bytes=1, manifest_key="k", manifest_sha256="ab", manifest_bytes=1,
)  # fmt: skip


def record_of(directory: Path, target: Path | None = None) -> MountRecord:
    return MountRecord(
        mount_id=directory.name, name="data", version=3, store_url="file:///store", uid=0, gid=0, pid=1,
        started_at="2026-01-01T00:00:00Z", target=target, target_made=target is not None, fuse_path=directory / "fuse",
        fuse_device="0:999999", veil_device=None, zero_open=True, veil="overlay", tree_path=None, read_ahead="4096",
        max_background="64",
        cache_directory=Path("/c"), log_file=Path("/l"), linger_s=None,
    )  # fmt: skip


@pytest.fixture
def found(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "runtime")


def new_mount(found: Registry, key: str = "data-3-aa") -> Path:
    with found.starting(key):
        return found.directory_of(found.new_mount_id(key))


def never(path: Path) -> None:
    raise AssertionError(f"{path} was to be unmounted")


def test_numbers_of_a_key_are_given_once(found: Registry) -> None:
    assert [new_mount(found).name for _ in range(3)] == ["data-3-aa.0", "data-3-aa.1", "data-3-aa.2"]
    assert found.mount_ids() == ["data-3-aa.0", "data-3-aa.1", "data-3-aa.2"]
    directory = found.directory_of("data-3-aa.0")
    assert {path.name for path in directory.iterdir()} == {"fuse", "tree", "empty"}
    assert directory.stat().st_mode & 0o077 == 0


def test_alive_while_the_lock_is_held(found: Registry) -> None:
    directory = new_mount(found)
    assert not found.is_alive(directory.name)
    descriptor = registry.hold_alive(directory)
    assert found.is_alive(directory.name)
    assert found.living() == []  # not ready yet
    registry.write_record(directory, record_of(directory))
    assert found.living() == [record_of(directory)]
    os.close(descriptor)
    assert (found.living(), found.dead()) == ([], [directory.name])


def test_killed_process_is_dead(found: Registry) -> None:
    directory = new_mount(found)
    code = "import sys, pathlib; from gridfs.mount import registry; registry.hold_alive(pathlib.Path(sys.argv[1]));"
    code += "print(flush=True); input()"
    command = [sys.executable, "-c", code, directory]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert found.is_alive(directory.name)
        holder.kill()
        holder.wait()
    assert not found.is_alive(directory.name)


def test_clean_takes_a_dead_directory_and_the_target_made_for_it(
    found: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_root_above", lambda _: str(tmp_path))  # that of "/" other runs hold now and then
    directory, target = new_mount(found), tmp_path / "target"
    target.mkdir()
    leftovers_of(found.directory_of("any").parent.parent).note(str(target))
    registry.write_record(directory, record_of(directory, target))
    assert [record.target for record in found.clean_dead(never)] == [target]
    assert not directory.exists()
    assert not target.exists()


def test_clean_leaves_what_it_does_not_know(found: Registry) -> None:
    directory = new_mount(found)
    (directory / "fuse" / "something").write_text("of a user's")
    found.clean_dead(never)
    assert (directory / "fuse" / "something").exists()


def test_one_that_is_being_started_is_not_cleaned(found: Registry) -> None:
    with found.starting("data-3-aa"):
        directory = found.directory_of(found.new_mount_id("data-3-aa"))
        assert found.clean_dead(never) == []
        assert directory.exists()


def test_nobody_is_asked_in_a_registry_of_someone_else(
    tmp_path: Path, found: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below /tmp anyone may make another user's runtime directory first, and listen there."""
    daemon = tmp_path / "runtime" / "mounts" / "data-1-0.0"
    daemon.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(daemon)
        listening.bind("control")
        listening.listen()
        listening.settimeout(0)
        monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
        for look in (found.living, lambda: quick.served(str(tmp_path / "runtime"), {"do": "attach"}, "data")):
            with pytest.raises(AccessDenied, match="runtime belongs to uid"):
                look()
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_registry_that_may_not_be_read(found: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AccessDenied, match=r"mounts can't be read: Permission denied; .*XDG_RUNTIME_DIR"):
        found.living()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mount_id": "x"}', "null"])
def test_half_a_record_is_none(found: Registry, text: str) -> None:
    directory = new_mount(found)
    (directory / "record.json").write_text(text)
    assert found.record(directory.name) is None


def test_registry_of_someone_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(AccessDenied, match="belongs to uid"), Registry(tmp_path / "runtime").starting("k"):
        pass


OTHERS = [
    (dataclasses.replace(STORE, url="file:///other"), VERSION, MountOptions(), Owner(0, 0)),
    (STORE, dataclasses.replace(VERSION, version=4), MountOptions(), Owner(0, 0)),
    (STORE, dataclasses.replace(VERSION, manifest_sha256="cd"), MountOptions(), Owner(0, 0)),
    (STORE, VERSION, MountOptions(uid=5), Owner(0, 0)),
    (STORE, VERSION, MountOptions(allow_other=True), Owner(0, 0)),
    (STORE, VERSION, MountOptions(), Owner(1, 0)),
    (STORE, VERSION, MountOptions(), Owner(0, 1)),
]


@pytest.mark.parametrize("other", OTHERS)
def test_key_tells_apart_what_must_not_be_shared(other) -> None:
    assert key_of(*other) != key_of(STORE, VERSION, MountOptions(), Owner(0, 0))


def test_key_is_the_same_for_what_may_be_shared() -> None:
    patient = MountOptions(read_timeout_s=99.0, prefetch="none", veil=False)
    assert key_of(STORE, VERSION, patient, Owner(0, 0)) == key_of(STORE, VERSION, MountOptions(), Owner(0, 0))
    assert key_of(STORE, VERSION, patient, Owner(0, 0)).startswith("data-3-")


def test_spec_survives_json() -> None:
    spec = MountSpec(
        mount_id="data-3-aa.0", store=STORE, version=VERSION, directory=Path("/r"), target=Path("/t\udcff"),
        target_made=True, log_file=Path("/l"), cache=CacheSettings(Path("/c"), 5, None),
        options=MountOptions(umask=0o22, extra=("a", "b")), linger_s=1.5,
    )  # fmt: skip
    assert from_json(MountSpec, to_json(spec)) == spec
    assert spec.source == "gridfs:data@3"


def test_a_job_uses_daemons_of_no_job_and_its_own_and_no_other_jobs() -> None:
    """A daemon that a job started is killed with that job (invariant 7 for everybody else)."""
    node, job, other = Owner(0, 0), Owner(0, 0, "17"), Owner(0, 0, "18")
    assert node.lenders == (node,)
    assert job.lenders == (node, job)
    assert len({key_of(STORE, VERSION, MountOptions(), owner) for owner in (node, job, other)}) == 3


@pytest.mark.parametrize(("source", "aborted"), [("gridfs:data@3", ["0:77"]), ("somebody's", [])])
def test_clean_ends_the_connection_of_the_dead_and_of_nobody_else(
    source: str, aborted: list[str], found: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device number may have been given to another file system: what counts is what is mounted at our path."""
    directory = new_mount(found)
    mounted = Mounted("0:77", directory / "fuse", "fuse.gridfs", source, "")
    ended: list[str] = []
    monkeypatch.setattr(registry, "current", lambda: [mounted])
    monkeypatch.setattr(registry, "abort", ended.append)
    found.clean(directory.name, lambda path: None)
    assert ended == aborted


@pytest.mark.parametrize("stands", [True, False])
def test_clean_trusts_device_numbers_while_the_mount_stands(
    stands: bool, found: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that another daemon of the same version may have got one of them."""
    directory = new_mount(found)
    registry.write_record(directory, dataclasses.replace(record_of(directory), fuse_device="0:77"))
    own = Mounted("0:77", directory / "fuse", "fuse.gridfs", "gridfs:data@3", "")
    shown = dataclasses.replace(own, mountpoint=Path("/shown"))
    monkeypatch.setattr(registry, "current", lambda: [own, shown] if stands else [shown])
    monkeypatch.setattr(registry, "abort", lambda device: None)
    detached: list[Path] = []
    found.clean(directory.name, detached.append)
    assert detached == ([Path("/shown"), directory / "fuse"] if stands else [])


@pytest.mark.parametrize(
    ("device", "source", "seen"),
    [("0:999999", "gridfs:data@3", True), ("0:77", "gridfs:data@3", False), ("0:999999", "somebody's", False)],
)
def test_another_mount_at_its_path_is_not_the_daemons(device: str, source: str, seen: bool, tmp_path: Path) -> None:
    record = record_of(tmp_path / "data-3-aa.0")
    assert registry.is_seen(record, [Mounted(device, record.fuse_path, "fuse.gridfs", source, "")]) is seen
    assert not registry.is_seen(record, [])


@pytest.mark.parametrize("name", ["record.json", "alive"])
def test_a_pipe_or_a_link_of_someone_else_is_not_waited_for(found: Registry, name: str) -> None:
    """Root looks into the registries of all users before it deletes a version."""
    with found.starting("data-3-x"):
        pipe, link = (found.directory_of(found.new_mount_id("data-3-x")) for _ in range(2))
    os.mkfifo(pipe / name)
    (link / name).symlink_to("/dev/zero")
    assert found.record(pipe.name) is None
    assert found.record(link.name) is None
    assert not found.living()


def alive(directory: Path) -> int:
    """A descriptor that holds the lock of the living, as a daemon does."""
    descriptor = os.open(directory / registry.ALIVE, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_a_daemon_that_is_killed_while_it_is_asked_is_not_shared(
    found: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = new_mount(found)
    descriptor = alive(directory)

    def refuse(asked: Path, word: str) -> NoReturn:
        os.close(descriptor)  # the kernel frees the lock after the socket
        raise StoreUnavailable("the daemon does not answer: Connection refused")

    monkeypatch.setattr(attach.control, "ask", refuse)
    assert not attach.share(found, record_of(directory), tmp_path / "target", MountOptions())


def test_a_daemon_that_lives_and_does_not_answer_is_told_of(
    found: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "KILLED_S", 0.0)
    directory = new_mount(found)
    descriptor = alive(directory)
    try:
        with pytest.raises(StoreUnavailable, match="does not answer"):
            attach.share(found, record_of(directory), tmp_path / "target", MountOptions())
    finally:
        os.close(descriptor)
