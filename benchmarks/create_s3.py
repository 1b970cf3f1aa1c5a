"""Creations in a bucket beside what moves the same bytes there without hashing, packing or a manifest.

    python -m benchmarks.create_s3 [--rounds 3] [--objects 10000] [--large-mib 2048]   (some minutes, 8 GiB for Ceph)

copied    so many objects of 110 KiB of one bucket become a version in another one, beside `rclone copy` between the
          same two buckets: as it is by default, where the server copies and no byte leaves it, and with
          `--disable copy`, where rclone reads and writes as gridfs does; both with 32 transfers, as gridfs reads
uploaded  one large file of a local folder, beside the bare client: obstore's multipart upload of the same file with
          the same part size, parts at once and signatures, in a process of its own
large     one object of that size from bucket to bucket, beside `rclone copy --disable copy`

Each is a process, timed from start to end, and each round begins with another of them. A ratio is the median of the
rounds' own ratios; above 1 gridfs is faster. Memory is the peak resident size. Bytes are checked by the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.jobs.content import CHUNK_BYTES, Bank
from benchmarks.processes import ROOT, Failed, last_words
from benchmarks.rivals import install
from benchmarks.servers import BUCKET, Server, ceph, make_bucket
from gridfs.bench.figures import median

TARGET = "target"
SMALL_BYTES = 110 << 10
TRANSFERS = 32
GOAL = 0.8
RESIDENT_LIMIT_MIB = 300
BARE = """
import sys, obstore
from pathlib import Path
from obstore.store import S3Store
from gridfs.store.objects_client import UPLOAD_PART_SIZE_BYTES, PARTS_AT_ONCE
endpoint, bucket, key, path = sys.argv[1:]
store = S3Store(bucket, endpoint=endpoint, region="us-east-1", virtual_hosted_style_request=False,
                client_options={"allow_http": True, "timeout": "600s"})
obstore.put(store, key, Path(path), chunk_size=UPLOAD_PART_SIZE_BYTES, max_concurrency=PARTS_AT_ONCE)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process."""

    seconds: float
    resident_mib: float


Program: TypeAlias = Callable[[int], Run]
"""The argument is the number of the round, for names that were not there before."""


@dataclass(frozen=True, slots=True)
class Row:
    """One program in one comparison."""

    what: str
    program: str
    seconds: list[float]
    resident_mib: float
    ratio: float
    """Its time by gridfs's."""


class Bench:
    """The programs, on one server."""

    def __init__(self, server: Server, rclone: Path, work: Path) -> None:
        self.server = server
        self._rclone = rclone
        places = {f"XDG_{kind}_HOME": str(work / kind.lower()) for kind in ("DATA", "CACHE", "STATE", "CONFIG")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GRIDFS_", "XDG_"))}
        self._environment = kept | places | server.environment() | {"PYTHONPATH": str(ROOT)}

    def grid(self, source: str | Path, name: str) -> Run:
        store = ("--store", f"s3://{TARGET}/store", "--endpoint-url", self.server.endpoint)
        return self._run(sys.executable, "-m", "gridfs", *store, "datastore", "create", source, "--name", name)

    def rclone(self, source: str, target: str, *options: str) -> Run:
        remote = f":s3,provider=Ceph,env_auth=true,endpoint='{self.server.endpoint}',region=us-east-1:"
        among = (f"--transfers={TRANSFERS}", f"--checkers={TRANSFERS}")
        return self._run(self._rclone, "copy", f"{remote}{source}", f"{remote}{TARGET}/{target}", *among, *options)

    def bare(self, path: Path, key: str) -> Run:
        return self._run(sys.executable, "-c", BARE, self.server.endpoint, TARGET, key, path)

    def _run(self, *command: str | Path) -> Run:
        start = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                raise Failed(f"{command[0]}: {last_words(errors.read().decode(errors='replace'))}")
        return Run(seconds, usage.ru_maxrss / 1024)


class Comparison:
    """Programs that do the same; the first of them is gridfs."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._runs: dict[str, list[Run]] = {}

    def turn(self, programs: Mapping[str, Program], number: int) -> None:
        """One round."""
        names = list(programs)
        for name in names:
            self._runs.setdefault(name, [])
        for name in [*names[number % len(names) :], *names[: number % len(names)]]:
            done = programs[name](number)
            self._runs[name].append(done)
            print(f"  {self.what}, {name}: {done.seconds:.2f} s", file=sys.stderr, flush=True)

    def rows(self) -> list[Row]:
        ours = next(iter(self._runs.values()), [])
        return [
            Row(
                self.what,
                name,
                [round(run.seconds, 2) for run in runs],
                round(max(run.resident_mib for run in runs)),
                round(median([run.seconds / mine.seconds for run, mine in zip(runs, ours, strict=True)]), 2),
            )
            for name, runs in self._runs.items()
        ]


def put_small(server: Server, count: int) -> None:
    import obstore

    bank, store = Bank(), server.store()

    def put(number: int) -> None:
        obstore.put(store, f"small/d{number % 20:02}/f{number:05}.bin", bank.file(number, SMALL_BYTES))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, range(count)))


def copies(bench: Bench) -> dict[str, Program]:
    source = f"{BUCKET}/small"
    return {
        "gridfs": lambda number: bench.grid(f"s3://{source}/", f"small-{number}"),
        "rclone copy": lambda number: bench.rclone(source, f"copy-{number}"),
        "rclone copy --disable copy": lambda number: bench.rclone(source, f"moved-{number}", "--disable=copy"),
    }


def uploads(bench: Bench, file: Path) -> dict[str, Program]:
    return {
        "gridfs": lambda number: bench.grid(file.parent, f"folder-{number}"),
        "bare client": lambda number: bench.bare(file, f"bare-{number}/file"),
    }


def large_copies(bench: Bench) -> dict[str, Program]:
    """Of what the bare client has put."""
    return {
        "gridfs": lambda number: bench.grid(f"s3://{TARGET}/bare-{number}/", f"large-{number}"),
        "rclone copy --disable copy": lambda number: bench.rclone(
            f"{TARGET}/bare-{number}", f"large-{number}", "--disable=copy"
        ),
    }


def measure(rclone: Path, work: Path, objects: int, large_mib: int, rounds: int) -> list[Row]:
    """A server for each round: RGW frees what is deleted much later, and keeps everything in memory."""
    copied = Comparison(f"{objects:,} objects of {SMALL_BYTES >> 10} KiB copied")
    uploaded = Comparison(f"a file of {large_mib} MiB uploaded")
    large = Comparison(f"an object of {large_mib} MiB copied")
    file = work / "folder/file.bin"
    file.parent.mkdir()
    bank = Bank()
    with file.open("wb") as content:
        for chunk in range(large_mib):
            content.write(bank.file(chunk, CHUNK_BYTES))
    os.sync()
    for number in range(rounds):
        if objects:
            with ceph(gib=6) as server:
                make_bucket(server, TARGET)
                put_small(server, objects)
                copied.turn(copies(Bench(server, rclone, work)), number)
        if large_mib:
            with ceph(gib=10) as server:
                make_bucket(server, TARGET)
                bench = Bench(server, rclone, work)
                uploaded.turn(uploads(bench, file), number)
                large.turn(large_copies(bench), number)
    return [*copied.rows(), *uploaded.rows(), *large.rows()]


def missed(rows: Iterable[Row]) -> Sequence[str]:
    """What gridfs has not reached."""
    return [
        *(f"{row.what}: {row.ratio} of {row.program}" for row in rows if row.ratio < GOAL),
        *(f"{row.what}: {row.resident_mib:.0f} MiB" for row in rows
          if row.program == "gridfs" and row.resident_mib > RESIDENT_LIMIT_MIB),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=10_000, help="0: no small objects")
    parser.add_argument("--large-mib", type=int, default=2048, help="0: no large one")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp/gridfs-bench"), help="where the data and rclone are")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rclone = install(chosen.dir / "rivals").require("rclone")
    with tempfile.TemporaryDirectory(prefix="create-s3-", dir=chosen.dir) as work:
        rows = measure(rclone, Path(work), chosen.objects, chosen.large_mib, chosen.rounds)
    for row in rows:
        print(
            f"{row.what:34} {row.program:27} {median(row.seconds):7.2f} s {row.resident_mib:5.0f} MiB {row.ratio:6.2f}"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for line in missed(rows):
        print(f"MISSED  {line}")
    return 1 if missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
