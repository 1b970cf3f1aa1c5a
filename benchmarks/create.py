"""Speed and memory of creations, as ratios within one run.

    python benchmarks/create.py            (some minutes; needs 8 GB in --dir; Ceph, which takes 4 GB of memory)

    small files     10,000 files of 110 KiB into a directory store, beside `cp -r`, both followed by `sync`
    one large file  2 GiB, beside `cp`, both followed by `sync`
    second version  of 20,000 files of 110 KiB with 1 % of them changed, beside the first version of them, on a real S3
                    server (Ceph, in memory); in a directory store too, where the first is as fast as the disk. A
                    version of nothing but old files costs 0.5 s and 40 us a file.
    .tar.gz         of the small files from an HTTP server, beside `gzip -dc | tar t` of the same file
    memory          the highest resident size of each of these creations

What these creations hold is checked by the tests. The comparisons with rclone and `aws s3 sync` are workload j of
`python -m benchmarks`. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.s3 import ceph_server

FILES, FILE_BYTES, FILES_A_DIRECTORY = 10_000, 110 * 1024, 100
LARGE_BYTES = 2 << 30
ROUNDS = 3
VERSIONED_FILES = 20_000
RESIDENT_LIMIT_MIB = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One command."""

    seconds: float
    resident_mib: float


class Bench:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = os.environ | {
            "HOME": str(place / "home"),
            "XDG_STATE_HOME": str(place / "state"),
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_DATA_HOME": str(place / "data"),
        }
        self.missed: list[str] = []
        self.resident: dict[str, float] = {}

    def run(self, *command: str | Path, sync: bool = True) -> Run:
        """Runs *command* and then sync; a store elsewhere needs none."""
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{command} failed: {errors.decode()}")
        if sync:
            os.sync()
        return Run(time.perf_counter() - start, usage.ru_maxrss / 1024)

    def create(self, what: str, source: Path | str, *store: str | Path) -> Run:
        chosen = store or ("--store", self.place / "store")
        done = self.run(
            sys.executable, "-m", "gridfs", *chosen, "datastore", "create", source, "--name", "set", sync=not store
        )
        self.resident[what] = max(self.resident.get(what, 0), done.resident_mib)
        return done

    def figure(self, what: str, value: float, goal: float, *, at_least: bool) -> None:
        reached = value >= goal if at_least else value <= goal
        print(f"{what:60} {value:8.2f}   goal: {'>=' if at_least else '<='} {goal:<5} {'' if reached else 'MISSED'}")
        if not reached:
            self.missed.append(what)

    def clean(self) -> None:
        shutil.rmtree(self.place / "store", ignore_errors=True)
        os.sync()


def write_small(root: Path, files: int = FILES) -> None:
    for number in range(files):
        path = root / f"{number // FILES_A_DIRECTORY:03}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES // 2) + bytes(range(256)) * (FILE_BYTES // 512))


def alternate(rounds: int, *candidates: Callable[[], float]) -> list[float]:
    """The best of each, in alternating rounds."""
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for index, candidate in enumerate(candidates):
            times[index].append(candidate())
    return [min(column) for column in times]


def small_files(bench: Bench, source: Path) -> None:
    copy = bench.place / "copy"

    def ours() -> float:
        bench.clean()
        return bench.create("small files", source).seconds

    def theirs() -> float:
        shutil.rmtree(copy, ignore_errors=True)
        os.sync()
        return bench.run("cp", "-r", source, copy).seconds

    mine, cp = alternate(ROUNDS, ours, theirs)
    shutil.rmtree(copy)
    print(f"  {FILES:,} files of {FILE_BYTES >> 10} KiB: {mine:.2f} s, cp -r: {cp:.2f} s")
    bench.figure("small files, time / cp -r", mine / cp, 2.0, at_least=False)


def change(source: Path) -> None:
    """Another content for 1 % of the files."""
    for number in range(0, VERSIONED_FILES, 100):
        path = source / f"{number // FILES_A_DIRECTORY:03}" / f"{number:05}.bin"
        path.write_bytes(os.urandom(FILE_BYTES))


def second_version(bench: Bench) -> None:
    bench.clean()
    source = bench.place / "versioned"
    write_small(source, VERSIONED_FILES)
    os.sync()
    first, second = versions(bench, source, "a directory")
    print(f"  in a directory: {first / second:.1f} times faster")
    with ceph_server() as anywhere:
        server = anywhere.with_new_bucket()
        bench.environment |= server.environment()
        store = ("--store", server.store_url(), "--endpoint-url", server.endpoint_url)
        first, second = versions(bench, source, "S3", *store)
    bench.figure("second version on S3, time of the first / of the second", first / second, 10.0, at_least=True)


def versions(bench: Bench, source: Path, where: str, *store: str) -> tuple[float, float]:
    """Seconds of a first version and of a second one with 1 % changed."""
    first = bench.create(f"first version in {where}", source, *store).seconds
    change(source)
    second = bench.create(f"second version in {where}", source, *store).seconds
    print(f"  in {where}: first {first:.2f} s, second with 1 % changed {second:.2f} s")
    return first, second


def large_file(bench: Bench) -> None:
    folder, copy = bench.place / "large", bench.place / "copy"
    folder.mkdir()
    with (folder / "file").open("wb") as file:
        for _ in range(LARGE_BYTES >> 24):
            file.write(os.urandom(1 << 24))

    def ours() -> float:
        bench.clean()
        return bench.create("large file", folder).seconds

    def theirs() -> float:
        shutil.rmtree(copy, ignore_errors=True)
        os.sync()
        return bench.run("cp", "-r", folder, copy).seconds

    mine, cp = alternate(ROUNDS, ours, theirs)
    print(f"  one file of {LARGE_BYTES >> 20} MiB: {mine:.2f} s, cp: {cp:.2f} s")
    print(f"  time / cp: {mine / cp:.2f} (it reads, hashes and writes; against a bare client on S3: workload j)")
    shutil.rmtree(folder)
    shutil.rmtree(copy)


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """An HTTP server over *directory* in another process: this one's lock is not to be shared."""
    script = (
        "import functools, http.server, sys\n"
        "class Quiet(http.server.SimpleHTTPRequestHandler):\n"
        "    def log_message(self, *arguments): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=sys.argv[1]))\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def archive(bench: Bench, source: Path) -> None:
    directory = bench.place / "www"
    directory.mkdir()
    subprocess.run(["tar", "-C", source, "-czf", directory / "set.tar.gz", "."], check=True)
    with served(directory) as address:

        def ours() -> float:
            bench.clean()
            return bench.create(".tar.gz", f"{address}/set.tar.gz").seconds

        def theirs() -> float:
            command = f"gzip -dc {directory}/set.tar.gz | tar t > /dev/null"
            return bench.run("sh", "-c", command).seconds

        mine, gzip = alternate(ROUNDS, ours, theirs)
    print(f"  .tar.gz: {mine:.2f} s, gzip -dc | tar t: {gzip:.2f} s")
    bench.figure(".tar.gz, speed / gzip -dc | tar t", gzip / mine, 0.8, at_least=True)
    shutil.rmtree(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where the data goes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridfs-create-", dir=chosen.dir) as scratch:
        bench = Bench(Path(scratch))
        source = bench.place / "source"
        write_small(source)
        os.sync()
        small_files(bench, source)
        archive(bench, source)
        second_version(bench)
        large_file(bench)
    for what, resident_mib in bench.resident.items():
        bench.figure(f"memory of {what}, MiB", resident_mib, RESIDENT_LIMIT_MIB, at_least=False)
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
