"""A creation in a process of its own that kills itself at a chosen moment.

    python -m tests.support.killed STORE SOURCE MOMENT [--skip-unreadable]

MOMENT counts the operations that change the store (lease, objects, sync, manifest, commit record), each of which has a
moment before it and one after it; 0 never comes. What was uploaded is appended to STORE.log, a key a line, and the
number of moments that went by is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from gridfs.config import Paths
from gridfs.create.creation import create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.model import Buffer
from gridfs.store.directory import DirectoryStore

BLOCK, PACK = 1024, 64 * 1024


class Killing(DirectoryStore):
    """Kills the process at a moment."""

    def __init__(self, root: Path, moment: int) -> None:
        super().__init__(root)
        self._moment = moment
        self.passed = 0
        self._log = root.with_name(f"{root.name}.log")

    async def put(self, key: str, data: Buffer) -> None:
        self._tick()
        await super().put(key, data)
        self._note(key)

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        self._tick()
        size = await super().put_stream(key, chunks, size_hint_bytes=size_hint_bytes)
        self._note(key)
        return size

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        self._tick()
        await super().put_if_absent(key, data)
        self._note(key)

    async def sync(self) -> None:
        self._tick()
        await super().sync()
        self._tick()

    def _note(self, key: str) -> None:
        with self._log.open("a") as log:
            log.write(key + "\n")
        self._tick()

    def _tick(self) -> None:
        self.passed += 1
        if self.passed == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    store, source, moment = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    async def create() -> None:
        request = CreateRequest("set", source, skip_unreadable="--skip-unreadable" in sys.argv)
        paths = Paths.from_environment()
        killing = Killing(store, moment)
        await create_datastore(request, killing, paths, Silent(), block_size_bytes=BLOCK, pack_size_bytes=PACK)
        print(killing.passed)

    trio.run(create)


if __name__ == "__main__":
    main()
