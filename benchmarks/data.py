"""The datasets of a run: made on local disk once, put into the bucket file by file for the rivals."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs.content import CHUNK_BYTES, Bank
from benchmarks.processes import run
from benchmarks.servers import Server

DIRECTORIES = 20
UPLOADS = 16


@dataclass(frozen=True, slots=True)
class File:
    """One file of a dataset."""

    path: str
    """Relative."""
    size_bytes: int
    number: int
    """Which content (jobs/content.py)."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder on local disk, and the same files below raw/<name>/ in the bucket."""

    name: str
    source: Path
    files: tuple[File, ...]
    """In tree order."""

    @property
    def prefix(self) -> str:
        return f"raw/{self.name}"

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def shuffled(self, count: int | None = None) -> list[File]:
        """The first *count* of the files in an order that is random and always the same."""
        order = list(self.files)
        random.Random(5).shuffle(order)
        return order[:count]


def small_files(directory: Path, name: str, count: int, size_bytes: int) -> Dataset:
    """*count* files of *size_bytes* in DIRECTORIES directories."""
    bank, source, files = Bank(), directory / name, []
    each = -(-count // DIRECTORIES)
    for number in range(count):
        path = f"d{number // each:02}/f{number:05}.bin"
        target = source / path
        if number % each == 0:
            target.parent.mkdir(parents=True)
        target.write_bytes(bank.file(number, size_bytes))
        files.append(File(path, size_bytes, number))
    return Dataset(name, source, tuple(files))


def large_file(directory: Path, name: str, size_bytes: int) -> Dataset:
    """One file of a row of chunks."""
    bank, source = Bank(), directory / name
    source.mkdir(parents=True)
    with (source / "big.bin").open("wb") as file:
        for chunk in range(size_bytes // CHUNK_BYTES):
            file.write(bank.file(chunk, CHUNK_BYTES))
    return Dataset(name, source, (File("big.bin", size_bytes, 0),))


IMAGE_PROGRAM = """
import io, os, random, sys
from PIL import Image
directory, count, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
noise, originals = random.Random(9), []
for _ in range(20):
    small = Image.frombytes("RGB", (64, 48), noise.randbytes(64 * 48 * 3))
    quality, data = 95, b""
    picture = small.resize((640, 480), Image.BICUBIC)
    for side in range(420, 1200, 30):
        out = io.BytesIO()
        Image.blend(picture.resize((side, side)), Image.effect_noise((side, side), 60).convert("RGB"), 0.3).save(
            out, "JPEG", quality=80)
        if len(out.getvalue()) >= wanted:
            break
    originals.append(out.getvalue())
each = -(-count // 20)
for number in range(count):
    comment = b"image %08d" % number
    data = originals[number % 20]
    data = data[:2] + b"\\xff\\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
    folder = os.path.join(directory, "class%02d" % (number // each))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "%05d.jpg" % number), "wb") as file:
        file.write(data)
"""
"""Real JPEG files of about the wanted size; a comment segment with its number makes each of them another."""


def images(directory: Path, name: str, count: int, size_bytes: int, python: Path) -> Dataset:
    """JPEG files in 20 directories, made by Pillow in the rivals' environment."""
    source = directory / name
    source.mkdir(parents=True)
    run([python, "-c", IMAGE_PROGRAM, source, str(count), str(size_bytes)])
    found = sorted(source.rglob("*.jpg"))
    return Dataset(
        name,
        source,
        tuple(File(str(p.relative_to(source)), p.stat().st_size, number) for number, p in enumerate(found)),
    )


def names(directory: Path, name: str, count: int) -> Dataset:
    """*count* entries, two thousand files to a directory: for walking, not for reading. Only the first file has bytes.

    `files` has only that one.
    """
    source = directory / name
    for number in range(count - count // 2000 - count // 100_000):
        if number % 2000 == 0:
            folder = source / f"{number // 100_000:02}" / f"{number // 2000:05}"
            folder.mkdir(parents=True)
        os.close(os.open(folder / f"{number:07}", os.O_WRONLY | os.O_CREAT, 0o644))
    first = File("00/00000/0000000", 110 << 10, 0)
    (source / first.path).write_bytes(Bank().file(0, first.size_bytes))
    return Dataset(name, source, (first,))


def upload(dataset: Dataset, server: Server, prefix: str | None = None) -> None:
    """Puts the files into the bucket as they are, by the bare client; below the dataset's *prefix* or another one."""
    import obstore

    below = prefix or dataset.prefix

    store = server.store(timeout="600s")

    def put(file: File) -> None:
        path = dataset.source / file.path
        if file.size_bytes > 64 << 20:
            obstore.put(store, f"{below}/{file.path}", path, chunk_size=16 << 20, max_concurrency=4)
        else:
            obstore.put(store, f"{below}/{file.path}", path.read_bytes())

    with ThreadPoolExecutor(UPLOADS) as threads:
        list(threads.map(put, dataset.files))


def upload_names(dataset: Dataset, server: Server) -> None:
    """Puts a folder of empty files; the bare client does 2,000 of them a second."""
    import obstore

    store = server.store()

    def put(path: Path) -> None:
        obstore.put(store, f"{dataset.prefix}/{path.relative_to(dataset.source)}", path.read_bytes())

    with ThreadPoolExecutor(UPLOADS) as threads:
        for _ in threads.map(put, (path for path in dataset.source.rglob("*") if path.is_file())):
            pass


def export(server: Server, prefixes: list[str], root: Path, bucket: str) -> None:
    """Copies all objects below *prefixes* to files below *root*, for nginx."""
    import obstore

    store = server.store()
    for prefix in prefixes:
        for batch in obstore.list(store, prefix):
            for found in batch:
                target = root / bucket / found["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(obstore.get(store, found["path"]).bytes())
