"""A store and a node of a test's own, in which it makes versions of small folders."""

from __future__ import annotations

from pathlib import Path

from gridfs.config import BLOCK_SIZE_BYTES, PACK_SIZE_BYTES, Paths
from gridfs.create.creation import CreateResult, create_datastore
from gridfs.create.progress import Silent
from gridfs.create.request import CreateRequest
from gridfs.errors import StoreUnavailable
from gridfs.model import VersionSpec
from gridfs.store.base import ObjectStore
from gridfs.store.directory import DirectoryStore
from tests.support.versions import StoredTree, stored_tree

BLOCK = 1024
PACK = 64 * BLOCK
"""Small, so that small trees have many packs."""


class Place:
    """A store and a node of the test's own."""

    def __init__(self, tmp_path: Path, paths: Paths, store: ObjectStore | None = None) -> None:
        self.folder = tmp_path / "folder"
        self.store: ObjectStore = store or DirectoryStore(tmp_path / "store")
        self.paths = paths

    async def create(self, source: Path | None = None, *, small: bool = True, **options: bool) -> CreateResult:
        request = CreateRequest("set", str(source or self.folder), **options)  # type: ignore[arg-type]
        block, pack = (BLOCK, PACK) if small else (BLOCK_SIZE_BYTES, PACK_SIZE_BYTES)
        return await self._create(request, block, pack)

    async def create_from(self, url: str, **options: bool) -> CreateResult:
        """Of an address, with small blocks and packs."""
        request = CreateRequest("set", url, **options)  # type: ignore[arg-type]
        return await self._create(request, BLOCK, PACK)

    async def _create(self, request: CreateRequest, block_size_bytes: int, pack_size_bytes: int) -> CreateResult:
        return await create_datastore(
            request,
            self.store,
            self.paths,
            Silent(),
            block_size_bytes=block_size_bytes,
            pack_size_bytes=pack_size_bytes,
        )

    async def tree(self, version: int | None = None) -> StoredTree:
        return await stored_tree(self.store, self.paths, VersionSpec("set", version))

    def fill(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Failing(DirectoryStore):
    """Fails the puts of objects from a given one on."""

    def __init__(self, root: Path, puts: int) -> None:
        super().__init__(root)
        self.puts = puts

    async def put(self, key: str, data: object) -> None:
        if "/objects/" in key:
            if self.puts == 0:
                raise StoreUnavailable("the network is gone")
            self.puts -= 1
        await super().put(key, data)  # type: ignore[arg-type]
