"""What the objects of a version are, remembered on the node: a collection looks into each manifest once and not daily.

A list lies at <cache>/reachable/<SHA-256 of the manifest>: the SHA-256 of what follows, then the id of an object on
each line. A list that does not have its hash is no list, since a wrong one would cost data. Manifests that only a
collection has looked into are not kept: a year of daily versions of 1.28 million files would be 60 GB of them, and
100 MB of lists.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from gridfs.catalog import Catalog
from gridfs.config import ensure_cache, ensure_private
from gridfs.manifest.reader import Manifest
from gridfs.model import Version

_UNUSED_S = 30 * 24 * 3600


async def object_ids(catalog: Catalog, version: Version, cache: Path) -> frozenset[str]:
    """The ids of all objects that the manifest of *version*, which is a copied one, names.

    Raises what Catalog.fetch_manifest raises.
    """
    directory = ensure_private(ensure_cache(cache) / "reachable")
    path = directory / version.manifest_sha256
    known = await trio.to_thread.run_sync(_read, path)
    if known is not None:
        return known
    with TemporaryDirectory(prefix="gc-", dir=cache) as scratch:
        at_hand = (cache / "manifests" / f"{version.manifest_sha256}.sqlite").exists()
        manifest_file = await catalog.fetch_manifest(version, cache if at_hand else Path(scratch))
        ids = await trio.to_thread.run_sync(_look_into, manifest_file)
    await trio.to_thread.run_sync(_write, path, ids)
    return ids


def _look_into(manifest_file: Path) -> frozenset[str]:
    with Manifest.open(manifest_file) as manifest:
        return frozenset(record.key for record in manifest.objects())


def _read(path: Path) -> frozenset[str] | None:
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
        os.utime(path)
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    return frozenset(body.decode().splitlines())


def _write(path: Path, ids: Iterable[str]) -> None:
    """A cache that can't be written changes nothing."""
    body = "".join(f"{each}\n" for each in sorted(ids)).encode()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        partial.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        partial.replace(path)
        oldest = time.time() - _UNUSED_S
        for other in path.parent.iterdir():
            with suppress(FileNotFoundError):
                if other.stat().st_mtime < oldest:
                    other.unlink()
