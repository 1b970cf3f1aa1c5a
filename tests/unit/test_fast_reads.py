"""gridfs.fast_reads and its thread in C, over a socket in place of /dev/fuse: the right bytes, or handed on."""

from __future__ import annotations

import ctypes
import random
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from gridfs import fast_reads
from gridfs.cache.buffers import new_area
from gridfs.cache.memory import MemoryCache, Part
from gridfs.config import KIB, MIB
from gridfs.extents import Extents, large_pieces, small_files
from gridfs.fast_reads import SLOTS, FastReads
from gridfs.image_addresses import SmallFiles
from gridfs.model import ByteRange, ObjectRecord
from tests.support.data import ramp

READ, LOOKUP, FORGET, BATCH_FORGET = 15, 1, 2, 42  # linux/fuse.h
SO_SNDBUFFORCE = 32  # asm-generic/socket.h: past the administrator's limit, for root
BLOCK = 128 * KIB
FILE = 110 * KIB
PACK = ObjectRecord(1, "p" * 32, 64 * MIB, 0, "p" * 32)
LARGE = ObjectRecord(2, "l" * 32, 19 * MIB + 5000, 512, "l" * 32)
IMAGE = SmallFiles(node=1 << 62, begin=1 << 30, end=1 << 40, shift=18)
MISSES_BEFORE_HANDING_BACK = 32  # as in the library


class Buf(ctypes.Structure):
    """struct fuse_buf."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("mem", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("pos", ctypes.c_int64),
    )


class Versions:
    """A manifest of one pack of files of 110 KiB, of which file n has inode 100 + n, and of one large file."""

    def extents_of_object(self, number: int) -> list[tuple[int, int, int]]:
        if number == LARGE.number:
            return [(0, LARGE.size_bytes, 7)]
        return [(n * BLOCK, FILE, 100 + n) for n in range(PACK.size_bytes // BLOCK)]


class Counted:
    """A reader that remembers what it was told."""

    def __init__(self) -> None:
        self.on_part: Callable[[ObjectRecord, Part, bool], None] | None = None
        self.on_shown_hit: Callable[[], None] | None = None
        self.told: list[tuple[int, int, int]] = []

    def count_shown(self, part: Part, reads: int, size_bytes: int, stop: int) -> None:
        self.told.append((reads, size_bytes, stop))


class Bench:
    """A session: the kernel's end of the device, and what the event loop has."""

    def __init__(self, image: SmallFiles | None = None) -> None:
        library = fast_reads.load()
        assert library is not None
        library.gridfs_handed_on.restype = ctypes.c_ssize_t
        self.library = library
        self.kernel, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.kernel, self.device):
            end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 * MIB)  # a message of 1 MiB
        self.device.setblocking(False)
        self.reader, self.memory = Counted(), MemoryCache()
        self.fast = FastReads(library, Extents(Versions()), self.reader, image)
        self.polled = self.fast.start(self.device.fileno())
        self._unique = 0

    def show(self, first: int, count: int) -> Part:
        """A part with files *first* to *first* + *count* of the pack arrives."""
        return self.show_bytes(PACK, first * BLOCK, (first + count) * BLOCK)

    def show_bytes(self, obj: ObjectRecord, start: int, stop: int, *, of_stream: bool = True) -> Part:
        size = stop - start
        area = new_area(size)
        area[:size] = ramp(size, start)
        part = Part(obj.identity, BLOCK, start, stop, memoryview(area), area)
        self.memory.pin(part)
        self.memory.publish(part, part.stop)
        self.memory.unpin(part)
        assert self.reader.on_part is not None
        self.reader.on_part(obj, part, of_stream)
        return part

    def ask(self, inode: int, offset: int, size: int, opcode: int = READ) -> bytes:
        """Sends a request; what was sent."""
        return self.send(opcode, inode, struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0))

    def send(self, opcode: int, inode: int, body: bytes) -> bytes:
        self._unique += 1
        request = struct.pack("<IIQQIIII", 40 + len(body), opcode, self._unique, inode, 0, 0, 0, 0) + body
        self.kernel.send(request)
        return request

    def answer(self) -> bytes:
        """The next answer's bytes; waits for it."""
        while not select.select([self.kernel], [], [], 0.1)[0]:
            self.library.gridfs_take_charge()  # on a busy machine it had nothing to do for long, and gave it back
        raw = self.kernel.recv(2 * MIB)
        size, error, unique = struct.unpack("<IiQ", raw[:16])
        assert (size, error, unique) == (len(raw), 0, self._unique)
        return raw[16:]

    def handed_on(self) -> bytes:
        """The next request for the event loop; waits for it."""
        while select.select([self.polled], [], [], 10)[0]:
            if request := self.handed_on_already():
                return request
            self.library.gridfs_take_charge()  # as in `answer`
        raise AssertionError("nothing was handed on")

    def handed_on_already(self) -> bytes:
        """As handed_on, without waiting; empty when there is none."""
        buf = Buf()
        size = self.library.gridfs_handed_on(ctypes.byref(buf))
        if not size:
            return b""
        assert size == buf.size
        request = ctypes.string_at(buf.mem, size)
        self.library.gridfs_let_go(ctypes.byref(buf))
        return request


@contextmanager
def bench(image: SmallFiles | None = None) -> Iterator[Bench]:
    made = Bench(image)
    try:
        yield made
    finally:
        made.fast.end()
        made.kernel.close()
        made.device.close()


def test_files_of_a_part_are_answered_and_counted() -> None:
    with bench() as b:
        b.show(0, 16)
        for number in (1, 7, 9, 15):
            b.ask(100 + number, 0, 256 * KIB)
            assert b.answer() == ramp(FILE, number * BLOCK)
        b.ask(101, 100 * KIB, 64 * KIB)
        assert b.answer() == ramp(10 * KIB, BLOCK + 100 * KIB)
        b.ask(101, 4 * KIB, 8 * KIB)
        assert b.answer() == ramp(8 * KIB, BLOCK + 4 * KIB)
        b.fast.drain()
        b.fast.drain()
        assert b.reader.told == [(6, 4 * FILE + 18 * KIB, 15 * BLOCK + FILE)]
        assert b.fast.answered_reads == 6


def test_of_what_fills_a_pack_every_small_file_is_answered() -> None:
    with bench() as b:
        b.show_bytes(PACK, 8 * BLOCK, 16 * BLOCK, of_stream=False)
        for number in (8, 9):
            b.ask(100 + number, 0, 256 * KIB)
            assert b.answer() == ramp(FILE, number * BLOCK)


def test_of_an_image_whole_pages_are_answered() -> None:
    with bench(IMAGE) as b:
        b.show(0, 16)
        place = IMAGE.begin + (103 << IMAGE.shift)
        b.ask(IMAGE.node, place, FILE + 2 * KIB)
        assert b.answer() == ramp(FILE, 3 * BLOCK) + bytes(2 * KIB)
        b.ask(IMAGE.node, place + 64 * KIB, 8 * KIB)
        assert b.answer() == ramp(8 * KIB, 3 * BLOCK + 64 * KIB)
        for elsewhere in (0, IMAGE.begin - 4 * KIB, IMAGE.end, place + 112 * KIB):
            assert b.ask(IMAGE.node, elsewhere, 4 * KIB) == b.handed_on()
        for size in (FILE + 6 * KIB, FILE + 18 * KIB, 512 * KIB):
            assert b.ask(IMAGE.node, place, size) == b.handed_on(), "goes on behind the file's last page"


def test_everything_else_is_handed_on_as_it_came() -> None:
    with bench() as b:
        b.show(8, 8)
        left_to_python = b.ask(108, 0, FILE)
        assert b.handed_on() == left_to_python
        assert b.ask(101, 0, FILE) == b.handed_on()
        assert b.ask(109, FILE, 4 * KIB) == b.handed_on(), "behind the end"
        assert b.ask(109, 0, FILE, opcode=LOOKUP) == b.handed_on()
        several = [b.ask(500 + n, 0, 1) for n in range(5)]
        assert [b.handed_on() for _ in several] == several


def test_what_the_kernel_forgets_is_handed_to_nobody() -> None:
    """Of a BATCH_FORGET it makes what the thread's buffer holds: more than libfuse's, into which it was copied."""
    with bench() as b:
        b.show(0, 8)
        forgotten = 100_000
        b.send(BATCH_FORGET, 0, struct.pack("<II", forgotten, 0) + struct.pack("<QQ", 101, 1) * forgotten)
        b.send(FORGET, 101, struct.pack("<Q", 1))
        assert b.ask(101, 0, 1, opcode=LOOKUP) == b.handed_on(), "the first of the three"


def test_a_request_of_any_size_is_handed_on_as_it_came() -> None:
    with bench() as b:
        b.show(0, 8)
        assert b.send(LOOKUP, 101, ramp(3 * MIB // 2)) == b.handed_on()


def test_of_a_large_file_what_lies_in_one_part_is_answered() -> None:
    with bench() as b:
        b.show_bytes(LARGE, 0, 8 * MIB)
        b.show_bytes(LARGE, 8 * MIB, 16 * MIB)
        b.show_bytes(LARGE, 16 * MIB, LARGE.size_bytes)
        for offset, size in ((1 * MIB, 1 * MIB), (3 * MIB + 512 * KIB, 1 * MIB), (7 * MIB + 4096, 900 * KIB)):
            b.ask(7, offset, size)
            assert b.answer() == ramp(size, offset)
        for offset in (18 * MIB + 512 * KIB, 19 * MIB, 19 * MIB + 4096):
            b.ask(7, offset, 1 * MIB)
            assert b.answer() == ramp(LARGE.size_bytes - offset, offset)
        for left_to_python in (0, 512 * KIB, 8 * MIB, 16 * MIB):
            assert b.ask(7, left_to_python, 1 * MIB) == b.handed_on()
        assert b.ask(7, 7 * MIB + 512 * KIB, 1 * MIB) == b.handed_on(), "in two parts"
        assert b.ask(7, LARGE.size_bytes, 4096) == b.handed_on(), "behind the end"
        b.fast.drain()
        assert sum(reads for reads, _, _ in b.reader.told) == 6


@given(
    sizes=st.lists(st.integers(1, 5 * MIB), min_size=1, max_size=8),
    gaps=st.lists(st.integers(0, 200_000), min_size=8, max_size=8),
    part=st.tuples(st.integers(0, 20), st.integers(1, 64)),
)
def test_pieces_are_of_their_files_and_whole_and_in_the_part(
    sizes: list[int], gaps: list[int], part: tuple[int, int]
) -> None:
    extents, offset = [], 0
    for inode, (size, gap) in enumerate(zip(sizes, gaps, strict=False), 1):
        extents.append((offset + gap, size, inode))
        offset += gap + size
    within = ByteRange(part[0] * BLOCK, (part[0] + part[1]) * BLOCK)
    place = {inode: (offset, size) for offset, size, inode in extents}
    seen = set()
    for inode, number, begin, size in [
        *large_pieces(extents, within),
        *small_files(extents, within),
    ]:
        file_offset, file_size = place[inode]
        assert begin == file_offset + number * MIB
        assert size == min(MIB, file_size - number * MIB) > 0
        assert within.start <= begin < begin + size <= within.stop
        assert (inode, number) not in seen
        seen.add((inode, number))


def test_a_part_that_leaves_memory_is_answered_no_more() -> None:
    with bench() as b:
        part = b.show(0, 8)
        other = b.show(16, 8)
        b.ask(103, 0, FILE)
        assert b.answer() == ramp(FILE, 3 * BLOCK)
        b.memory.drop(part)
        assert b.reader.told == [(1, FILE, 3 * BLOCK + FILE)], "counted before it went"
        assert b.ask(103, 0, FILE) == b.handed_on()
        b.show(0, 8)  # it has come again, and may lie anywhere
        b.ask(103, 0, FILE)
        assert b.answer() == ramp(FILE, 3 * BLOCK)
        assert other.on_gone is not None


def test_the_event_loop_has_the_device_again_when_there_is_nothing_to_answer() -> None:
    with bench() as b:
        b.show(0, 8)
        for number in range(MISSES_BEFORE_HANDING_BACK):
            assert b.ask(1000 + number, 0, 1) == b.handed_on()
        request = b.ask(103, 0, FILE)
        assert select.select([b.polled], [], [], 10)[0]
        assert b.device.recv(1 * MIB) == request
        assert b.reader.on_shown_hit is not None
        b.reader.on_shown_hit()  # Python found it in a part that was shown
        b.ask(103, 0, FILE)
        assert b.answer() == ramp(FILE, 3 * BLOCK)


def test_after_the_end_nothing_is_answered() -> None:
    with bench() as b:
        part = b.show(0, 8)
        b.fast.end()
        request = b.ask(103, 0, FILE)
        assert b.device.recv(1 * MIB) == request
        assert part.on_gone is None


def test_a_buffer_is_never_looked_at_once_it_is_used_again() -> None:
    with bench() as b:
        ended = threading.Event()
        answers: list[tuple[int, bytes]] = []

        def read() -> None:
            b.kernel.settimeout(10)
            choice = random.Random(1)
            while not ended.is_set():
                number = choice.choice([n for n in range(32) if n % 8])
                b.ask(100 + number, 0, 256 * KIB)
                if answer := b.answer():
                    answers.append((number, answer))

        reading = threading.Thread(target=read)
        reading.start()
        shown: deque[Part] = deque()
        try:
            while len(answers) < 500:
                shown.append(b.show(random.randrange(4) * 8, 8))
                if len(shown) == 3:
                    b.memory.drop(shown.popleft())
                    area = b.memory.pool.take(8 * BLOCK)  # the same
                    area[:] = b"\xee" * len(area)
                    b.memory.pool.give(area)
                while request := b.handed_on_already():
                    b.device.send(struct.pack("<IiQ", 16, 0, struct.unpack("<Q", request[8:16])[0]))
        finally:
            ended.set()
            while reading.is_alive():
                if request := b.handed_on_already():
                    b.device.send(struct.pack("<IiQ", 16, 0, struct.unpack("<Q", request[8:16])[0]))
                reading.join(0.001)
        assert [number for number, answer in answers if answer != ramp(FILE, number * BLOCK)] == []


def test_more_parts_than_there_is_room_for_are_left_to_python() -> None:
    with bench() as b:
        shown = [b.show(n % 60 * 8, 2) for n in range(SLOTS + 5)]
        assert [part.on_gone is None for part in shown].count(True) == 5
        b.ask(101, 0, FILE)
        assert b.answer() == ramp(FILE, BLOCK)
        for part in shown:
            b.memory.drop(part)
        assert b.ask(101, 0, FILE) == b.handed_on()
        b.show(0, 2)
        b.ask(101, 0, FILE)
        assert b.answer() == ramp(FILE, BLOCK)
