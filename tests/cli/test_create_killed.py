"""`kill -9` of a creation at every step that changes the store: no version appears, and the next run succeeds.

Invariants 1 and 7 of docs/architecture.md.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from gridfs.catalog import Catalog
from gridfs.config import Paths
from gridfs.create.workplace import incomplete
from gridfs.model import VersionSpec
from gridfs.store.directory import DirectoryStore
from tests.support.data import ramp
from tests.support.on_trio import on_trio
from tests.support.versions import folder_tree, stored_tree

MOMENTS = 20
WORKERS = 2


def run(store: Path, source: Path, moment: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.killed", str(store), str(source), str(moment)]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)


@on_trio
async def test_killed_at_twenty_moments(tmp_path: Path, private_dirs: Paths) -> None:
    folder = tmp_path / "folder"
    for number in range(70):
        path = folder / f"d{number % 4}" / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ramp(4000, number))
    (folder / "large").write_bytes(ramp(100_000))
    expected = folder_tree(folder)
    last = int(run(tmp_path / "store", folder, 0).stdout)
    assert last > MOMENTS
    outcomes = Counter[int]()
    for moment in sorted({1 + round(number * (last - 1) / (MOMENTS - 1)) for number in range(MOMENTS)}):
        root = tmp_path / f"store{moment}"
        outcome = run(root, folder, moment).returncode
        outcomes[outcome] += 1
        store = DirectoryStore(root)
        versions = await Catalog(store).versions("set")
        if versions:  # killed after the commit record was there, or not at all
            assert (await stored_tree(store, private_dirs, VersionSpec("set", 1))).nodes == expected
        else:
            assert [creation.is_running for creation in incomplete(private_dirs)] == [False]
        assert run(root, folder, 0).returncode == 0
        tree = await stored_tree(store, private_dirs, VersionSpec("set"))
        assert tree.nodes == expected
        uploads = Counter(root.with_name(f"{root.name}.log").read_text().split())
        assert all(count == 1 for key, count in uploads.items() if "/objects/" in key)
        if not versions:
            objects = sum("/objects/" in key for key in uploads)
            assert objects <= len(tree.object_keys) + WORKERS, "only what was on its way may be sent again"
    assert outcomes == {-signal.SIGKILL: MOMENTS}
