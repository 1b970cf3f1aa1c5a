"""The passes of a measurement, each over files of a sample, timed around the system calls alone.

A pass ends when its files or its seconds are used up. One buffer serves all reads: allocating 110 KiB anew for every
file costs more than a warm read of it. What *cold* means depends on who measures:

- who may write /proc/sys/vm/drop_caches drops the page cache, dentries and inodes of the whole machine;
- everyone else asks the kernel to forget the pages of just these files (posix_fadvise DONTNEED), and dentries stay.

Neither reaches the caches of a file system's daemon: a second cold pass over the same files of a mount is served by
those.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from gridfs.bench.figures import Latency, Rate
from gridfs.bench.sample import SampleFile

DROP_CACHES = "/proc/sys/vm/drop_caches"
READ_BYTES = 1 << 20


class Cold(Enum):
    """How a cold state is made; the value is what the user is told."""

    MACHINE = "cold: page cache, dentries and inodes of the machine were dropped (drop_caches)"
    FILES = (
        "cold: the kernel was asked to forget the pages of the files (posix_fadvise DONTNEED; drop_caches is not "
        "permitted); dentries stay"
    )


DAEMON_NOTE = (
    "A mount's daemon has caches of its own, which this does not empty. Each cold latency is of files that were not "
    "read before, so that of a new mount shows the store; cold throughput is of files that the daemon knows by then."
)


def cold_method() -> Cold:
    return Cold.MACHINE if os.access(DROP_CACHES, os.W_OK) else Cold.FILES


def make_cold(method: Cold, files: Iterable[SampleFile]) -> None:
    """Brings *files* to the state that *method* names."""
    if method is Cold.MACHINE:
        with open(DROP_CACHES, "w") as control:
            control.write("3")
        return
    for file in files:
        descriptor = os.open(file.path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def first_byte(path: bytes, buffer: bytearray) -> int:
    """open() to the first byte, and not a byte more asked for."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return len(os.pread(descriptor, 1, 0))
    finally:
        os.close(descriptor)


def whole_file(path: bytes, buffer: bytearray) -> int:
    """os.open(), readv() into *buffer* until the end, close()."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        total = 0
        while count := os.readv(descriptor, [buffer]):
            total += count
            if count < len(buffer):
                break
        return total
    finally:
        os.close(descriptor)


def builtin_open(path: bytes, buffer: bytearray) -> int:
    """Python's own open().read(), which before 3.14 also asks isatty() of every file."""
    with open(path, "rb") as file:
        return len(file.read())


Access = Callable[[bytes, bytearray], int]
ACCESSES: dict[str, Access] = {
    "open to first byte": first_byte,
    "open, read, close": whole_file,
    "Python open().read()": builtin_open,
}


def latencies(access: str, state: str, files: Sequence[SampleFile], limit_s: float) -> Latency | None:
    """Times *access* for each file, for at most *limit_s*; None when there is no file."""
    act, buffer, clock = ACCESSES[access], bytearray(READ_BYTES), time.perf_counter
    seconds: list[float] = []
    end = clock() + limit_s
    for file in files:
        start = clock()
        act(file.path, buffer)
        stop = clock()
        seconds.append(stop - start)
        if stop > end:
            break
    return Latency.of(access, state, seconds) if seconds else None


def sequential(state: str, file: SampleFile, limit_s: float) -> Rate:
    """One file from its start in reads of 1 MiB."""
    buffer, total, clock = bytearray(READ_BYTES), 0, time.perf_counter
    start = clock()
    descriptor = os.open(file.path, os.O_RDONLY)
    try:
        while (count := os.readv(descriptor, [buffer])) and clock() - start < limit_s:
            total += count
    finally:
        os.close(descriptor)
    return Rate("sequential", state, 1, 1, total, clock() - start)


def random_reads(state: str, file: SampleFile, size_bytes: int, count: int, limit_s: float, seed: int) -> list[Latency]:
    """pread() of *size_bytes* at random aligned offsets, and page faults of an mmap() at others."""
    offsets = random.Random(seed)
    slots = max(1, file.size_bytes // size_bytes)
    clock = time.perf_counter
    preads: list[float] = []
    faults: list[float] = []
    descriptor = os.open(file.path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        buffer, end = bytearray(size_bytes), clock() + limit_s / 2
        for _ in range(count):
            offset = offsets.randrange(slots) * size_bytes
            start = clock()
            os.preadv(descriptor, [buffer], offset)
            stop = clock()
            preads.append(stop - start)
            if stop > end:
                break
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as view:
            view.madvise(mmap.MADV_RANDOM)
            end = clock() + limit_s / 2
            for _ in range(count):
                offset = offsets.randrange(file.size_bytes)
                start = clock()
                view[offset]
                stop = clock()
                faults.append(stop - start)
                if stop > end:
                    break
    finally:
        os.close(descriptor)
    return [
        Latency.of(f"random pread of {size_bytes >> 10} KiB", state, preads),
        Latency.of("random mmap page", state, faults),
    ]
