"""Many readers, a memory budget that holds a tenth of the data, and pages that are dropped: always the right bytes.

Here buffers are used again all the time, while the thread in C answers from them and the kernel reads ahead.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gridfs.config import MIB, CacheSettings, StoreSettings
from gridfs.mount import client
from gridfs.mount.client import MountRequest
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp
from tests.support.s3 import S3Server

READERS = 4
SMALL = 700
SIZES = [0, 1, 4000, 4096, 30_000, 110 * 1024, 200_000, 262_144, 300_000, 900_000]
LARGE = [20_000_000, 37_000_001]
CEPH = pytest.mark.ceph
KIND = multiprocessing.get_context("fork")


def size_of(number: int) -> int:
    return LARGE[number - SMALL] if number >= SMALL else SIZES[number * 7919 % len(SIZES)]


def path_of(number: int) -> str:
    return f"{number * 7 // SMALL}/{number:04}"


def check(mount: str, number: int, choice: random.Random) -> None:
    """Reads a file, or a piece of it, and has the kernel forget its pages."""
    wanted = ramp(size_of(number), number)
    descriptor = os.open(f"{mount}/{path_of(number)}", os.O_RDONLY)
    try:
        if len(wanted) > 4096 and choice.random() < 0.3:
            start, size = choice.randrange(len(wanted)), choice.randrange(1, min(3 * MIB, len(wanted)))
            assert os.pread(descriptor, size, start) == wanted[start : start + size], (number, start, size)
        else:
            read = b"".join(iter(lambda: os.read(descriptor, 1 * MIB), b""))
            assert read == wanted, number
        if choice.random() < 0.7:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read(mount: str, seed: int, turns: int, result: Connection) -> None:
    choice = random.Random(seed)
    try:
        for _ in range(turns):
            kind = choice.random()
            if kind < 0.6:
                start = choice.randrange(SMALL)
                numbers = list(range(start, min(SMALL, start + 150)))
            elif kind < 0.9:
                numbers = choice.sample(range(SMALL), 40)
            else:
                numbers = [choice.randrange(SMALL, SMALL + len(LARGE))]
            for number in numbers:
                check(mount, number, choice)
    except BaseException as error:
        result.send(f"{type(error).__name__}: {error}"[:500])
        raise
    result.send("")


@pytest.mark.parametrize("turns", [4, pytest.param(150, marks=pytest.mark.long)])
@pytest.mark.parametrize("tier", ["in place", pytest.param("none", marks=CEPH), pytest.param("cache", marks=CEPH)])
@pytest.mark.parametrize("mode", ["image", "bare"])
def test_bytes_are_right_while_buffers_are_used_again(
    request: pytest.FixtureRequest, staged: Stage, tmp_path: Path, mode: str, tier: str, turns: int
) -> None:
    if tier != "in place":
        server: S3Server = request.getfixturevalue("s3_ceph")
        staged.store = StoreSettings(server.store_url(), server.endpoint_url)
    source = tmp_path / "source"
    for number in range(SMALL + len(LARGE)):
        path = source / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ramp(size_of(number), number))
    version = staged.create(source, "pressed").version
    mount = tmp_path / "mount"
    mount.mkdir()
    cache = CacheSettings(staged.paths.cache, 40 * MIB if tier == "cache" else 0, 32 * MIB)
    wanted = MountRequest(staged.store, version, cache, MODES[mode], mount)
    staged.mounted.append(client.mount(wanted, staged.paths))
    results, readers = [], []
    for seed in range(READERS):
        receiver, sender = KIND.Pipe(duplex=False)
        reader = KIND.Process(target=read, args=(str(mount), seed, turns, sender))
        reader.start()
        sender.close()
        readers.append(reader)
        results.append(receiver)
    assert [result.recv() for result in results] == [""] * READERS
    for reader in readers:
        reader.join()
    (status,) = staged.statuses()
    assert status.detail["reads_answered_in_c"] > 0
    assert status.detail["reader"]["memory_peak_bytes"] <= 32 * MIB
    disk = status.detail["reader"]["disk"]
    assert (disk["active"], disk["is_store"]) == {
        "in place": (True, True),
        "none": (False, False),
        "cache": (True, False),
    }[tier]
