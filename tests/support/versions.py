"""What a version holds, read from the store without a mount, and what a folder holds, to compare them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

import trio
import xxhash

from gridfs.catalog import Catalog
from gridfs.catalog_keys import object_key
from gridfs.config import Paths
from gridfs.manifest.reader import Manifest
from gridfs.model import Kind, Problem, Version, VersionSpec
from gridfs.store.base import ObjectStore


class Node(NamedTuple):
    """What must be equal in a source and its version."""

    kind: Kind
    mode: int
    mtime_ns: int
    content: bytes
    """Hash of a file's bytes (trees may be large), target of a link."""


def folder_tree(root: Path) -> dict[bytes, Node]:
    """Everything that a version keeps of the folder *root*; the root itself is b''."""
    tree: dict[bytes, Node] = {}
    top = os.fsencode(root)

    def visit(path: bytes) -> None:
        full = os.path.join(top, path) if path else top
        status = os.lstat(full)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            tree[path] = Node(Kind.DIRECTORY, mode, status.st_mtime_ns, b"")
            for name in os.listdir(full):
                visit(os.path.join(path, name) if path else name)
        elif stat.S_ISLNK(status.st_mode):
            tree[path] = Node(Kind.SYMLINK, 0o777, status.st_mtime_ns, os.readlink(full))
        elif stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            tree[path] = Node(Kind.FILE, mode, status.st_mtime_ns, content)

    visit(b"")
    return tree


class StoredTree(NamedTuple):
    """A version, read back whole."""

    version: Version
    nodes: dict[bytes, Node]
    problems: list[Problem]
    object_keys: list[str]

    def reasons(self) -> dict[str, list[bytes]]:
        """Names of the report by reason."""
        found: dict[str, list[bytes]] = {}
        for problem in self.problems:
            found.setdefault(problem.reason, []).append(problem.name)
        return {reason: sorted(names) for reason, names in found.items()}


async def stored_tree(store: ObjectStore, paths: Paths, spec: VersionSpec) -> StoredTree:
    """Reads every byte of a version, and checks all that the manifest claims: hashes, block checksums, live bytes."""
    catalog = Catalog(store)
    version = await catalog.resolve(spec)
    manifest = Manifest.open(await catalog.fetch_manifest(version, paths.cache))
    try:
        objects: dict[int, memoryview] = {}
        keys = []
        block_size = manifest.info.block_size_bytes
        for number in range(1, manifest.info.object_count + 1):
            record = manifest.object(number)
            data = objects[number] = await store.get(object_key(spec.name, record.key))
            keys.append(record.key)
            assert len(data) == record.size_bytes
            blocks = record.block_count(block_size)
            checksums = manifest.checksums(number, 0, blocks)
            assert checksums is not None
            for block in range(blocks):
                piece = data[block * block_size : (block + 1) * block_size]
                assert xxhash.xxh3_64_intdigest(piece) == checksums[block]
        nodes: dict[bytes, Node] = {}
        for path, entry in manifest.walk():
            content = entry.target or b""
            if entry.kind == Kind.FILE:
                if entry.size:
                    assert entry.object is not None
                    assert entry.offset is not None
                    data = objects[entry.object][entry.offset : entry.offset + entry.size]
                    assert len(data) == entry.size
                else:
                    data = memoryview(b"")
                content = await trio.to_thread.run_sync(lambda data: hashlib.sha256(data).digest(), data)
                assert content == entry.sha256
            nodes[path] = Node(Kind(entry.kind), entry.mode, entry.mtime_ns, content)
        files = sum(node.kind is Kind.FILE for node in nodes.values())
        assert (version.file_count, version.problem_count) == (files, manifest.info.problem_count)
        return StoredTree(version, nodes, list(manifest.problems()), keys)
    finally:
        manifest.close()
