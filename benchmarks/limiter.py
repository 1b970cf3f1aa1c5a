"""A proxy on loopback that makes a near server answer like S3 does, and counts what passes.

    python -m benchmarks.limiter UPSTREAM_PORT [--first-byte-ms 15] [--rate-mb 90]

The first byte of each response is held back until so long after its request; each connection then gets no more than
the rate, which the kernel paces (SO_MAX_PACING_RATE), so that the proxy costs a splice() for each MiB and no sleep.
nginx's limit_rate can't do this: it counts whole seconds, and lets a part of 8 MiB pass at once. Without both options
it only counts. It prints its port; for each line on its input it prints {"requests", "gets", "bytes"} since the last.
It ends with its input.

One thread serves one connection, in turns of request and response, as HTTP/1.1 without pipelining is.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

SO_MAX_PACING_RATE = 47  # not in Python's socket module
F_SETPIPE_SZ = 1031
PIPE_BYTES = 1 << 20


@dataclass(slots=True)
class Counters:
    """What passed since the last report."""

    requests: int = 0
    gets: int = 0
    bytes: int = 0
    """Of responses."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def report(self) -> str:
        with self.lock:
            found = {"requests": self.requests, "gets": self.gets, "bytes": self.bytes}
            self.requests = self.gets = self.bytes = 0
        return json.dumps(found)


@dataclass(frozen=True, slots=True)
class Limits:
    first_byte_s: float = 0.0
    rate_bytes_per_s: int | None = None


def serve(listener: socket.socket, upstream_port: int, limits: Limits, counters: Counters) -> None:
    """Accepts until the process ends."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_connection, args=(client, upstream_port, limits, counters), daemon=True).start()


def _connection(client: socket.socket, upstream_port: int, limits: Limits, counters: Counters) -> None:
    upstream = socket.create_connection(("127.0.0.1", upstream_port))
    out_of, into = os.pipe()
    try:
        fcntl.fcntl(into, F_SETPIPE_SZ, PIPE_BYTES)
        for end in (client, upstream):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if limits.rate_bytes_per_s:
            client.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, limits.rate_bytes_per_s)
        _relay(client, upstream, (out_of, into), limits, counters)
    except OSError:
        pass  # either side hung up; the other learns of it by the close below
    finally:
        for end in (client, upstream):
            end.close()
        os.close(out_of)
        os.close(into)


def _relay(
    client: socket.socket, upstream: socket.socket, pipe: tuple[int, int], limits: Limits, counters: Counters
) -> None:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    poll.register(upstream, select.POLLIN)
    answering, requested_at = True, 0.0
    while True:
        ready = {number for number, _ in poll.poll()}
        if client.fileno() in ready:
            data = client.recv(1 << 18)
            if not data:
                return
            if answering:  # bytes after a response begin the next request
                answering, requested_at = False, time.monotonic()
                with counters.lock:
                    counters.requests += 1
                    counters.gets += data.startswith(b"GET ")
            upstream.sendall(data)
        if upstream.fileno() in ready:
            if not answering:
                answering = True
                if (wait := requested_at + limits.first_byte_s - time.monotonic()) > 0:
                    time.sleep(wait)
            count = os.splice(upstream.fileno(), pipe[1], PIPE_BYTES)
            if not count:
                return
            with counters.lock:
                counters.bytes += count
            while count:
                count -= os.splice(pipe[0], client.fileno(), count)


def main() -> None:
    parser = argparse.ArgumentParser(description="A proxy on loopback that limits and counts.")
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--first-byte-ms", type=float, default=0.0)
    parser.add_argument("--rate-mb", type=float, default=0.0)
    chosen = parser.parse_args()
    limits = Limits(chosen.first_byte_ms / 1000, int(chosen.rate_mb * 1e6) or None)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    counters = Counters()
    threading.Thread(target=serve, args=(listener, chosen.upstream_port, limits, counters), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(counters.report(), flush=True)


if __name__ == "__main__":
    main()
