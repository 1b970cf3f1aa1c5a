"""Whole versions in a store, made by hand: packs, checksums and hashes without the code that makes them in earnest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from xxhash import xxh3_64

from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifest_key, object_key
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode, Version
from tests.support.manifests import BLOCK_SIZE_BYTES, Node, add_tree, settings

MTIME_NS = 1_600_000_000_123_456_789
GAP = b"\xee" * 100
"""Between the files of a pack: bytes of no file."""


@dataclass(frozen=True, slots=True)
class Link:
    target: bytes


@dataclass(frozen=True, slots=True)
class Program:
    """A file that may be executed."""

    data: bytes


Tree = Mapping[bytes, "bytes | Link | Program | None"]
"""By path: a file's bytes, a link, a program; None is a directory."""


async def make_version(
    catalog: Catalog,
    scratch: Path,
    tree: Tree,
    *,
    name: str = "set",
    pack_files: int = 3,
    block_size_bytes: int = BLOCK_SIZE_BYTES,
) -> Version:
    """Commits a version of *tree*, *pack_files* files to an object, in the order of their paths."""
    nodes: list[Node] = []
    packs: list[bytearray] = []
    files = 0
    for path, what in sorted(tree.items()):
        if what is None:
            nodes.append(Node(path, Kind.DIRECTORY, mode=0o755, mtime_ns=MTIME_NS))
            continue
        if isinstance(what, Link):
            nodes.append(Node(path, Kind.SYMLINK, len(what.target), target=what.target, mtime_ns=MTIME_NS))
            continue
        data = what.data if isinstance(what, Program) else what
        mode = 0o755 if isinstance(what, Program) else 0o644
        digest = hashlib.sha256(data).digest()
        if not data:
            nodes.append(Node(path, mode=mode, mtime_ns=MTIME_NS, sha256=digest))
            continue
        if files % pack_files == 0:
            packs.append(bytearray())
        files += 1
        nodes.append(Node(path, Kind.FILE, len(data), len(packs), len(packs[-1]), None, mode, MTIME_NS, digest))
        packs[-1] += data + GAP
    sqlite_file = scratch / f"{uuid4().hex}.{name}"
    with ManifestWriter(sqlite_file, settings(block_size_bytes=block_size_bytes)) as writer:
        for number, pack in enumerate(packs, 1):
            identity = hashlib.md5(bytes(pack)).hexdigest()
            await catalog.store.put(object_key(name, identity), pack)
            blocks = [pack[start : start + block_size_bytes] for start in range(0, len(pack), block_size_bytes)]
            checksums = b"".join(xxh3_64(bytes(block)).intdigest().to_bytes(8, "little") for block in blocks)
            assert writer.add_object(identity, len(pack), checksums) == number
        add_tree(writer, nodes)
        info = writer.finish()
    packed = await catalog.store_manifest(name, sqlite_file)
    return await catalog.commit(
        Version(
            name,
            0,
            "",
            "/data/set",
            Mode.COPY,
            info.file_count,
            info.directory_count,
            info.symlink_count,
            info.total_bytes,
            manifest_key(name, packed.sha256),
            packed.sha256,
            packed.size_bytes,
        )
    )
