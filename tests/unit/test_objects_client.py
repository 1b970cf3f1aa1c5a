"""How a large object is cut for its upload, and what a failure without an answer is called."""

from __future__ import annotations

import pytest

from gridfs.store.objects_client import parse_obstore, parts_of_upload

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("size", "part", "at_once"),
    [(0, 8 * MIB, 4), (2 * GIB, 8 * MIB, 4), (78 * GIB, 8 * MIB, 4), (5 * TIB, 549_755_814, 1)],
)
def test_parts_are_of_8_mib_until_there_would_be_too_many(size: int, part: int, at_once: int) -> None:
    assert parts_of_upload(size) == (part, at_once)


@pytest.mark.parametrize("size", [*(10**power for power in range(12)), 780 * GIB])
def test_what_is_in_memory_is_bounded(size: int) -> None:
    part, at_once = parts_of_upload(size)
    assert part * 10_000 >= size
    assert part * (at_once + 1) <= 160 * MIB


@pytest.mark.parametrize(
    ("dump", "said", "nobody_there"),
    [
        ("kind: Timeout, source: reqwest::Error { kind: Request, source: TimedOut }", "no answer in time", False),
        ("kind: Interrupted, ... kind: ConnectionReset", "the connection was reset", False),
        ("kind: Connect, ... kind: ConnectionRefused", "the connection was refused", True),
        ("kind: Unknown", "HTTP error: error sending request", False),
    ],
)
def test_a_request_without_an_answer_says_why(dump: str, said: str, nobody_there: bool) -> None:
    text = "Generic S3 error: Error performing GET http://h/b in 1.001s - HTTP error: error sending request"
    answer = parse_obstore(f"{text}\n\nDebug source:\n{dump}")
    assert (answer.status, answer.message, answer.nobody_there) == (None, said, nobody_there)
