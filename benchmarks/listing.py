"""How fast a bucket is listed behind 15 ms of latency: gridfs against `rclone lsf -R`, with rclone's defaults.

    python -m benchmarks.listing [--keys 200000] [--rounds 3] [--rclone PATH] [--json FILE]

Two shapes of names, because the two differ: one flat heap of numbered files, and a tree of 1,000 directories. The
server is benchmarks/listing_server.py, which says why it is not Ceph. The programs are run alternately as processes of
their own, and the number of keys is compared. `gridfs (listing)` is the listing alone, without starting Python;
`gridfs (dry run)` is what a user waits for, `grid datastore create --dry-run`, which also sorts keys into a journal.
What the server itself gives is told first: the same pages by 16 connections that know where each begins, and parse
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.listing_names import SHAPES, names
from benchmarks.processes import ROOT, run
from benchmarks.rivals import Rivals, install
from benchmarks.servers import BUCKET, FIRST_BYTE_MS, Server
from gridfs.bench.figures import median
from gridfs.store.listing import PAGE_KEYS

CONNECTIONS = 16
LISTER = """
import sys, time, trio
from functools import partial
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.listing import list_in_parallel
from gridfs.store.s3_bucket import S3Bucket

async def main(endpoint, key, secret, bucket, prefix):
    client = S3Bucket(BucketAddress(bucket, "us-east-1", endpoint, StaticCredentials(key, secret)))
    count = 0
    async def deliver(heads):
        nonlocal count
        count += len(heads)
    start = time.perf_counter()
    await list_in_parallel(partial(client.list_page, prefix), prefix, deliver)
    await client.aclose()
    print(count, time.perf_counter() - start)

trio.run(main, *sys.argv[1:])
"""


def programs(server: Server, rclone: Path, home: Path) -> dict[str, Callable[[str], tuple[int, float]]]:
    """Each lists a prefix and returns how many keys it has seen, and in how many seconds."""
    environment = os.environ | server.environment() | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    for variable, name in (("DATA", "data"), ("CACHE", "cache"), ("STATE", "state"), ("CONFIG", "config")):
        environment[f"XDG_{variable}_HOME"] = str(home / name)
    remote = (
        f":s3,provider=Other,env_auth=true,endpoint='{server.endpoint}',region=us-east-1,force_path_style=true:{BUCKET}"
    )

    def timed(command: list[str]) -> tuple[str, float]:
        start = time.perf_counter()
        return run(command, environment), time.perf_counter() - start

    def rclone_lsf(shape: str) -> tuple[int, float]:
        command = [str(rclone), "lsf", "-R", "--files-only", f"{remote}/{shape}"]
        output, seconds = timed(command)
        return output.count("\n"), seconds

    def lister(shape: str) -> tuple[int, float]:
        keys = (server.endpoint, server.access_key, server.secret_key, BUCKET, f"{shape}/")
        count, seconds = run([sys.executable, "-c", LISTER, *keys], environment).split()
        return int(count), float(seconds)

    def dry_run(shape: str) -> tuple[int, float]:
        command = [sys.executable, "-m", "gridfs", "datastore", "create", f"s3://{BUCKET}/{shape}/", "--dry-run"]
        output, seconds = timed([*command, "--endpoint-url", server.endpoint, "-o", "json"])
        return int(json.loads(output)["file_count"]), seconds

    return {"rclone lsf -R": rclone_lsf, "gridfs (listing)": lister, "gridfs (dry run)": dry_run}


@contextmanager
def listing_server(keys: int) -> Iterator[Server]:
    """The server of both shapes, in a process of its own."""
    shapes = [word for shape in SHAPES for word in (shape, str(keys))]
    command = [sys.executable, "-m", "benchmarks.listing_server", *shapes, f"--first-byte-ms={FIRST_BYTE_MS}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Server("listing", f"http://127.0.0.1:{int(process.stdout.readline())}", "key", "secret")
        process.stdin.close()


def ceiling_keys_per_s(server: Server, shape: str, keys: int) -> int:
    """The most that any lister with CONNECTIONS could reach."""
    starts = sorted(names(shape, keys))[PAGE_KEYS - 1 :: PAGE_KEYS]
    address = server.endpoint.removeprefix("http://")

    def read(share: list[str]) -> None:
        connection = HTTPConnection(address)
        for start in share:
            query = urlencode({"list-type": 2, "prefix": f"{shape}/", "start-after": start, "encoding-type": "url"})
            connection.request("GET", f"/{BUCKET}?{query}")
            connection.getresponse().read()
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(read, [starts[number::CONNECTIONS] for number in range(CONNECTIONS)]))
    return round(keys / (time.perf_counter() - began))


def measure(server: Server, rclone: Path, keys: int, rounds: int) -> list[dict[str, object]]:
    """A row for each shape and program. Raises RuntimeError when one of them misses a key."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as home:
        for shape in SHAPES:
            seconds: dict[str, list[float]] = {}
            for _ in range(rounds):
                for name, program in programs(server, rclone, Path(home)).items():
                    seen, taken_s = program(shape)
                    seconds.setdefault(name, []).append(taken_s)
                    if seen != keys:
                        raise RuntimeError(f"{name} has seen {seen} of {keys} keys of {shape}/")
            base = median(seconds["rclone lsf -R"])
            for name, taken in seconds.items():
                rate = round(keys / median(taken))
                rows.append({"shape": shape, "program": name, "seconds": [round(s, 2) for s in taken],
                             "keys_per_s": rate, "ratio": round(base / median(taken), 2)})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rclone", type=Path, help="default: PyPI's, in the rivals' virtual environment")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rclone = options.rclone or _installed().require("rclone")
    with listing_server(options.keys) as server:
        ceilings = {shape: ceiling_keys_per_s(server, shape, options.keys) for shape in SHAPES}
        rows = measure(server, rclone, options.keys, options.rounds)
    version = subprocess.run([rclone, "version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    print(f"{options.keys:,} keys, {FIRST_BYTE_MS:.0f} ms to the first byte, {version}")
    for shape, rate in ceilings.items():
        print(f"{shape:6} {'the server itself':18} {rate:>9,} keys/s")
    for row in rows:
        print(f"{row['shape']:6} {row['program']:18} {row['keys_per_s']:>9,} keys/s   {row['ratio']:>5} x rclone")
    if options.json:
        options.json.write_text(
            json.dumps({"keys": options.keys, "rclone": version, "server": ceilings, "rows": rows}, indent=1) + "\n"
        )


def _installed() -> Rivals:
    return install(ROOT / "benchmarks" / ".rivals")


if __name__ == "__main__":
    main()
