"""Manifests on their way: from a file into the store, and from the store into the node's cache.

On a node a manifest lies at <cache>/manifests/<sha256>.sqlite and is shared by all that mount the version. It is
written under another name, verified, synced and renamed, so the final name never holds half a file; and it is hashed
again before each use (0.1 s for 1.28 million entries), because a cache is never trusted. What fails that is a miss.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

import trio

from gridfs.catalog_keys import manifest_key
from gridfs.catalog_parallel import in_parallel
from gridfs.config import PART_SIZE_BYTES, ensure_cache, ensure_private
from gridfs.errors import FormatError, ObjectMissing, Unsupported
from gridfs.manifest.transport import Packed, Unpacker, compress
from gridfs.model import ByteRange, Version
from gridfs.store.base import ObjectStore

_PARTS_AT_ONCE = 4
_UNUSED_S = 30 * 24 * 3600
"""A manifest that nobody opened for so long is removed when another one is fetched; it costs one fetch to be wrong."""


async def store_manifest(store: ObjectStore, name: str, sqlite_file: Path) -> Packed:
    """Compresses *sqlite_file*, puts it under its hash, and says what the commit record must name. Idempotent."""
    with tempfile.TemporaryDirectory(dir=sqlite_file.parent, prefix="manifest-") as scratch:
        compressed = Path(scratch) / "manifest.sqlite.zst"
        packed = await trio.to_thread.run_sync(compress, sqlite_file, compressed)
        with compressed.open("rb") as reading:

            async def chunks() -> AsyncGenerator[bytes, None]:
                while chunk := await trio.to_thread.run_sync(reading.read, PART_SIZE_BYTES):
                    yield chunk

            async with aclosing(chunks()) as stream:
                key = manifest_key(name, packed.sha256)
                await store.put_stream(key, stream, size_hint_bytes=packed.compressed_bytes)
    return packed


async def fetch_manifest(store: ObjectStore, version: Version, cache: Path) -> Path:
    """The manifest of *version* as a verified file below *cache*.

    Raises FormatError when the store's manifest is not the one that the commit record names, ObjectMissing when there
    is none, Unsupported when the cache's disk can't take it.
    """
    what = f"{version.name}@{version.version}"
    try:
        directory = ensure_private(ensure_cache(cache) / "manifests")
        path = directory / f"{version.manifest_sha256}.sqlite"
        if await trio.to_thread.run_sync(_is_intact, path, version.manifest_sha256):
            return path
        await _fetch(store, version, path)
        await trio.to_thread.run_sync(_remove_unused, directory)
    except ObjectMissing as error:
        raise ObjectMissing(
            f"the manifest of {what} is not in {store.url}", remedy="delete the version and create it anew"
        ) from error
    except FormatError as error:
        raise FormatError(
            f"the manifest of {what} in {store.url} is refused: {error.message}",
            remedy="someone has changed the store; restore it, or delete the version and create it anew",
        ) from error
    except OSError as error:
        raise Unsupported(
            f"the manifest of {what} can't be kept in {cache}: {error.strerror}",
            remedy="free some space, or choose another place with --cache-dir or GRIDFS_CACHE_DIR",
        ) from error
    return path


async def _fetch(store: ObjectStore, version: Version, path: Path) -> None:
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial")
    size_bytes = (await store.head(version.manifest_key)).size_bytes
    parts = [
        ByteRange(start, min(start + PART_SIZE_BYTES, size_bytes)) for start in range(0, size_bytes, PART_SIZE_BYTES)
    ]

    async def get(part: ByteRange) -> memoryview:
        return await store.get_range(version.manifest_key, part)

    try:
        with Unpacker(partial, sha256=version.manifest_sha256, size_bytes=version.manifest_bytes) as unpacker:
            for first in range(0, len(parts), _PARTS_AT_ONCE):
                for piece in await in_parallel(get, parts[first : first + _PARTS_AT_ONCE], _PARTS_AT_ONCE):
                    await trio.to_thread.run_sync(unpacker.feed, piece)
            unpacker.finish()
            await trio.to_thread.run_sync(os.fsync, unpacker.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_intact(path: Path, sha256: str) -> bool:
    """Whether the file at *path* has that hash; if so it counts as used now."""
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        os.utime(path)
    except OSError:
        return False
    return True


def _remove_unused(directory: Path) -> None:
    """Removes what nobody used for long. An open manifest can be removed: its mount keeps it until it ends."""
    oldest = time.time() - _UNUSED_S
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # another fetch has renamed or removed it
            if path.stat().st_mtime < oldest:
                path.unlink()
