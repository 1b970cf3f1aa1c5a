"""gridfs.vfs_push: which files of a window are given to the kernel, and when it is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from gridfs.config import KIB, MIB
from gridfs.errors import FormatError
from gridfs.extents import Extents, small_files
from gridfs.model import Buffer, ByteRange, ObjectRecord
from gridfs.vfs_push import TRIES, OpenAhead, Pusher
from tests.support.data import ramp
from tests.support.on_trio import on_trio

OBJECT = ObjectRecord(1, "a" * 32, 4 * MIB, 0, "a" * 32)
FILE_SIZE = 100 * KIB


def extents() -> list[tuple[int, int, int]]:
    return [(number * FILE_SIZE, FILE_SIZE, 100 + number) for number in range(4 * MIB // FILE_SIZE)]


def test_one_file_in_each_mib_is_left_for_the_reader_to_ask_for() -> None:
    pushed = {file.inode - 100 for file in small_files(extents(), ByteRange(0, 4 * MIB))}
    assert {inode - 100 for _, _, inode in extents()} - pushed == {0, 10, 20, 30}
    aligned = [(number * 128 * KIB, 110 * KIB, number) for number in range(32)]
    for part in (ByteRange(0, 4 * MIB), ByteRange(MIB, 3 * MIB), ByteRange(128 * KIB, 2 * MIB)):
        within = {n for n in range(32) if part.start <= n * 128 * KIB < part.stop}
        assert within - {file.inode for file in small_files(aligned, part)} == {n for n in within if n % 8 == 0}


def test_of_what_fills_a_pack_no_small_file_is_left_out() -> None:
    assert [file.inode - 100 for file in small_files(extents(), ByteRange(0, 4 * MIB), of_stream=False)] == [*range(40)]
    odd = [(0, 5, 1), (5, MIB, 2), (5 + MIB, MIB + 1, 3), (6 + 2 * MIB, 10, 4)]
    chosen = small_files(odd, ByteRange(0, 2 * MIB + 15), of_stream=False)
    assert [file.inode for file in chosen] == [1, 2]


def test_only_files_that_lie_in_the_part_are_chosen() -> None:
    chosen = small_files(extents(), ByteRange(250 * KIB, 650 * KIB))
    assert [file.inode - 100 for file in chosen] == [3, 4, 5]


def test_large_files_are_not_chosen() -> None:
    odd = [(0, 5, 1), (5, 10, 2), (15, 3 * MIB, 3), (15 + 3 * MIB, 10, 4), (25 + 3 * MIB, 10, 5)]
    assert [file.inode for file in small_files(odd, ByteRange(0, 4 * MIB))] == [2, 4, 5]


def test_bytes_of_files_are_counted_without_their_gaps() -> None:
    kept = Extents(OneObject())
    assert kept.bytes_in(1, ByteRange(50 * KIB, 250 * KIB)) == 200 * KIB
    assert kept.bytes_in(1, ByteRange(3900 * KIB, 4 * MIB)) == 100 * KIB  # 40 files, and a gap of 96 KiB
    assert kept.bytes_in(1, ByteRange(4000 * KIB, 4 * MIB)) == 0

    class Twins(OneObject):
        def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
            return [(0, 10, 1), (0, 10, 2), (20, 10, 3)]

    assert Extents(Twins()).bytes_in(1, ByteRange(0, 100)) == 20
    assert Extents(Twins()).bytes_in(1, ByteRange(5, 25)) == 10


class OneObject:
    """A manifest of one pack, and a reader that has all of it."""

    def __init__(self) -> None:
        self.on_ahead: Callable[[ObjectRecord, ByteRange, bool], None] | None = None
        self.has_left: set[ByteRange] = set()
        """Parts that are in memory no more."""

    def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
        return extents()

    def holds(self, obj: ObjectRecord, byte_range: ByteRange) -> bool:
        return byte_range not in self.has_left

    def peek(self, obj: ObjectRecord, byte_range: ByteRange) -> memoryview | None:
        return memoryview(ramp(byte_range.size_bytes, byte_range.start))


def unexpected(error: BaseException, subject: str) -> None:
    raise AssertionError(subject) from error


async def _pushed(store: Callable[[int, Buffer], bool], open_ahead: OpenAhead | None = None) -> int:
    """How many files were given of a part of 1 MiB."""
    files = OneObject()
    pusher = Pusher(Extents(files), files, store, on_defect=unexpected)
    pusher.open_ahead = open_ahead
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pusher.run)
        await trio.testing.wait_all_tasks_blocked()
        assert files.on_ahead is not None
        files.on_ahead(OBJECT, ByteRange(0, MIB), True)
        while not pusher.parts_done:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    return pusher.pushed_files


@on_trio
async def test_each_file_is_given_with_its_bytes() -> None:
    given: dict[int, bytes] = {}

    def store(inode: int, data: Buffer) -> bool:
        given[inode] = bytes(data)
        return True

    assert await _pushed(store) == 9
    assert given == {100 + number: ramp(FILE_SIZE, number * FILE_SIZE) for number in range(1, 10)}


@on_trio
async def test_a_kernel_that_knows_none_of_the_first_files_is_left_alone() -> None:
    asked: list[int] = []

    def store(inode: int, data: Buffer) -> bool:
        asked.append(inode)
        return False

    assert await _pushed(store) == 0
    assert len(asked) == TRIES


@on_trio
async def test_an_image_is_read_ahead_by_its_inodes() -> None:
    opened: list[list[int]] = []

    def open_ahead(inodes: list[int]) -> int:
        opened.append(inodes)
        return len(inodes)

    assert await _pushed(lambda inode, data: False, open_ahead) == 9
    assert opened == [[100 + number for number in range(1, 10)]]


FIRST_MIB, SECOND_MIB, THIRD_MIB = (ByteRange(number * MIB, (number + 1) * MIB) for number in range(3))


@pytest.mark.parametrize(
    ("has_image", "takes_fills", "given"),
    [(True, True, [111, 100]), (True, False, [111]), (False, True, [111])],
)
@on_trio
async def test_fills_are_given_after_windows_while_memory_has_them(
    has_image: bool, takes_fills: bool, given: list[int]
) -> None:
    files, found = OneObject(), []

    def open_ahead(inodes: list[int]) -> int:
        found.append(inodes[0])
        return len(inodes)

    def store(inode: int, data: Buffer) -> bool:
        found.append(inode)
        return False

    pusher = Pusher(Extents(files), files, store, takes_fills=takes_fills, on_defect=unexpected)
    pusher.open_ahead = open_ahead if has_image else None
    assert files.on_ahead is not None
    files.on_ahead(OBJECT, FIRST_MIB, False)
    files.on_ahead(OBJECT, THIRD_MIB, False)
    files.on_ahead(OBJECT, SECOND_MIB, True)
    files.has_left.add(THIRD_MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pusher.run)
        while pusher.parts_done < len(given):
            await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert found[: len(given)] == given  # of the window the file across its start is left out, of the fill none
    assert len(found) == (len(given) if has_image else TRIES)


def test_a_damaged_manifest_is_for_readers_to_find() -> None:
    class Damaged:
        def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
            raise FormatError("damaged")

    assert Extents(Damaged()).pieces_in(1, ByteRange(0, MIB)) == []
    assert Extents(Damaged()).bytes_in(1, ByteRange(0, MIB)) == 0


@on_trio
async def test_a_defect_costs_one_part_its_push() -> None:
    files, defects, given = OneObject(), list[str](), list[int]()

    def open_ahead(inodes: list[int]) -> int:
        if not defects:
            raise TypeError("of a damaged manifest")
        given.extend(inodes)
        return len(inodes)

    pusher = Pusher(
        Extents(files), files, lambda inode, data: False, on_defect=lambda error, subject: defects.append(subject)
    )
    pusher.open_ahead = open_ahead
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pusher.run)
        await trio.testing.wait_all_tasks_blocked()
        assert files.on_ahead is not None
        for _ in range(2):
            files.on_ahead(OBJECT, ByteRange(0, MIB), True)
        while pusher.parts_done < 2:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert defects == [OBJECT.key]
    assert len(given) == pusher.pushed_files == 9
