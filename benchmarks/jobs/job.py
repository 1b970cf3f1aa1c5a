"""What all jobs share: a JSON object in, a JSON object out, an order of files, and readers that start together."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Job = dict[str, Any]
"""One job as it came: `files` is a list of [path or key, size in bytes, number]."""


def main(work: Callable[[Job], Job]) -> None:
    """Runs *work* on the job of standard input. A failure is printed as {"failure": text}, and is exit code 1."""
    faulthandler.enable()
    job = json.load(sys.stdin)
    try:
        result = work(job)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"failure": f"{type(error).__name__}: {error}"}))
        sys.exit(1)
    print(json.dumps(result))


class Pass:
    """Counts and times of one reader over its share of the files."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.latencies_us: list[float] = []
        self.files = 0
        self.size_bytes = 0
        self.start = time.monotonic()

    def add(self, seconds: float, size_bytes: int) -> bool:
        """Counts one access; whether there is time for another."""
        self.latencies_us.append(seconds * 1e6)
        self.files += 1
        self.size_bytes += size_bytes
        return time.monotonic() - self.start < self.limit_s

    def result(self) -> Job:
        return {
            "latencies_us": self.latencies_us,
            "files": self.files,
            "bytes": self.size_bytes,
            "start": self.start,
            "stop": time.monotonic(),
        }


def together(results: list[Job]) -> Job:
    """Results of readers that ran at the same time as one: the clock runs from the first start to the last end."""
    for result in results:
        if "failure" in result:
            raise RuntimeError(result["failure"])
    return {
        "latencies_us": [value for result in results for value in result["latencies_us"]],
        "files": sum(result["files"] for result in results),
        "bytes": sum(result["bytes"] for result in results),
        "elapsed_s": max(result["stop"] for result in results) - min(result["start"] for result in results),
    }


def by_processes(readers: int, read: Callable[[int], Job]) -> Job:
    """Runs read(reader number) in *readers* forked processes that start together."""
    if readers == 1:
        return together([read(0)])
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(readers)

    def run(number: int, results: Connection) -> None:
        try:
            barrier.wait(60)
            results.send(read(number))
        except Exception as error:
            results.send({"failure": f"{type(error).__name__}: {error}"})

    started = []
    for number in range(readers):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(number, sender))
        process.start()
        sender.close()  # so that the end of the reader is the end of the pipe
        started.append((process, receiver))
    results = []
    for process, receiver in started:
        try:
            results.append(receiver.recv())
        except EOFError:
            results.append({"failure": f"a reader ended by itself ({process.exitcode})"})
    for process, _ in started:
        process.join()
    return together(results)
