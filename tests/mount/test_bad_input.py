"""Bad input to mount and unmount: one error that names it and the remedy, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from gridfs.config import StoreSettings, ensure_cache
from gridfs.errors import AccessDenied, Busy, FormatError, InvalidInput, NotFound, Unsupported
from gridfs.model import Version
from gridfs.mount import client, mountpoint
from gridfs.mount.mounts import current
from gridfs.mount.registry import Registry
from tests.mount.stage import MODES, Stage


@pytest.fixture
def version(staged: Stage, tmp_path: Path) -> Version:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    return staged.create(source, "bad").version


def assert_nothing_left(staged: Stage, tmp_path: Path) -> None:
    assert Registry(staged.paths.runtime).mount_ids() == []
    assert not [m for m in current() if str(m.mountpoint).startswith((str(tmp_path), str(staged.paths.runtime)))]


def test_mountpoints(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, kind in [("none", NotFound), ("file", InvalidInput), ("source", InvalidInput)]:
        with pytest.raises(kind, match=str(tmp_path / name)):
            client.mount(staged.request(version, tmp_path / name), staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_default_path(staged: Stage, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/datastores/<name>` is made, and goes again with the mount."""
    monkeypatch.setattr(mountpoint, "DATASTORES", tmp_path / "datastores")
    mount = client.mount(staged.request(version, None), staged.paths)
    assert mount == tmp_path / "datastores" / "bad"
    assert (mount / "file").read_text() == "content\n"
    assert client.unmount("bad", staged.paths) == [mount]
    assert list((tmp_path / "datastores").iterdir()) == []
    assert_nothing_left(staged, tmp_path)


def test_manifest_that_differs_from_its_record_is_refused(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    other = dataclasses.replace(version, manifest_sha256="0" * 64)
    with pytest.raises(FormatError):
        client.mount(staged.request(other, tmp_path / "mount"), staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_store_that_is_gone(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    request = dataclasses.replace(
        staged.request(version, tmp_path / "mount"), store=StoreSettings(f"file://{tmp_path}/nowhere")
    )
    with pytest.raises(Exception, match="manifest"):
        client.mount(request, staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_option_that_the_kernel_does_not_know(staged: Stage, version: Version, tmp_path: Path) -> None:
    """What libfuse says of it on stderr is in the message."""
    (tmp_path / "mount").mkdir()
    options = dataclasses.replace(MODES["veil"], extra=("no_such_option",))
    with pytest.raises(Unsupported, match="no_such_option"):
        client.mount(staged.request(version, tmp_path / "mount", options), staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_cache_directory_of_someone_else(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    request = staged.request(version, tmp_path / "mount")
    request = dataclasses.replace(request, cache=dataclasses.replace(request.cache, directory=theirs))
    with pytest.raises(AccessDenied, match="belongs to uid 12345"):
        client.mount(request, staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_cache_directory_that_others_use_too(staged: Stage, version: Version, tmp_path: Path) -> None:
    """Nobody is shut out of /tmp by `--cache-dir /tmp`."""
    (tmp_path / "mount").mkdir()
    shared = tmp_path / "shared"
    for mode, name in (0o1777, None), (0o755, "somebodys"):
        shared.mkdir()
        if name is not None:
            (shared / name).touch()
        shared.chmod(mode)
        request = staged.request(version, tmp_path / "mount")
        request = dataclasses.replace(request, cache=dataclasses.replace(request.cache, directory=shared))
        with pytest.raises(AccessDenied, match=f"{shared} would be closed to others.* {shared}/gridfs, by --cache-dir"):
            client.mount(request, staged.paths)
        assert shared.stat().st_mode & 0o7777 == mode
        assert [path.name for path in shared.iterdir()] == ([name] if name else [])
        shared.rename(tmp_path / f"{mode:o}")
    assert_nothing_left(staged, tmp_path)


def test_cache_directory_that_is_open_and_the_caches_own(tmp_path: Path) -> None:
    """It is made private, as ever: an empty one, one that was opened, and a disk of its own."""
    own = tmp_path / "own"
    for name in ("manifests", "lost+found"):
        (own / name).mkdir(parents=True)
    own.chmod(0o755)
    assert ensure_cache(own) == own
    assert own.stat().st_mode & 0o7777 == 0o700


def test_cache_directory_below_the_mountpoint(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    request = staged.request(version, tmp_path / "mount")
    for place in (tmp_path / "mount", tmp_path / "mount" / "cache"):
        request = dataclasses.replace(request, cache=dataclasses.replace(request.cache, directory=place))
        with pytest.raises(InvalidInput, match=f"would hide the cache {place}"):
            client.mount(request, staged.paths)
    assert list((tmp_path / "mount").iterdir()) == []
    assert_nothing_left(staged, tmp_path)


def test_cache_directory_that_can_not_be_made(staged: Stage, version: Version, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    request = staged.request(version, tmp_path / "mount")
    request = dataclasses.replace(request, cache=dataclasses.replace(request.cache, directory=Path("/proc/nowhere")))
    with pytest.raises(AccessDenied, match=r"/proc/nowhere can't be made: .*--cache-dir"):
        client.mount(request, staged.paths)
    assert_nothing_left(staged, tmp_path)


def test_log_that_can_not_be_written(staged: Stage, version: Version, tmp_path: Path) -> None:
    """As of a home that is read-only."""
    (tmp_path / "mount").mkdir()
    request = staged.request(version, tmp_path / "mount")
    paths = dataclasses.replace(staged.paths, state=Path("/proc/nowhere"))
    with pytest.raises(AccessDenied, match=r"the log /proc/nowhere/.* can't be written: .*XDG_STATE_HOME"):
        client.mount(request, paths)
    assert_nothing_left(staged, tmp_path)


def test_record_that_finds_no_room(staged: Stage, version: Version, tmp_path: Path) -> None:
    """A start that fails in its last step has not crashed: what it had mounted is gone."""
    (tmp_path / "mount").mkdir()
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=64k", "gridfs-test", runtime], check=True)
    try:
        with contextlib.suppress(OSError), open(runtime / "full", "wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))
        paths = dataclasses.replace(staged.paths, runtime=runtime)
        with pytest.raises(Unsupported, match=r"No space left on device; .*XDG_RUNTIME_DIR"):
            client.mount(staged.request(version, tmp_path / "mount"), paths)
        assert list((tmp_path / "mount").iterdir()) == []
        assert Registry(runtime).mount_ids() == []
        assert [m.mountpoint for m in current() if m.mountpoint.is_relative_to(tmp_path)] == [runtime]
    finally:
        subprocess.run(["umount", "--lazy", runtime], check=True)


def test_unmount_of_what_is_not_there(staged: Stage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing is mounted at .*; grid status"):
        client.unmount(str(tmp_path), staged.paths)
    with pytest.raises(NotFound, match="imagenet@3 is not mounted by you"):
        client.unmount("imagenet@3", staged.paths)
    with pytest.raises(InvalidInput, match="/proc is no mount of gridfs but proc; name a mount of gridfs"):
        client.unmount("/proc", staged.paths)


def test_other_version_at_the_path(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    other = staged.create(tmp_path / "source", "other").version
    with pytest.raises(Busy, match=f"{mount} already holds bad@1; grid unmount {mount}"):
        client.mount(staged.request(other, mount), staged.paths)
    assert (mount / "file").read_text() == "content\n"


def test_same_name_of_another_store_at_the_path(staged: Stage, version: Version, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    elsewhere = dataclasses.replace(staged.request(version, mount), store=StoreSettings(f"file://{tmp_path}/elsewhere"))
    with pytest.raises(Busy, match=f"{mount} already holds bad@1 of {staged.store.url}"):
        client.mount(elsewhere, staged.paths)
