"""The same accesses by an object client without a file system, one GET for each: obstore, or a boto3 loop.

`endpoint`, `bucket`, `access_key`, `secret_key` say where. Readers are threads: obstore works outside Python's lock
and must not be used in a forked process; boto3 is given the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from benchmarks.jobs.content import CHUNK_BYTES, Bank
from benchmarks.jobs.job import Job, Pass, main, together

PART_BYTES = 8 << 20


class Client(Protocol):
    def get(self, key: str) -> bytes | bytearray | memoryview: ...

    def get_range(self, key: str, offset: int, size: int) -> bytes | bytearray | memoryview: ...


class Obstore:
    def __init__(self, job: Job) -> None:
        from obstore.store import S3Store

        self.store: Any = S3Store(
            job["bucket"],
            endpoint=job["endpoint"],
            access_key_id=job["access_key"],
            secret_access_key=job["secret_key"],
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def get(self, key: str) -> memoryview:
        import obstore

        return memoryview(obstore.get(self.store, key).bytes())

    def stream(self, key: str) -> Iterator[bytes]:
        import obstore

        return iter(obstore.get(self.store, key).stream(min_chunk_size=1 << 20))

    def get_range(self, key: str, offset: int, size: int) -> memoryview:
        import obstore

        return memoryview(obstore.get_range(self.store, key, start=offset, length=size))


class Boto3:
    def __init__(self, job: Job) -> None:
        import boto3
        from botocore.config import Config

        self.bucket = job["bucket"]
        self.client = boto3.client(
            "s3",
            endpoint_url=job["endpoint"],
            aws_access_key_id=job["access_key"],
            aws_secret_access_key=job["secret_key"],
            region_name="us-east-1",
            config=Config(max_pool_connections=16, s3={"addressing_style": "path"}),
        )

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        wanted = f"bytes={offset}-{offset + size - 1}"
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key, Range=wanted)["Body"].read()
        return data


def files(job: Job, client: Client) -> Job:
    """One GET for each file, `readers` at a time."""
    bank = Bank()
    client.get(job["files"][0][0])  # a connection, as who has mounted has one

    def read(number: int) -> Job:
        clock, done = time.perf_counter, Pass(job["limit_s"])
        for key, size, file_number in job["files"][number :: job["readers"]]:
            start = clock()
            data = client.get(key)
            elapsed = clock() - start
            bank.check_file(file_number, size, data, whole=True)
            if not done.add(elapsed, size):
                break
        return done.result()

    return _by_threads(job["readers"], read)


def parts(job: Job, client: Client) -> Job:
    """A large object in parts of 8 MiB, `readers` of them at a time."""
    return _every_nth(job, client, PART_BYTES)


def stream(job: Job, client: Obstore) -> Job:
    """A large object in one GET over one connection."""
    bank, done, clock, offset = Bank(), Pass(job["limit_s"]), time.perf_counter, 0
    start = clock()
    for chunk in client.stream(job["key"]):
        elapsed = clock() - start
        bank.check_range(offset, memoryview(chunk))
        offset += len(chunk)
        if not done.add(elapsed, len(chunk)):
            break
        start = clock()
    return together([done.result()])


def random_ranges(job: Job, client: Client) -> Job:
    """`count` ranges of `read_bytes` at random places, one after the other."""
    bank, places = Bank(), random.Random(11)
    client.get_range(job["key"], 0, 1)
    clock, done, size = time.perf_counter, Pass(job["limit_s"]), job["read_bytes"]
    for _ in range(job["count"]):
        offset = places.randrange(job["size"] // size) * size
        start = clock()
        data = client.get_range(job["key"], offset, size)
        elapsed = clock() - start
        bank.check_range(offset, data)
        if not done.add(elapsed, size):
            break
    return together([done.result()])


def chunks(job: Job, client: Client) -> Job:
    """Threads read one object together, each every n-th MiB."""
    return _every_nth(job, client, CHUNK_BYTES)


def _every_nth(job: Job, client: Client, range_bytes: int) -> Job:
    """`readers` threads read one object together, each every n-th range of *range_bytes*."""
    bank = Bank()
    client.get_range(job["key"], 0, 1)

    def read(number: int) -> Job:
        clock, done = time.perf_counter, Pass(job["limit_s"])
        for offset in range(number * range_bytes, job["size"], job["readers"] * range_bytes):
            start = clock()
            data = client.get_range(job["key"], offset, min(range_bytes, job["size"] - offset))
            elapsed = clock() - start
            bank.check_range(offset, data)
            if not done.add(elapsed, len(data)):
                break
        return done.result()

    return _by_threads(job["readers"], read)


def _by_threads(readers: int, read: Any) -> Job:
    with ThreadPoolExecutor(readers) as threads:
        return together(list(threads.map(read, range(readers))))


KINDS: dict[str, Any] = {
    "files": files,
    "sequential": parts,
    "stream": stream,
    "random": random_ranges,
    "interleaved": chunks,
}
CLIENTS = {"obstore": Obstore, "boto3": Boto3}

if __name__ == "__main__":
    main(lambda job: KINDS[job["kind"]](job, CLIENTS[job["client"]](job)))
