"""The format of segments, pinned as bytes; what has to go (pure); where a cache may lie; what a damaged file is."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gridfs.cache import evict, write_queue
from gridfs.cache import segment as segment_module
from gridfs.cache.base import Span
from gridfs.cache.disk import DiskCache
from gridfs.cache.evict import Found, allowed_bytes, choose
from gridfs.cache.locality import file_system_of, is_network
from gridfs.cache.memory import Part
from gridfs.cache.segment import Geometry, Segment
from gridfs.cache.verified import Mismatch
from gridfs.config import GIB, KIB, MIB, CacheSettings
from gridfs.errors import AccessDenied, Unsupported
from gridfs.locks import trying
from tests.support.data import ramp
from tests.support.on_trio import on_trio

GOLDEN = Path(__file__).parents[1] / "golden"
IDENTITY = "0123456789abcdef0123456789abcdef"
BLOCK = 128 * KIB
OBJECT_SIZE = 8 * MIB + 300_000
"""Its second segment has three blocks, the last one short."""


def span(first: int, stop: int) -> Span:
    return Span(IDENTITY, OBJECT_SIZE, BLOCK, first, stop)


def data_of(blocks: Span) -> bytes:
    return ramp(blocks.size_bytes, blocks.start_byte)


def checksums_of(blocks: Span) -> list[int]:
    data = data_of(blocks)
    return [xxhash.xxh3_64_intdigest(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]


def opened(path: Path, blocks: Span, *, create: bool = False) -> Segment:
    geometry = Geometry.of(blocks)
    segment = Segment.to_write(str(path), geometry) if create else Segment.open(str(path), geometry)
    assert segment is not None
    return segment


def written(path: Path, blocks: Span) -> None:
    segment = opened(path, blocks, create=True)
    segment.write(blocks, data_of(blocks), checksums_of(blocks))
    segment.close()


def read(path: Path, blocks: Span, *, checksummed: bool = True) -> bytes | None:
    segment = opened(path, blocks)
    try:
        data = segment.read(blocks, checksums_of(blocks) if checksummed else None, nowait=False)
    finally:
        segment.close()
    return None if data is None else bytes(data)


def test_the_format_is_the_published_one(tmp_path: Path) -> None:
    """docs/cache-format.md; the golden file holds the header and table of blocks 65 and 66 of 64..66."""
    written(tmp_path / "s", span(65, 67))
    raw = (tmp_path / "s").read_bytes()
    assert raw[:4096] == (GOLDEN / "cache-segment-1.bin").read_bytes()
    assert raw[4096 : 4096 + BLOCK] == bytes(BLOCK)
    assert raw[4096 + BLOCK :].rstrip(b"\0") == data_of(span(65, 67))
    assert len(raw) - 4096 - BLOCK - span(65, 67).size_bytes < 4096


def test_a_segment_of_the_published_format_is_read(tmp_path: Path) -> None:
    golden = (GOLDEN / "cache-segment-1.bin").read_bytes()
    (tmp_path / "s").write_bytes(golden + bytes(BLOCK) + data_of(span(65, 67)))
    assert read(tmp_path / "s", span(65, 67), checksummed=False) == data_of(span(65, 67))
    assert read(tmp_path / "s", span(64, 66)) is None


@pytest.mark.parametrize("checksummed", [True, False])
@pytest.mark.parametrize("position", [4096, 4096 + BLOCK - 1, 4096 + BLOCK + 37_000])
def test_a_flipped_bit_is_a_mismatch(tmp_path: Path, position: int, checksummed: bool) -> None:
    written(tmp_path / "s", span(64, 66))
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[position] ^= 4
    (tmp_path / "s").write_bytes(raw)
    with pytest.raises(Mismatch):
        read(tmp_path / "s", span(64, 66), checksummed=checksummed)


@pytest.mark.parametrize("position", [0, 9, 13, 20, 26, 40, 64])
def test_a_segment_with_another_header_is_empty_and_begun_afresh(tmp_path: Path, position: int) -> None:
    written(tmp_path / "s", span(64, 66))
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[position] ^= 1
    (tmp_path / "s").write_bytes(raw)
    assert read(tmp_path / "s", span(64, 66)) is None
    written(tmp_path / "s", span(66, 67))
    assert read(tmp_path / "s", span(66, 67)) == data_of(span(66, 67))
    assert read(tmp_path / "s", span(64, 66)) is None


def test_two_threads_that_begin_a_segment_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is foreign, so whoever begins empties it: the second one has to wait for the first."""
    (tmp_path / "s").write_bytes(b"foreign" * 9000)
    segment, first, second = opened(tmp_path / "s", span(64, 65), create=True), span(64, 65), span(65, 67)
    other = threading.Thread(target=segment.write, args=(second, data_of(second), checksums_of(second)))
    write_data = Segment._write_data

    def write_slowly(self: Segment, blocks: Span, data: bytes, area: None) -> None:
        write_data(self, blocks, data, area)
        if other.ident is None:
            other.start()
            other.join(0.05)  # it ends here only if it did not wait, and then the first one's block is gone

    monkeypatch.setattr(Segment, "_write_data", write_slowly)
    segment.write(first, data_of(first), checksums_of(first))
    other.join()
    segment.close()
    assert read(tmp_path / "s", span(64, 67)) == data_of(span(64, 67))


@pytest.mark.parametrize("step", ["_write_data", "_write_entries"])
def test_two_daemons_that_begin_a_segment_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The second finds a file without a header, after each step of the first, which is not killed but slow."""
    first, second = span(64, 65), span(65, 67)
    act = getattr(Segment, step)

    def act_and_be_overtaken(self: Segment, *arguments: object) -> None:
        act(self, *arguments)
        with monkeypatch.context() as plainly:
            plainly.setattr(Segment, step, act)
            written(tmp_path / "s", second)

    monkeypatch.setattr(Segment, step, act_and_be_overtaken)
    written(tmp_path / "s", first)
    assert read(tmp_path / "s", span(64, 67)) == data_of(span(64, 67))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_table_that_is_read_while_a_block_is_written_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """Else it would be fetched again until the table is read the next time, a second later."""
    if not is_new:
        written(tmp_path / "s", span(64, 65))
    (tmp_path / "s").touch()
    segment, late = opened(tmp_path / "s", span(64, 65)), span(65, 66)
    read_at = segment_module.read_at

    def read_and_be_overtaken(fd: int, buffer: memoryview, offset: int, *, nowait: bool) -> int | None:
        count = read_at(fd, buffer, offset, nowait=nowait)
        with monkeypatch.context() as plainly:
            plainly.setattr(segment_module, "read_at", read_at)
            segment.write(late, data_of(late), checksums_of(late))
        return count

    assert segment.read_table(nowait=False)
    monkeypatch.setattr(segment_module, "read_at", read_and_be_overtaken)
    assert segment.read_table(nowait=False)
    assert segment.present(65, 66) == 1
    assert segment.present(64, 65) == (0 if is_new else 1)
    segment.close()


@given(st.integers(0, 4096 + 2 * BLOCK))
def test_a_torn_write_is_never_data(length: int) -> None:
    """What a power cut leaves: any prefix of the file, with or without zeros behind it."""
    directory = Path("/dev/shm") / f"gridfs-test-{os.getpid()}"
    directory.mkdir(exist_ok=True)
    path = directory / "s"
    try:
        written(path, span(64, 66))
        for grown in (False, True):
            size = path.stat().st_size
            os.truncate(path, length)
            if grown:
                os.truncate(path, size)
            try:
                data = read(path, span(64, 66))
            except Mismatch:
                data = None
            assert data in (None, data_of(span(64, 66)))
    finally:
        path.unlink()
        directory.rmdir()


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50)), max_size=30), st.integers(-10, 2000))
def test_what_goes_is_the_oldest_and_just_enough(files: list[tuple[int, int]], excess: int) -> None:
    found = [Found(used, size, str(number)) for number, (used, size) in enumerate(files)]
    chosen = choose(found, excess_bytes=excess)
    kept = set(found) - set(chosen)
    assert all(gone <= stays for gone in chosen for stays in kept)
    freed = sum(file.size_bytes for file in chosen)
    assert freed >= excess or not kept
    assert not chosen or freed - chosen[-1].size_bytes < excess


def test_the_cache_leaves_five_hundredths_of_its_disk_free() -> None:
    disk = {"used_bytes": 10 * GIB, "free_bytes": 20 * GIB, "disk_bytes": 100 * GIB}
    assert allowed_bytes(max_size_bytes=None, **disk) == 25 * GIB
    assert allowed_bytes(max_size_bytes=40 * GIB, **disk) == 25 * GIB
    assert allowed_bytes(max_size_bytes=7 * GIB, **disk) == 7 * GIB
    assert allowed_bytes(max_size_bytes=None, used_bytes=0, free_bytes=GIB, disk_bytes=100 * GIB) == 0


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:41 / /home/local\\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /s3 rw - fuse.s3fs s3fs rw
33 22 0:43 / /usb rw - fuseblk /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("directory", "kind", "network"),
    [
        ("/", "ext4", False),
        ("/homes/x", "ext4", False),
        ("/home/x/.cache", "nfs4", True),
        ("/home/local disk/x", "xfs", False),
        ("/s3/cache", "fuse.s3fs", True),
        ("/usb", "fuseblk", False),
    ],
)
def test_network_file_systems_are_recognised(directory: str, kind: str, network: bool) -> None:
    found = file_system_of(Path(directory), MOUNTINFO)
    assert (found, is_network(found)) == (kind, network)


def test_a_cache_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridfs.cache.disk.file_system_of", lambda _: "nfs4")
    with pytest.raises(Unsupported, match="--cache-dir"):
        DiskCache(CacheSettings(tmp_path / "cache"))


def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, 12345)
    with pytest.raises(AccessDenied, match="12345"):
        DiskCache(CacheSettings(tmp_path / "cache"))


def test_one_evicts_at_a_time(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(bytes(100_000))
        os.utime(tmp_path / f"{number}", ns=(0, number))
    with trying(tmp_path / evict.LOCK_NAME) as held:
        assert held
        assert not evict.evict(tmp_path, 500_000, 0)[1]
    usage, removed = evict.evict(tmp_path, 500_000, 0)
    assert [Path(path).name for path in removed] == ["0", "1", "2", "3", "4", "5"]
    assert usage.used_bytes <= 450_000


def part_of(blocks: Span) -> Part:
    part = Part(blocks.identity, BLOCK, blocks.start_byte, blocks.stop_byte, memoryview(data_of(blocks)))
    part.ready = part.stop
    return part


def keep(cache: DiskCache, blocks: Span, on_written: Callable[[], None] = lambda: None) -> bool:
    return cache.keep(blocks, part_of(blocks), checksums_of(blocks), on_written)


@asynccontextmanager
async def running(cache: DiskCache) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.logs_warnings
@on_trio
async def test_a_disk_that_fails_turns_the_tier_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(CacheSettings(tmp_path / "cache"))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Segment, "write", fail)
    async with running(cache):
        written = trio.Event()
        assert keep(cache, span(0, 4), written.set)
        await written.wait()
        assert not cache.statistics().active
        assert "the disk fails" in (cache.statistics().reason or "")
        assert not keep(cache, span(0, 4))
        assert cache.present(span(0, 4)) == 0


@pytest.mark.logs_warnings
@on_trio
async def test_a_damaged_block_of_a_file_that_was_evicted_meanwhile_is_a_miss_and_no_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is the last who has the file open: it is closed when the block has been forgotten, and not before."""
    cache, blocks = DiskCache(CacheSettings(tmp_path / "cache")), span(0, 4)
    plain_read, replaced = Segment.read, threading.Event()

    def read_late(self: Segment, *arguments: object, **options: object) -> memoryview | None:
        replaced.wait(10)
        raise Mismatch(2)

    async with running(cache), trio.open_nursery() as nursery:
        assert keep(cache, blocks)
        await cache.drain()
        monkeypatch.setattr(Segment, "read", read_late)
        nursery.start_soon(cache.load, blocks, checksums_of(blocks))
        await trio.testing.wait_all_tasks_blocked()
        os.unlink(cache.directory / "1/01" / f"{IDENTITY}.0")
        assert keep(cache, blocks)
        await cache.drain()
        replaced.set()
        while not cache.statistics().mismatches:
            await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(Segment, "read", plain_read)
        assert cache.statistics().active
        assert bytes(await cache.load(blocks, checksums_of(blocks)) or b"") == data_of(blocks)


@pytest.mark.logs_warnings
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@on_trio
async def test_on_a_full_disk_some_of_the_cache_goes_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A quota is not seen in the free space, so the limit does not keep the cache from it."""
    cache = DiskCache(CacheSettings(tmp_path / "cache"))
    objects = [Span(f"{each:032x}", 4 * BLOCK, BLOCK, 0, 4) for each in range(10)]
    async with running(cache):
        for each, blocks in enumerate(objects):
            assert keep(cache, blocks)
            await cache.drain()
            os.utime(cache.directory / "1/00" / f"{each:032x}.0", ns=(each, each))
        writes = []

        def full(*_: object) -> None:
            writes.append(_)
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Segment, "write", full)
            for _ in range(3):
                assert keep(cache, span(0, 4))
                await cache.drain()
        assert len(writes) == 1, "it does not try again at once"
        assert cache.statistics().active
        assert cache.statistics().evicted_segments == 1
        assert not (cache.directory / "1/00" / f"{0:032x}.0").exists()
        assert await cache.load(objects[5], checksums_of(objects[5])) == data_of(objects[5])
        monkeypatch.setattr(cache._space, "_full_until_s", 0.0)
        assert keep(cache, span(0, 4))
        await cache.drain()
        assert cache.present(span(0, 4)) == 4


@on_trio
async def test_small_parts_are_written_when_many_have_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    monkeypatch.setattr(write_queue, "GATHER_BYTES", 8 * BLOCK)
    monkeypatch.setattr(write_queue, "BATCH_BYTES", 3 * BLOCK)  # in three turns, none of which waits for more
    cache = DiskCache(CacheSettings(tmp_path / "cache"))
    async with running(cache):
        for block in range(7):
            assert keep(cache, span(block, block + 1))
        await trio.sleep(10 * write_queue.WRITE_AFTER_S)
        assert cache.statistics().written_bytes == 0
        written = trio.Event()
        assert keep(cache, span(7, 8), written.set)
        await written.wait()
        assert cache.present(span(0, 8)) == 8


@on_trio
async def test_what_gathers_leaves_room_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    cache = DiskCache(CacheSettings(tmp_path / "cache"), queue_limit_bytes=8 * BLOCK)
    async with running(cache):
        for block in range(4):
            assert keep(cache, span(block, block + 1))
        while cache.statistics().queued_bytes:
            await trio.sleep(0.001)
        assert cache.present(span(0, 4)) == 4


@on_trio
async def test_a_large_part_does_not_gather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    cache = DiskCache(CacheSettings(tmp_path / "cache"))
    async with running(cache):
        written = trio.Event()
        assert keep(cache, span(0, 64), written.set)
        await written.wait()
        assert cache.present(span(0, 64)) == 64


@on_trio
async def test_many_small_parts_are_written_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have a file, which is open until all of its batch is written."""
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    monkeypatch.setattr(write_queue, "GATHER_PARTS", 4)
    monkeypatch.setattr(write_queue, "BATCH_PARTS", 3)
    queue = write_queue.WriteQueue()
    for number in range(4):
        blocks = Span(f"{number:032x}", 5, BLOCK, 0, 1)
        assert queue.take(write_queue.Write(blocks, part_of(blocks), [0], lambda: None))
    assert [len(await queue.next_batch()), len(await queue.next_batch())] == [3, 1]


@on_trio
async def test_small_parts_do_not_wait_for_others_when_somebody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    cache = DiskCache(CacheSettings(tmp_path / "cache"))
    async with running(cache):
        for block in (1, 2):
            assert keep(cache, span(block, block + 1))
            await cache.drain()
            assert cache.present(span(block, block + 1)) == 1


@on_trio
async def test_small_parts_that_gathered_are_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 3600)
    cache = DiskCache(CacheSettings(tmp_path / "cache"))
    async with running(cache):
        assert keep(cache, span(0, 2))
    later = DiskCache(CacheSettings(tmp_path / "cache"))
    found = await later.load(span(0, 2), checksums_of(span(0, 2)))
    assert found == data_of(span(0, 2))


@on_trio
async def test_a_full_queue_drops_and_never_blocks(tmp_path: Path) -> None:
    cache = DiskCache(CacheSettings(tmp_path / "cache"), queue_limit_bytes=3 * BLOCK)
    assert keep(cache, span(0, 2))
    assert not keep(cache, span(2, 4))
    assert cache.statistics().dropped_bytes == 2 * BLOCK
    await trio.lowlevel.checkpoint()


@on_trio
async def test_the_cache_stays_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "GATHER_S", 0)  # each part is waited for
    cache = DiskCache(CacheSettings(tmp_path / "cache", max_size_bytes=2 * MIB))
    async with running(cache):
        for number in range(20):
            blocks = Span(f"{number:032x}", 4 * BLOCK, BLOCK, 0, 4)
            done = trio.Event()
            assert keep(cache, blocks, done.set)
            await done.wait()
            assert sum(found.size_bytes for found in evict.walk(cache.directory)) <= 2 * MIB + 4 * KIB * 20
        assert cache.present(Span(f"{19:032x}", 4 * BLOCK, BLOCK, 0, 4)) == 4
        assert cache.present(Span(f"{0:032x}", 4 * BLOCK, BLOCK, 0, 4)) == 0
        assert cache.statistics().evicted_segments


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@on_trio
async def test_too_many_open_files_are_no_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Of this process or, at times, of the whole machine: what can't be opened is a miss, and later it can."""
    blocks = span(0, 4)
    written_by = DiskCache(CacheSettings(tmp_path / "cache"))
    async with running(written_by):
        assert keep(written_by, blocks)
        await written_by.drain()
    cache = DiskCache(CacheSettings(tmp_path / "cache"))

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    async with running(cache):
        await cache.wait_until_measured()
        with monkeypatch.context() as short:
            short.setattr(Segment, "open", fail)
            assert await cache.load(blocks, checksums_of(blocks)) is None
            assert keep(cache, blocks)
            await cache.drain()
        assert cache.statistics().reason is None
        assert bytes(await cache.load(blocks, checksums_of(blocks)) or b"") == data_of(blocks)


@on_trio
async def test_a_cache_that_was_removed_as_a_whole_begins_anew(tmp_path: Path) -> None:
    cache = DiskCache(CacheSettings(tmp_path / "cache", 4 * MIB))
    async with running(cache):
        for number in range(20):
            if number == 10:
                shutil.rmtree(tmp_path / "cache")
            assert keep(cache, Span(f"{number:032x}", 4 * BLOCK, BLOCK, 0, 4))
            await cache.drain()
        assert cache.statistics().reason is None
        assert cache.statistics().evicted_segments > 0
        assert cache.present(Span(f"{19:032x}", 4 * BLOCK, BLOCK, 0, 4)) == 4


@on_trio
async def test_a_cache_that_is_just_being_removed_is_no_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, blocks = DiskCache(CacheSettings(tmp_path / "cache")), span(0, 4)

    def make_in_vain(path: str, mode: int, exist_ok: bool) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    async with running(cache):
        await cache.wait_until_measured()
        with monkeypatch.context() as removing:
            removing.setattr(os, "makedirs", make_in_vain)
            assert keep(cache, blocks)
            await cache.drain()
        assert cache.present(blocks) == 0
        assert keep(cache, blocks)
        await cache.drain()
        assert bytes(await cache.load(blocks, checksums_of(blocks)) or b"") == data_of(blocks)


@on_trio
async def test_a_cache_of_size_zero_is_off(tmp_path: Path) -> None:
    cache = DiskCache(CacheSettings(tmp_path / "cache", max_size_bytes=0))
    assert not cache.statistics().active
    assert not keep(cache, span(0, 2))
    await trio.lowlevel.checkpoint()
