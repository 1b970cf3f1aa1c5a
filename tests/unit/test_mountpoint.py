"""Where a mount may go: one line that names the input and the remedy for each that it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridfs.errors import AccessDenied, Busy, GridfsError, InvalidInput, NotFound, Unsupported
from gridfs.mount import mountpoint, requirements
from gridfs.mount.mountpoint import absolute, prepared, refuse_other


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    with prepared(tmp_path, "data") as target:
        assert (target.path, target.made) == (tmp_path, False)


def test_bad_mountpoints(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for name, kind, message in [
        ("none", NotFound, "does not exist; make it: mkdir -p"),
        ("file", InvalidInput, "is not a directory; name a directory"),
        ("full", InvalidInput, "is not empty.*name an empty directory"),
    ]:
        with pytest.raises(kind, match=message) as caught, prepared(tmp_path / name, "data"):
            pass
        assert str(tmp_path / name) in str(caught.value)


def test_default_is_made_and_goes_again_on_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "DATASTORES", tmp_path / "datastores")
    with pytest.raises(RuntimeError), prepared(None, "data") as target:
        assert (target.path, target.made) == (tmp_path / "datastores" / "data", True)
        raise RuntimeError
    assert list((tmp_path / "datastores").iterdir()) == []


def test_default_that_can_not_be_made_names_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(mountpoint, "DATASTORES", tmp_path / "file" / "datastores")
    remedies = r"sudo install -d .* or name a directory: grid mount data DIR"
    with pytest.raises(AccessDenied, match=remedies), prepared(None, "data"):
        pass


def test_another_version_is_named(tmp_path: Path) -> None:
    refuse_other(tmp_path, "data@1", "data@1")
    with pytest.raises(Busy, match=rf"{tmp_path} already holds data@1; grid unmount {tmp_path}, or"):
        refuse_other(tmp_path, "data@1", "data@2")


def test_absolute_follows_links_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "mount").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "last").symlink_to("real/mount")
    monkeypatch.chdir(tmp_path)
    for given in ("link/mount", "last", "./real/../link/mount", tmp_path / "real" / "mount"):
        assert absolute(Path(given)) == tmp_path / "real" / "mount"


def test_machine_without_the_device(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="does not exist; load the kernel module"):
        requirements.check_machine(tmp_path / "fuse")


def test_device_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(requirements.os, "open", refuse)
    with pytest.raises(AccessDenied, match=r"may not be opened.*0666"):
        requirements.check_machine(tmp_path)


def test_machine_without_pyfuse3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pyfuse3 is not installed; apt install .*libfuse3-dev.*gridfs\[mount\]"):
        requirements.check_machine()


def test_ordinary_user_without_fusermount3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "may_mount", lambda: False)
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    (tmp_path / "fuse").touch()
    with pytest.raises(Unsupported, match=r"fusermount3 is not installed.*apt install fuse3"):
        requirements.check_machine(tmp_path / "fuse")


def test_allow_other_needs_a_line_in_fuse_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "may_mount", lambda: False)
    (tmp_path / "fuse.conf").write_text("#user_allow_other\n")
    with pytest.raises(GridfsError, match="a line 'user_allow_other'"):
        requirements.check_allow_other(tmp_path / "fuse.conf")
    (tmp_path / "fuse.conf").write_text("user_allow_other\n")
    requirements.check_allow_other(tmp_path / "fuse.conf")
