"""Mounts as an image: by which way the kernel gets it, who gets none, and that all who see it see one file system."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from gridfs.config import MountOptions
from gridfs.image_addresses import LARGEST_MEAN_FILE_BYTES, SMALL_BYTES
from gridfs.model import Version
from gridfs.mount import client, launch
from gridfs.mount.mounts import current, top_at
from tests.mount.stage import MODES, Stage, is_image
from tests.mount.trees import assert_same
from tests.support.daemons import wait_for_end
from tests.support.data import ramp
from tests.support.submitted import read_together

REFUSED = """
import errno, sys
from gridfs.mount import daemon, {module}
def refuse(*arguments, **more): raise OSError(errno.EPERM, "refused by the test")
{names}
sys.exit(daemon.main())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "below").mkdir(parents=True)
    for number, size in enumerate([0, 1, 4096, 110_000, 262_144, 262_145, 3_000_000]):
        (root / "below" / f"{number}").write_bytes(ramp(size, number))
    (root / "link").symlink_to("below/3")
    return root


@pytest.fixture
def version(staged: Stage, source: Path) -> Version:
    return staged.create(source, "image").version


def mounted_by(
    staged: Stage, version: Version, path: Path, monkeypatch: pytest.MonkeyPatch, module: str, *names: str
) -> Path:
    """As staged.mount, by a daemon in which *names* of a module refuse."""
    changes = "\n".join(f"{module}.{name} = refuse" for name in names)
    script = REFUSED.format(module=module, names=changes)
    path.mkdir()
    with monkeypatch.context() as refusing:
        refusing.setattr(launch, "command", lambda: [sys.executable, "-c", script])
        staged.mounted.append(client.mount(staged.request(version, path), staged.paths))
    return path


def test_as_loop_devices(staged: Stage, version: Version, source: Path, tmp_path: Path) -> None:
    mount = staged.mount(version, tmp_path / "mount")
    record = staged.record()
    assert (record.veil, record.tree_path) == ("image", staged_tree(staged))
    assert os.major(os.stat(mount).st_dev) == 7
    assert_same(source, mount)
    number = os.minor(os.stat(mount).st_dev)
    staged.unmount(mount)
    wait_for_end(record.pid)
    assert not Path(f"/sys/block/loop{number}/loop/backing_file").exists()


def staged_tree(staged: Stage) -> Path:
    return staged.paths.runtime / "mounts" / staged.record().mount_id / "tree"


@pytest.mark.usefixtures("cache_elsewhere")
def test_as_a_file_where_there_are_no_loop_devices(
    staged: Stage, version: Version, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = mounted_by(staged, version, tmp_path / "mount", monkeypatch, "loop", "attached")
    assert staged.record().veil == "image"
    assert os.major(os.stat(mount).st_dev) == 0
    assert staged.record().read_ahead == "2048"
    assert_same(source, mount)
    with pytest.raises(OSError, match="Invalid argument"):
        os.open(mount / "below" / "6", os.O_RDONLY | os.O_DIRECT)


def test_without_erofs_there_is_an_overlay(
    staged: Stage, version: Version, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("mount_image", "mount_image_file")
    mount = mounted_by(staged, version, tmp_path / "mount", monkeypatch, "veil", *names)
    record = staged.record()
    assert (record.veil, record.tree_path) == ("overlay", None)
    assert not is_image(mount)
    assert "can't be an image: by loop devices: [Errno 1] refused" in record.log_file.read_text()
    assert_same(source, mount)


def test_without_the_library_files_have_their_ends_all_the_same(
    staged: Stage, version: Version, source: Path, tmp_path: Path
) -> None:
    """Which sends the zeros behind them."""
    options = dataclasses.replace(MODES["image"], zero_open=False)
    mount = staged.mount(version, tmp_path / "mount", options)
    assert (staged.record().zero_open, staged.record().veil) == (False, "image")
    assert_same(source, mount)


def test_who_gets_none(staged: Stage, version: Version, tmp_path: Path) -> None:
    for number, options in enumerate(
        [
            dataclasses.replace(MODES["image"], image=False),
            dataclasses.replace(MODES["image"], xattr=True),
            MODES["bare"],
            MountOptions(allow_other=False),
        ]
    ):
        mount = staged.mount(version, tmp_path / f"{number}", options)
        assert not is_image(mount)
        staged.unmount(mount)
    with (tmp_path / "source" / "large").open("wb") as large:
        large.truncate(9 * LARGEST_MEAN_FILE_BYTES)
    mount = staged.mount(staged.create(tmp_path / "source", "large").version, tmp_path / "large")
    assert staged.record().veil == "overlay"


def test_all_paths_share_one_file_system(staged: Stage, version: Version, tmp_path: Path) -> None:
    """Else each would read everything again, and keep pages of its own."""
    first, second = (staged.mount(version, tmp_path / name) for name in ("first", "second"))
    assert os.stat(first).st_dev == os.stat(second).st_dev
    assert len(staged.statuses()) == 1


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows the numbers of its system calls")
def test_files_whose_blocks_are_neighbours_are_read_by_one_request(staged: Stage, tmp_path: Path) -> None:
    """The second of two was zeros: all that lay behind the first was taken for what it lacks to a page."""
    source = tmp_path / "source"
    source.mkdir()
    sizes = [SMALL_BYTES] * 4 + [SMALL_BYTES - 4095, SMALL_BYTES - 1] + [SMALL_BYTES + 1] * 4
    contents = [ramp(size, 17 * number) for number, size in enumerate(sizes)]
    for number, content in enumerate(contents):
        (source / f"{number:02}").write_bytes(content)
    mount = staged.mount(staged.create(source, "neighbours").version, tmp_path / "mount")
    descriptors = [os.open(mount / f"{number:02}", os.O_RDONLY | os.O_DIRECT) for number in range(len(sizes))]
    try:
        for _ in range(2):  # the second time they are in memory
            places = [0 if number % 2 else (size - 1) // 4096 * 4096 - 8192 for number, size in enumerate(sizes)]
            reads = [(descriptor, place, 12288) for descriptor, place in zip(descriptors, places, strict=True)]
            for content, place, found in zip(contents, places, read_together(reads), strict=True):
                assert found == content[place : place + 12288]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_the_image_itself_is_not_in_the_tree(staged: Stage, version: Version, tmp_path: Path) -> None:
    """It was found by its name while it was mounted, and only then."""
    staged.mount(version, tmp_path / "mount")
    fuse_path = staged.record().fuse_path
    assert sorted(os.listdir(fuse_path)) == ["below", "link"]
    assert not (fuse_path / f"gridfs:{staged.record().label}").exists()
    top = top_at(tmp_path / "mount", current())
    assert top is not None
    assert top.source == "gridfs:image@1"


def test_an_entry_that_is_named_as_the_image_is_shown(staged: Stage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "gridfs:odd@1").write_bytes(b"mine")
    mount = staged.mount(staged.create(source, "odd").version, tmp_path / "mount")
    assert is_image(mount)
    assert (mount / "gridfs:odd@1").read_bytes() == b"mine"
