"""Which client moves the bytes: aiobotocore on asyncio and on trio, obstore from trio's threads, or our own short way.

    python -m benchmarks.clients [--rounds 3] [--seconds 3] [--json FILE]

Two loads on Ceph RGW, each for so many seconds, alternately, every body compared with what was put: GETs of 110 KiB
(the mean of ImageNet's files) by 32 tasks, and parts of 8 MiB by 8 tasks. What counts is the CPU that the client's
process takes (user and system, the server is not in it): on a node it is the training job's. Each client runs in a
process of its own (`--client NAME` is that process), and importing it is timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, run
from benchmarks.servers import BUCKET, Server, ceph
from gridfs.bench.figures import median

SMALL, PART = 110 << 10, 8 << 20
LOADS = {"small": (SMALL, 32), "parts": (PART, 8)}
CLIENTS = (
    "aiobotocore (asyncio, aiohttp)",
    "aiobotocore (trio, httpx)",
    "obstore (trio's threads)",
    "store/wire.py (trio)",
)

Get = Callable[[str, int, int], Awaitable[bytes | memoryview]]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def put_objects(server: Server) -> None:
    """64 small objects and one of 64 MiB."""
    import obstore

    store = server.store()
    for number in range(64):
        obstore.put(store, f"small/{number}", content(SMALL))
    obstore.put(store, "parts/0", content(PART) * 8)


class Load:
    """Gets for so many seconds."""

    def __init__(self, kind: str, seconds: float, get: Get) -> None:
        self.size, self.tasks = LOADS[kind]
        self._kind = kind
        self._get = get
        self._expected = content(self.size)
        self._next = 0
        self._ends_s = time.monotonic() + seconds
        self.requests = 0

    async def work(self) -> None:
        while time.monotonic() < self._ends_s:
            number, self._next = self._next, self._next + 1
            if self._kind == "small":
                body = await self._get(f"small/{number % 64}", 0, self.size)
            else:
                start = number % 8 * self.size
                body = await self._get("parts/0", start, start + self.size)
            if body != self._expected:
                raise RuntimeError("a body is not what was put")
            self.requests += 1


def measured(load: Load, began_s: float, cpu_before_s: float) -> dict[str, float]:
    elapsed_s = time.monotonic() - began_s
    cpu_s = _cpu_s() - cpu_before_s
    gigabytes = load.requests * load.size / 1e9
    return {
        "requests_per_s": round(load.requests / elapsed_s),
        "gb_per_s": round(gigabytes / elapsed_s, 3),
        "cpu_ms_per_request": round(cpu_s * 1e3 / load.requests, 3),
        "cpu_s_per_gb": round(cpu_s / gigabytes, 3),
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def client_process(name: str, kind: str, seconds: float, server: Server) -> dict[str, float]:
    """The measurement of one client, in this process."""
    import_began_s = time.perf_counter()
    if name == CLIENTS[0]:
        return _asyncio(kind, seconds, server, import_began_s)
    import trio

    return trio.run(_on_trio, name, kind, seconds, server, import_began_s)


def _asyncio(kind: str, seconds: float, server: Server, began_s: float) -> dict[str, float]:
    import asyncio

    import aiobotocore.config
    import aiobotocore.session

    import_s = time.perf_counter() - began_s

    async def main() -> dict[str, float]:
        config = aiobotocore.config.AioConfig(max_pool_connections=64, s3={"addressing_style": "path"})
        async with _client(aiobotocore.session.get_session(), server, config) as client:
            load = Load(kind, seconds, _get_by(client))
            began, cpu = time.monotonic(), _cpu_s()
            await asyncio.gather(*(load.work() for _ in range(load.tasks)))
            return measured(load, began, cpu) | {"import_s": round(import_s, 2)}

    return asyncio.run(main())


async def _on_trio(name: str, kind: str, seconds: float, server: Server, began_s: float) -> dict[str, float]:
    import trio

    async def drive(get: Get, import_s: float) -> dict[str, float]:
        load = Load(kind, seconds, get)
        began, cpu = time.monotonic(), _cpu_s()
        async with trio.open_nursery() as nursery:
            for _ in range(load.tasks):
                nursery.start_soon(load.work)
        return measured(load, began, cpu) | {"import_s": round(import_s, 2)}

    if name == CLIENTS[1]:
        import aiobotocore.session

        from gridfs.store.s3 import client_config

        import_s = time.perf_counter() - began_s
        async with _client(aiobotocore.session.get_session(), server, client_config()) as client:
            return await drive(_get_by(client), import_s)
    from gridfs.model import ByteRange
    from gridfs.store.address import BucketAddress, StaticCredentials
    from gridfs.store.base import ignore
    from gridfs.store.objects import BucketStore

    if name == CLIENTS[2]:
        import obstore  # noqa: F401 - its import is what is timed

    import_s = time.perf_counter() - began_s
    keys = StaticCredentials(server.access_key, server.secret_key)
    address = BucketAddress(BUCKET, "us-east-1", server.endpoint, keys, is_direct=name == CLIENTS[3])
    store = BucketStore(address)
    buffers: dict[int, list[memoryview]] = {}

    async def get(key: str, start: int, stop: int) -> memoryview:
        """Into a buffer that is used again once the caller has looked at it, as the block cache does with parts."""
        size = stop - start
        idle = buffers.setdefault(size, [])
        buffer = idle.pop() if idle else memoryview(bytearray(size))
        await store.stream_range(key, ByteRange(start, stop), ignore, into=buffer)
        idle.append(buffer)
        return buffer

    return await drive(get, import_s)


def _client(session: Any, server: Server, config: Any) -> Any:
    return session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=config,
    )


def _get_by(client: Any) -> Get:
    async def get(key: str, start: int, stop: int) -> bytes:
        answer = await client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={start}-{stop - 1}")
        async with answer["Body"] as body:
            read: bytes = await body.read()
            return read

    return get


def compare(rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by load and client."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with ceph(2) as server:
        put_objects(server)
        where = [server.endpoint, server.access_key, server.secret_key]
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        for _ in range(rounds):
            for kind in LOADS:
                for name in CLIENTS:
                    command = [sys.executable, "-m", "benchmarks.clients", "--client", name, "--load", kind]
                    output = run([*command, "--seconds", str(seconds), "--server", *where], environment)
                    found.setdefault(kind, {}).setdefault(name, []).append(json.loads(output))
    return {kind: {name: _medians(ones) for name, ones in clients.items()} for kind, clients in found.items()}


def _medians(ones: list[dict[str, float]]) -> dict[str, float]:
    return {figure: median([one[figure] for one in ones]) for figure in ones[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--load", choices=list(LOADS), help=argparse.SUPPRESS)
    parser.add_argument("--server", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        server = Server("rgw", *options.server)
        print(json.dumps(client_process(options.client, options.load, options.seconds, server)))
        return
    results = compare(options.rounds, options.seconds)
    for kind, clients in results.items():
        for name, figures in clients.items():
            cost = f"{figures['cpu_ms_per_request']:>8} ms CPU/GET {figures['cpu_s_per_gb']:>6} s CPU/GB"
            rate = f"{figures['requests_per_s']:>6} GET/s {figures['gb_per_s']:>6} GB/s"
            print(f"{kind:6} {name:31} {cost} {rate}  import {figures['import_s']} s")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
