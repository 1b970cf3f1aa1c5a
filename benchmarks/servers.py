"""The servers of a run, all on loopback and all ended with it.

rgw      Ceph's RADOS Gateway, as tests/support/ceph-s3 starts it: tcp_nodelay=1, without which every small GET
         waits 40 ms for a delayed ACK and punishes whoever does not pipeline
limited  a proxy before it that limits every connection as S3 does: 15 ms to the first byte, 90 MB/s
counted  the same proxy without limits, where requests and bytes are to be counted
nginx    serves the same objects from memory, where a goal is about less than a millisecond; what is no GET of an
         object it hands to RGW
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, ended
from gridfs.bench.figures import median

CEPH_S3 = ROOT / "tests/support/ceph-s3"
FIRST_BYTE_MS, RATE_MB = 15.0, 90.0
SMALL_GET_LIMIT_MS = 5.0
BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Server:
    """Where an S3 API answers."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    def environment(self) -> dict[str, str]:
        """Credentials as every S3 client reads them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def at(self, name: str, port: int) -> Server:
        return Server(name, f"http://127.0.0.1:{port}", self.access_key, self.secret_key)

    def store(self, **client_options: Any) -> Any:
        """obstore's view of the bucket, for what the suite itself puts and gets."""
        from obstore.store import S3Store

        options: Any = {"allow_http": True, **client_options}
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options=options,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ceph(gib: int) -> Iterator[Server]:
    """RGW with the bucket made; it ends when the pipe to it closes, also when this process is killed."""
    process = subprocess.Popen(
        [CEPH_S3, str(_free_ports(3))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"CEPH_S3_GIB": str(gib)},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        heard = []
        for line in process.stdout:
            if line.startswith("ready "):
                break
            heard.append(line)
        else:
            raise RuntimeError(f"{CEPH_S3} did not come up:\n{''.join(heard)}")
        _, endpoint, access_key, secret_key = line.split()
        server = Server("rgw", endpoint, access_key, secret_key)
        make_bucket(server)
        yield server
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def make_bucket(server: Server, name: str = BUCKET) -> None:
    """The bucket of a run, or another one. botocore, because obstore can't make one; it comes with aiobotocore."""
    import botocore.session
    from botocore.config import Config

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    client.close()


def _free_ports(count: int) -> int:
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Proxy:
    """A running limiter."""

    def __init__(self, process: subprocess.Popen[str], server: Server) -> None:
        self.process = process
        self.server = server

    def counted(self) -> dict[str, int]:
        """`requests`, `gets` and `bytes` since the last call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, int] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def proxy(upstream: Server, name: str, *, first_byte_ms: float = 0.0, rate_mb: float = 0.0) -> Iterator[Proxy]:
    """A limiter before *upstream*."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.limiter", str(upstream.port)),
            *(f"--first-byte-ms={first_byte_ms}", f"--rate-mb={rate_mb}"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Proxy(process, upstream.at(name, int(process.stdout.readline())))
    finally:
        process.stdin.close()
        ended(process)
        process.stdout.close()


NGINX_CONF = """
daemon off; worker_processes 1; pid {dir}/pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off; tcp_nodelay on; sendfile on; keepalive_requests 10000000; default_type application/octet-stream;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_set_header Host $http_host; }}
    location ~ ^/{bucket}/(raw/|store/.*/objects/) {{ root {root}; }}
  }}
}}
"""


@contextmanager
def nginx(upstream: Server, directory: Path, root: Path) -> Iterator[Server]:
    """nginx that serves what lies below *root*, by /bucket/key, and hands everything else to *upstream*."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise RuntimeError("no nginx (apt-get install --no-install-recommends nginx-light)")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX_CONF.format(dir=directory, port=port, upstream=upstream.port, bucket=BUCKET, root=root)
    )
    os.chmod(directory, 0o755)
    command: list[str | Path] = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        program,
        "-e",
        "stderr",
        "-c",
        configuration,
    ]  # ends with this process
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield upstream.at("nginx", port)
    finally:
        ended(process)


def small_get_ms(server: Server, count: int = 100) -> float:
    """Median time of a GET of 4 KiB. A run on a server that takes long for it measures that server's settings."""
    import obstore

    store = server.store()
    obstore.put(store, "small", b"x" * 4096)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        obstore.get(store, "small").bytes()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def ceiling_gb_per_s(server: Server, size_bytes: int, connections: int) -> float:
    """What *connections* streams of one object of *size_bytes* get in all from *server*: the limit that it sets."""
    from concurrent.futures import ThreadPoolExecutor

    import obstore

    store = server.store()
    part = min(8 << 20, size_bytes // connections)
    obstore.put(store, "ceiling", bytes(part))
    start = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(lambda _: len(obstore.get(store, "ceiling").bytes()), range(connections * 4)))
    return part * connections * 4 / (time.perf_counter() - start) / 1e9
