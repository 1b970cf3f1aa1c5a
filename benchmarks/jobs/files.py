"""Reads files of a directory: whole small files, or parts of a large one. Runs on any Python, drives only the kernel.

Timed is each access by itself, around the system calls; the rate is of the whole pass with its comparisons.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from benchmarks.jobs.content import CHUNK_BYTES, Bank, Mismatch
from benchmarks.jobs.job import Job, Pass, by_processes, main


def readv(path: str, buffer: bytearray) -> tuple[bytes | bytearray, int]:
    """One readv() into a buffer of the file's size, as who knows the size does it: no second call finds the end."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        total = os.readv(descriptor, [buffer])
        while total < len(buffer) and (count := os.readv(descriptor, [memoryview(buffer)[total:]])):
            total += count
        return buffer, total
    finally:
        os.close(descriptor)


def builtin(path: str, buffer: bytearray) -> tuple[bytes | bytearray, int]:
    with open(path, "rb") as file:
        data = file.read()
    return data, len(data)


def open_close(path: str, buffer: bytearray) -> tuple[bytes | bytearray, int]:
    os.close(os.open(path, os.O_RDONLY))
    return b"", -1


Read = Callable[[str, bytearray], tuple[bytes | bytearray, int]]
ACCESSES: dict[str, Read] = {
    "readv": readv,
    "builtin": builtin,
    "open+close": open_close,
}


def whole_files(job: Job) -> Job:
    """`access`, `readers`, `limit_s`, `whole` (compare every byte in the loop, or both ends of each file).

    With `warm_up` the files are read once, untimed, just before: someone else on the machine may have dropped caches.
    With `walk` each directory is listed before its files are read; that is part of the pass.
    """
    bank, access = Bank(), ACCESSES[job["access"]]
    if job.get("warm_up"):
        job["files"] = job["files"][: _read_once(job)]

    def read(number: int) -> Job:
        mine = job["files"][number :: job["readers"]]
        clock, done = time.perf_counter, Pass(job["limit_s"])
        buffers = {size: bytearray(size) for _, size, _ in mine}
        listed = ""
        for path, size, file_number in mine:
            if job.get("walk") and (directory := os.path.dirname(path)) != listed:
                os.listdir(directory)
                listed = directory
            start = clock()
            data, count = access(path, buffers[size])
            elapsed = clock() - start
            if count >= 0:
                bank.check_file(file_number, size, memoryview(data)[:count], whole=job["whole"])
            if not done.add(elapsed, size):
                break
        return done.result()

    result = by_processes(job["readers"], read)
    if not job["whole"]:
        _check_whole(job, bank, result["files"])
    return result


def _read_once(job: Job) -> int:
    """How many of the files could be read in `limit_s`."""
    end = time.monotonic() + job["limit_s"]
    for number, (path, size, _) in enumerate(job["files"], 1):
        readv(path, bytearray(size))
        if time.monotonic() > end:
            return number
    return len(job["files"])


def _check_whole(job: Job, bank: Bank, count: int) -> None:
    """After a warm pass: the same files once more, untimed, every byte."""
    for path, size, number in job["files"][:count]:
        with open(path, "rb") as file:
            data = file.read()
        bank.check_file(number, size, data, whole=True)


def sequential(job: Job) -> Job:
    """`path`, `size`, `read_bytes`: from start to end."""
    bank, done, buffer = Bank(), Pass(job["limit_s"]), bytearray(job["read_bytes"])
    descriptor = os.open(job["path"], os.O_RDONLY)
    clock, offset = time.perf_counter, 0
    while True:
        start = clock()
        count = os.readv(descriptor, [buffer])
        elapsed = clock() - start
        if not count:
            break
        bank.check_range(offset, memoryview(buffer)[:count])
        offset += count
        if not done.add(elapsed, count):
            break
    os.close(descriptor)
    result = done.result()
    if offset < job["size"] and result["stop"] - result["start"] < job["limit_s"]:
        raise Mismatch(f"large file: the end after {offset} of {job['size']} bytes")
    result["elapsed_s"] = result["stop"] - result["start"]
    return result


def random_reads(job: Job) -> Job:
    """`path`, `size`, `read_bytes`, `count`: aligned preads at random places, one after the other."""
    bank, done, buffer = Bank(), Pass(job["limit_s"]), bytearray(job["read_bytes"])
    places = random.Random(11)
    descriptor = os.open(job["path"], os.O_RDONLY)
    clock = time.perf_counter
    for _ in range(job["count"]):
        offset = places.randrange(job["size"] // len(buffer)) * len(buffer)
        start = clock()
        count = os.preadv(descriptor, [buffer], offset)
        elapsed = clock() - start
        if count != len(buffer):
            raise Mismatch(f"large file: {count} bytes at {offset} instead of {len(buffer)}")
        bank.check_range(offset, memoryview(buffer)[:count])
        if not done.add(elapsed, count):
            break
    os.close(descriptor)
    result = done.result()
    result["elapsed_s"] = result["stop"] - result["start"]
    return result


def interleaved(job: Job) -> Job:
    """`readers` processes read one file together, each every n-th chunk of 1 MiB."""
    bank = Bank()

    def read(number: int) -> Job:
        done, buffer = Pass(job["limit_s"]), bytearray(CHUNK_BYTES)
        descriptor = os.open(job["path"], os.O_RDONLY)
        clock = time.perf_counter
        for offset in range(number * CHUNK_BYTES, job["size"], job["readers"] * CHUNK_BYTES):
            start = clock()
            count = os.preadv(descriptor, [buffer], offset)
            elapsed = clock() - start
            if count != min(CHUNK_BYTES, job["size"] - offset):
                raise Mismatch(f"large file: {count} bytes at {offset}")
            bank.check_range(offset, memoryview(buffer)[:count])
            if not done.add(elapsed, count):
                break
        os.close(descriptor)
        return done.result()

    return by_processes(job["readers"], read)


KINDS = {"files": whole_files, "sequential": sequential, "random": random_reads, "interleaved": interleaved}

if __name__ == "__main__":
    main(lambda job: KINDS[job["kind"]](job))
