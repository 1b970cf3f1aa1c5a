"""The first epoch from a store on this machine's disk, beside the same files on that disk.

    python benchmarks/in_place.py          (as root, a minute; needs 4 GB in --dir)

    small files, in order    5,000 of 110 KiB by one reader
    small files, shuffled    the same by 8 readers
    one large file           1 GiB from start to end
    the same, mapped         400 pages at random places through a mapping, by 4 processes: so a training reads samples
                             from a file of tokens that is larger than memory (docs/decisions/read-ahead.md)

Each with a new daemon, no cache directory and the machine's page cache dropped; before each pass memory is taken and
freed (benchmarks/processes.py says why). What the daemon wrote to disk meanwhile is told with it: the store
is read in place, so nothing but its log (docs/decisions/in-place.md).
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import page_cache

FILES, FILE_BYTES, LARGE_BYTES, READERS, ROUNDS = 5000, 110 << 10, 1 << 30, 8, 3
READ_BYTES = 1 << 20
MAPPERS, MAPPED_PAGES = 4, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where files and store are made")
    place = Path(tempfile.mkdtemp(prefix="gridfs-in-place-", dir=parser.parse_args().dir))
    try:
        measure(place)
    finally:
        shutil.rmtree(place)


def measure(place: Path) -> None:
    environment = os.environ | {
        name: str(place / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
    }
    for directory in Path(environment["XDG_RUNTIME_DIR"]), place / "mounted":
        directory.mkdir()
    make(place / "small", place / "large")

    def grid(*arguments: str | Path) -> str:
        command = [sys.executable, "-m", "gridfs", "--store", place / "store", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    for name in "small", "large":
        grid("datastore", "create", place / name, "--name", name)
    passes: list[tuple[str, str, Callable[[Path], float], str]] = [
        ("small", "small files, in order", partial(timed, readers=1), "GB/s"),
        ("small", "small files, shuffled", partial(timed, readers=READERS), "GB/s"),
        ("large", "one large file", partial(timed, readers=1), "GB/s"),
        ("large", "the same, mapped", samples, "thousand pages/s"),
    ]
    for name, title, rate_of, unit in passes:
        ours, local, written = list[float](), list[float](), 0
        for _ in range(ROUNDS):
            local.append(rate_of(place / name))
            shutil.rmtree(environment["XDG_CACHE_HOME"], ignore_errors=True)
            grid("mount", name, place / "mounted")
            try:
                ours.append(rate_of(place / "mounted"))
                pid = re.search(rf"\b{name}@1 +mounted +\S+ +(\d+)", grid("status"))
                assert pid is not None
                written += written_bytes(int(pid[1]))
            finally:
                grid("unmount", place / "mounted")
        rates = f"{median(ours):6.2f} {unit}, the disk {median(local):6.2f}"
        print(f"{title:24} {rates}, ratio {median(ours) / median(local):4.2f}; written {written >> 20} MiB")


def make(small: Path, large: Path) -> None:
    content = random.Random(1).randbytes(64 << 20)
    for number in range(FILES):
        path = small / f"{number // 500:03}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * 4099 % (len(content) - FILE_BYTES)
        path.write_bytes(content[start : start + FILE_BYTES])
    large.mkdir()
    with (large / "large.bin").open("wb") as file:
        for number in range(LARGE_BYTES // len(content)):
            file.write(content[number:] + content[:number])
    os.sync()


def timed(root: Path, readers: int) -> float:
    """GB/s of all files below *root*, by so many processes; shuffled for more than one."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if readers > 1:
        random.Random(3).shuffle(files)
    page_cache.drop()
    start = time.perf_counter()
    with ProcessPoolExecutor(readers) as pool:
        total_bytes = sum(pool.map(read, [files[number::readers] for number in range(readers)]))
    return total_bytes / (time.perf_counter() - start) / 1e9


def read(files: Sequence[Path]) -> int:
    """How many bytes *files* have."""
    buffer, total_bytes = bytearray(READ_BYTES), 0
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        while count := os.readv(descriptor, [buffer]):
            total_bytes += count
        os.close(descriptor)
    return total_bytes


def samples(root: Path) -> float:
    """Thousands a second of pages of the large file below *root*, by MAPPERS processes together.

    Few, for what was read around them must not be what the next ones find in memory: of a larger file it would not.
    """
    page_cache.drop()
    start = time.perf_counter()
    with ProcessPoolExecutor(MAPPERS) as pool:
        count = sum(pool.map(touch, [root / "large.bin"] * MAPPERS, range(MAPPERS)))
    return count / (time.perf_counter() - start) / 1e3


def touch(file: Path, seed: int) -> int:
    """Reads MAPPED_PAGES pages of *file* at random, and says how many that were."""
    order, count = random.Random(seed), 0
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        for _ in range(MAPPED_PAGES):
            start = order.randrange(len(mapped) // mmap.PAGESIZE) * mmap.PAGESIZE
            count += len(mapped[start : start + mmap.PAGESIZE]) // mmap.PAGESIZE
    return count


def written_bytes(pid: int) -> int:
    """What process *pid* has sent to disks."""
    found = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
