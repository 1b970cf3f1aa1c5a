"""The memory of pieces: used again, and never while somebody looks at it."""

from __future__ import annotations

from gridfs.create.piecewise import PIECE_SIZE_BYTES, PieceBuffers


def test_a_piece_that_is_looked_at_keeps_its_bytes() -> None:
    buffers, kept = PieceBuffers(), list[memoryview]()
    for number in range(4):
        piece = buffers.take(PIECE_SIZE_BYTES)
        piece[:] = bytes([number]) * PIECE_SIZE_BYTES
        kept.append(piece[number:])
    assert [set(piece) for piece in kept] == [{0}, {1}, {2}, {3}]


def test_the_memory_of_a_piece_is_used_again() -> None:
    buffers = PieceBuffers()
    areas = set[int]()
    for _ in range(10):
        piece = buffers.take(PIECE_SIZE_BYTES)
        areas.add(id(piece.obj))
        del piece
    assert len(areas) == 1


def test_the_last_piece_may_be_shorter() -> None:
    assert PieceBuffers().take(5).nbytes == 5
