"""What the runs of benchmarks/runs.py read: files, as a datastore and as plain objects, and a node to read them on."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.processes import run
from benchmarks.servers import BUCKET, Server

CLASSES, FILES_EACH, FILE_BYTES = 8, 1300, 16 * 1024
"""ImageNet's shape, 1,300 files in a directory, with smaller files: what is measured is mounting and not reading."""

GRID = str(Path(sys.executable).with_name("grid"))
"""The command as it is installed beside this Python: what a job script calls."""


def make_files(directory: Path) -> Path:
    directory.mkdir()
    for number in range(CLASSES * FILES_EACH):
        path = directory / name_of(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content(number))
    return directory


def name_of(number: int) -> str:
    """Consecutive numbers lie in different directories, as what jobs read at one moment does."""
    return f"class-{number % CLASSES:02d}/{number:05d}.bin"


def content(number: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(FILE_BYTES)


def environment(work: Path, server: Server, node: str = "node") -> dict[str, str]:
    """Of one node: directories of its own, and the store."""
    place = work / node
    others = ("XDG_", "AWS_", "GRIDFS_", "PYTHON")  # PYTHONDONTWRITEBYTECODE: an installation has its bytecode
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return (
        kept
        | server.environment()
        | {
            "GRIDFS_STORE": f"s3://{BUCKET}/store",
            "AWS_ENDPOINT_URL": server.endpoint,
            "XDG_RUNTIME_DIR": str(place / "run"),
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_STATE_HOME": str(place / "state"),
            "XDG_CONFIG_HOME": str(place / "config"),
        }
    )


def create(work: Path, server: Server, source: Path) -> None:
    run([GRID, "datastore", "create", source, "--name", "data"], environment(work, server))


def put_raw(server: Server, source: Path) -> None:
    """The same files as objects of their own, for rclone."""
    import obstore

    store = server.store()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda n: obstore.put(store, f"raw/{name_of(n)}", content(n)), range(CLASSES * FILES_EACH)):
            pass
