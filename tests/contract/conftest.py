"""The stores that every promise of gridfs/store/base.py is held against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import ObjectStore
from gridfs.store.directory import DirectoryStore
from gridfs.store.objects import BucketStore
from gridfs.store.simulated import SimulatedStore
from gridfs.store.stack import wrap_store
from tests.support.s3 import S3Server

MakeStore = Callable[[], ObjectStore]
"""Makes the store; called inside trio."""


def address_of(server: S3Server, *, signed: bool = True) -> BucketAddress:
    credentials = StaticCredentials(server.access_key, server.secret_key) if signed else None
    return BucketAddress(server.bucket, server.region, server.endpoint_url, credentials)


@pytest.fixture(params=["directory", "simulated", "stacked", "moto", pytest.param("ceph", marks=pytest.mark.ceph)])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """An empty store of each kind; `stacked` is a directory with the retries, limits and counts of store/stack."""
    if request.param == "directory":
        return lambda: DirectoryStore(tmp_path / "store")
    if request.param == "simulated":
        return SimulatedStore
    if request.param == "stacked":
        return lambda: wrap_store(DirectoryStore(tmp_path / "store"))
    server: S3Server = request.getfixturevalue(f"s3_{request.param}")
    return lambda: BucketStore(address_of(server), "some/prefix/")
