"""Where the things of a datastore lie in a store (docs/manifest-format.md, "The store").

datastores/<name>/objects/<xx>/<id>             data; <xx> are the id's first two digits
datastores/<name>/manifests/<sha256>.sqlite.zst
datastores/<name>/versions/<00000001>.json      commit record, or the tombstone of a deleted version
datastores/<name>/leases/<id>.json              a creation in progress
datastores/<name>/marks/<sha256 of the key>.json  something that the garbage collection saw unreachable
"""

from __future__ import annotations

import re

ROOT = "datastores/"

_VERSION = re.compile(r"/versions/([0-9]{8})\.json\Z")


def object_key(name: str, object_id: str) -> str:
    """Of a pack or a large file; *object_id* has 32 hex digits."""
    return f"{ROOT}{name}/objects/{object_id[:2]}/{object_id}"


def objects_prefix(name: str) -> str:
    return f"{ROOT}{name}/objects/"


def manifest_key(name: str, sha256: str) -> str:
    """Of a manifest; *sha256* is that of the uncompressed file."""
    return f"{ROOT}{name}/manifests/{sha256}.sqlite.zst"


def manifests_prefix(name: str) -> str:
    return f"{ROOT}{name}/manifests/"


def version_key(name: str, version: int) -> str:
    """Of a commit record."""
    return f"{ROOT}{name}/versions/{version:08d}.json"


def versions_prefix(name: str) -> str:
    return f"{ROOT}{name}/versions/"


def version_of_key(key: str) -> int | None:
    """The number of the version whose record *key* is; None for any other key."""
    match = _VERSION.search(key)
    return int(match[1]) if match else None


def lease_key(name: str, lease_id: str) -> str:
    return f"{ROOT}{name}/leases/{lease_id}.json"


def leases_prefix(name: str) -> str:
    return f"{ROOT}{name}/leases/"


def collections_prefix(name: str) -> str:
    return f"{ROOT}{name}/collections/"


def marks_prefix(name: str) -> str:
    return f"{ROOT}{name}/marks/"
