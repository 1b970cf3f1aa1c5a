"""The whole measurement of one directory: which passes, in which order, from which state.

    cold   open to first byte, open+read+close and Python's open().read(), each of a third of the files, so that none
           was read before; files/s of 1, 4 and 8 readers; the largest file
    warm   the same again, over files that a pass before has just read

Each cold pass begins with make_cold. All but the cold latencies go over the whole sample; a pass that would take longer
than its share of the time ends early and says how many files it read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from gridfs.bench.figures import Latency, Rate
from gridfs.bench.measure import ACCESSES, Cold, cold_method, latencies, make_cold, random_reads, sequential
from gridfs.bench.parallel import read_by, shuffled
from gridfs.bench.sample import Sample, SampleFile, choose

READERS = (1, 4, 8)
RANDOM_READ_BYTES = 4096
RANDOM_READS = 500
RANDOM_MIN_BYTES = 16 << 20
"""Random reads of a smaller file would mostly hit what read-ahead brought."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """All figures of one directory."""

    directory: str
    filesystem: str
    cold: Cold
    file_count: int
    file_bytes: int
    largest_bytes: int
    latencies: tuple[Latency, ...]
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read at most."""

    max_files: int = 1000
    pass_s: float = 3.0
    """Time of one pass; there are about 25."""
    seed: int = 1


def filesystem_of(directory: str) -> str:
    """Type and source of the mount that holds *directory*, from /proc/self/mountinfo."""
    path, best, found = os.path.realpath(directory), "", "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields, _, tail = line.partition(" - ")
            point = fields.split(" ")[4].encode("latin-1", "replace").decode("unicode_escape")
            if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                best, found = point, " ".join(tail.split(" ")[:2])
    return found


def measure(directory: str, limits: Limits, say: Callable[[str], None]) -> Measurement:
    """Measures *directory*; *say* is told what is being done. Raises OSError, and ValueError without a file in it."""
    say("looking for files")
    sample = choose(os.fsencode(directory), limits.max_files)
    if sample.largest is None:
        raise ValueError("there is no file to read in it")
    method = cold_method()
    found_latencies: list[Latency] = []
    found_rates: list[Rate] = []
    everything = [*sample.small, sample.largest]
    if sample.small:
        found_latencies += _file_latencies(sample, method, limits, say)
        found_rates += _file_rates(sample, method, limits, say)
    for state in ("cold", "warm"):
        say(f"{state}: the largest file from start to end")
        if state == "cold":
            make_cold(method, everything)
        found_rates.append(sequential(state, sample.largest, limits.pass_s))
    if sample.largest.size_bytes >= RANDOM_MIN_BYTES:
        say("cold: random reads of the largest file")
        make_cold(method, everything)
        found_latencies += random_reads(
            "cold", sample.largest, RANDOM_READ_BYTES, RANDOM_READS, limits.pass_s, limits.seed
        )
    return Measurement(
        directory,
        filesystem_of(directory),
        method,
        len(sample.small),
        sample.small_bytes,
        sample.largest.size_bytes,
        tuple(found_latencies),
        tuple(found_rates),
    )


def _file_latencies(sample: Sample, method: Cold, limits: Limits, say: Callable[[str], None]) -> list[Latency]:
    order = shuffled(sample.small, limits.seed)
    found: list[Latency | None] = []
    for state in ("cold", "warm"):
        for number, access in enumerate(ACCESSES):
            say(f"{state}: {access}")
            if state == "cold":
                make_cold(method, sample.small)
                found.append(latencies(access, state, order[number :: len(ACCESSES)], limits.pass_s))
            else:
                _read_once(order, limits)
                found.append(latencies(access, state, order, limits.pass_s))
    return [latency for latency in found if latency is not None]


def _file_rates(sample: Sample, method: Cold, limits: Limits, say: Callable[[str], None]) -> list[Rate]:
    found = []
    for name, files in (("tree order", list(sample.small)), ("shuffled", shuffled(sample.small, limits.seed))):
        for readers in READERS:
            for state in ("cold", "warm"):
                say(f"{state}: {len(files)} files in {name}, {readers} readers")
                if state == "cold":
                    make_cold(method, sample.small)
                else:
                    _read_once(files, limits)
                found.append(read_by(readers, name, state, files, limits.pass_s))
    return found


def _read_once(files: list[SampleFile], limits: Limits) -> None:
    """Makes *files* warm, as far as a pass of the same length will come."""
    latencies("open, read, close", "warm", files, limits.pass_s)
