"""Manifests for tests and benchmarks, made through the public writer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gridfs.manifest.order import directories_above, place_of
from gridfs.manifest.schema import ManifestInfo, ManifestSettings
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode

BLOCK_SIZE_BYTES = 4096
"""Small, so that small manifests have objects of several blocks."""


class Node(NamedTuple):
    """One entry of a tree that a test describes by paths."""

    path: bytes
    kind: Kind = Kind.FILE
    size: int = 0
    object: int | None = None
    offset: int | None = None
    target: bytes | None = None
    mode: int = 0o644
    mtime_ns: int = 0
    sha256: bytes | None = None


def settings(**changes: object) -> ManifestSettings:
    """Settings of a manifest of a copied version."""
    values: dict[str, object] = {
        "block_size_bytes": BLOCK_SIZE_BYTES,
        "mode": Mode.COPY,
        "source": "/data/set",
        "created_by": "tests",
    }
    return ManifestSettings(**(values | changes))  # type: ignore[arg-type]


def add_tree(writer: ManifestWriter, nodes: Iterable[Node]) -> None:
    """Adds *nodes*, given in any order, and the directories that they lie in."""
    tree = {node.path: node for node in nodes}
    for path in list(tree):
        for directory in directories_above(path):
            tree.setdefault(directory, Node(directory, Kind.DIRECTORY, mode=0o755))
    for node in sorted(tree.values(), key=lambda node: place_of(node.path)):
        writer.add_entry(
            *place_of(node.path),
            node.kind,
            node.mode,
            node.size,
            node.mtime_ns,
            object=node.object,
            offset=node.offset,
            sha256=node.sha256,
            target=node.target,
        )


def write_tree(path: Path, nodes: Iterable[Node], object_sizes: Iterable[int] = ()) -> ManifestInfo:
    """A whole manifest; the checksum of block b of object n is n * 1000 + b."""
    with ManifestWriter(path, settings()) as writer:
        for number, size in enumerate(object_sizes, 1):
            writer.add_object(f"{number:032x}", size, checksums(number, size))
        add_tree(writer, nodes)
        return writer.finish()


def checksums(number: int, size: int) -> bytes:
    """What `write_tree` gives an object for checksums."""
    return b"".join((number * 1000 + block).to_bytes(8, "little") for block in range(-(-size // BLOCK_SIZE_BYTES)))
