"""Who keeps a directory busy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gridfs.mount.holders import Holder, described, holders


def test_each_way_to_hold_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    codes = {
        "descriptor": "import sys; f = open(sys.argv[1] + '/file')",
        "directory": "import os, sys; os.chdir(sys.argv[1])",
        "mapping": "import mmap, os, sys; d = os.open(sys.argv[1] + '/file', 0);"
        "m = mmap.mmap(d, 0, access=mmap.ACCESS_READ); os.close(d)",
    }
    children = {}
    for how, code in codes.items():
        command = [sys.executable, "-c", f"{code}; print(flush=True); input()", str(tmp_path)]
        children[how] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for child in children.values():
            assert child.stdout is not None
            child.stdout.readline()
        found = {holder.pid: holder for holder in holders(tmp_path)}
        assert set(found) == {child.pid for child in children.values()}
        assert found[children["directory"].pid].what == str(tmp_path)
        assert found[children["descriptor"].pid].what == str(tmp_path / "file")
        assert found[children["mapping"].pid].what == str(tmp_path / "file")
    finally:
        for child in children.values():
            child.communicate(b"\n")
    assert holders(tmp_path) == []


def test_a_name_that_only_begins_the_same_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    descriptor = os.open(tmp_path / "ab", os.O_RDONLY)
    try:
        assert holders(tmp_path / "a") == []
    finally:
        os.close(descriptor)


def test_few_are_named_and_the_rest_counted() -> None:
    many = [Holder(number, "python", "/data") for number in range(8)]
    assert described(many[:1]) == "python (pid 0: /data)"
    assert described(many).endswith("python (pid 4: /data) and 3 more")
    assert described([]) == "a process that you may not look at"
