"""S3 servers on loopback: moto in a thread of this process, and Ceph's RADOS Gateway in processes of its own."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from tests.support.leftovers import unmarked_environment

CEPH_S3 = Path(__file__).with_name("ceph-s3")

CEPH_START_TIMEOUT_S = 600
"""It takes 2 s on two idle cores; a machine that needs three hundred times as long is taken for broken."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where an S3 server answers, what opens it, and the bucket that a test has for itself."""

    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str = ""
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """The credentials as AWS tools read them; the endpoint is given by each test, as a user gives it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def store_url(self, prefix: str = "store") -> str:
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

    def client(self) -> Any:
        """A boto3 client, to prepare and check buckets without the code under test."""
        return _client(self.endpoint_url, self.access_key, self.secret_key, self.region)

    def with_new_bucket(self) -> S3Server:
        """The same server and a fresh bucket of it."""
        bucket = f"gridfs-{uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=bucket)
        return replace(self, bucket=bucket)


@cache
def _client(endpoint_url: str, access_key: str, secret_key: str, region: str) -> Any:
    """One for all tests of a server: making it takes longer than most of what it is asked for."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
    )


def free_ports(count: int) -> int:
    """The first of *count* consecutive TCP ports that are free on loopback just now."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if port + count < 65536 and all(_is_free(port + i) for i in range(count)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's S3, each request in a thread, on a port that the kernel chose."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", "moto-access", "moto-secret")
    finally:
        server.stop()


@contextmanager
def ceph_server() -> Iterator[S3Server]:
    """Ceph RGW, ready. Raises RuntimeError with its last words when it does not come up: a missing server fails.

    It ends by itself when the pipe to it closes, so nothing outlives this process, however that ends. A session of its
    own keeps Ctrl-C from it: fixtures that are being torn down still use it.
    """
    process = subprocess.Popen(
        [CEPH_S3, str(free_ports(3))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=unmarked_environment(),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield _ready_server(process.stdout)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _ready_server(output: IO[str]) -> S3Server:
    heard: list[str] = []
    deadline = time.monotonic() + CEPH_START_TIMEOUT_S
    while select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = output.readline()
        if line.startswith("ready "):
            _, endpoint_url, access_key, secret_key = line.split()
            return S3Server(endpoint_url, access_key, secret_key)
        if not line:
            break
        heard.append(line)
    raise RuntimeError(f"{CEPH_S3} did not come up:\n{''.join(heard)}")
