"""The mount table, parsed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gridfs.mount.mounts import Mounted, current, in_each_namespace, parse, top_at, uses_of

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
105 27 0:39 / /run/x/fuse ro,nosuid,nodev,relatime shared:3 master:1 - fuse.gridfs gridfs:a@1 ro,user_id=0
108 27 0:40 / /data/two\040words ro - overlay gridfs:a@1 ro,lowerdir=/run/x/fuse::/run/x/empty,redirect_dir=on
109 27 0:40 / /second ro - overlay gridfs:a@1 ro,lowerdir=/run/x/fuse::/run/x/empty
110 27 0:41 / /below/proc ro - overlay gridfs:a@1 ro,lowerdir=/run/x/fuse:/run/x/empty,xino=on
111 27 0:42 / /data/two\040words rw - tmpfs none rw
112 27 0:43 / /other/fuse ro - fuse.gridfs gridfs:b@1 ro
113 27 0:44 / /odd\134\012 rw - tmpfs none rw
114 29 0:40 / /var/lib/container ro - overlay overlay ro,lowerdir=/layers/1:/layers/2
half a line
"""

FUSE = Path("/run/x/fuse")


def test_lines_are_parsed_with_their_escapes() -> None:
    mounts = parse(TABLE)
    assert len(mounts) == 9
    assert mounts[1] == Mounted("0:39", FUSE, "fuse.gridfs", "gridfs:a@1", "ro,user_id=0")
    assert mounts[1].is_fuse
    assert not mounts[2].is_fuse
    assert mounts[-2].mountpoint == Path("/odd\\\n")


def test_the_later_mount_is_on_top() -> None:
    mounts = parse(TABLE)
    top = top_at(Path("/data/two words"), mounts)
    assert top is not None
    assert top.fstype == "tmpfs"
    assert top_at(Path("/nothing"), mounts) is None


def test_uses_are_bind_mounts_veils_and_the_veils_of_runs_and_not_whoever_got_the_number_of_one() -> None:
    own = frozenset({FUSE, FUSE.with_name("tree")})
    found = uses_of(own, frozenset({"0:39", "0:40"}), "gridfs:a@1", parse(TABLE))
    assert [str(mounted.mountpoint) for mounted in found] == ["/data/two words", "/second", "/below/proc"]


def test_a_process_that_could_not_be_looked_at_for_want_of_descriptors_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks would take for unused, and remove, what that process has mounted."""
    failure = OSError(errno.EMFILE, "no descriptor")

    def current_of(pid: str) -> list[Mounted]:
        raise failure

    monkeypatch.setattr("gridfs.mount.mounts.current", current_of)
    with pytest.raises(OSError, match="no descriptor"):
        list(in_each_namespace())
    failure = OSError(errno.EINVAL, "has ended")
    assert list(in_each_namespace()) == []


def test_own_table_can_be_read() -> None:
    assert top_at(Path("/"), current()) is not None
