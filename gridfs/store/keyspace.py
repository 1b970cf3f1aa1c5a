"""Splits a range of keys without knowing the keys: where a second lister may start ahead of the first.

S3 lists keys in the order of their UTF-8 bytes, which is the order of code points, and from any string on. So a range
can be cut anywhere; the art is to cut where keys are. Two guesses are made, both with the characters that have been
seen in keys so far:

1. Keys go on as they are: behind `img_000999` come `img_001...`, or `img_01...`, or `img_1...`, or other names. A cut
   at each character that all of the last page had in common finds, in one round trip, how far they go.
2. Keys are spread evenly: read as numbers whose digits are the characters seen, the range is cut into equal parts.

A cut that turns out to have nothing behind it costs one request.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Sequence
from math import inf

_ASCII_END = 0x7F
_DIGITS = 6
"""Behind the common prefix of a range: finer than any number of listers needs."""


def split_points(first: str, last: str, end: str | None, count: int, alphabet: Sequence[str]) -> list[str]:
    """At most *count* strings, ascending, strictly between *last* and *end* (None: the end of all keys).

    A page has just brought the keys *first* to *last* of the range; *alphabet*: the characters of keys, sorted.
    """
    if not alphabet or count < 1:
        return []
    levels = [point for point in _by_level(first, last, alphabet) if end is None or point < end]
    if len(levels) > count:
        return _spread(levels, count)
    return sorted({*levels, *_spread(_equal_parts(last, end, count, alphabet), count - len(levels))})


def keys_left(start: str, last: str, end: str | None, count: int, alphabet: Sequence[str]) -> float:
    """How many more keys a range has, if the *count* keys from *start* to *last* are as dense as the rest."""
    if end is None or not alphabet:
        return inf
    common = _common_prefix(start, end)
    low, here, high = (_number(key, len(common), _DIGITS, alphabet) for key in (start, last, end))
    return count * (high - here) / (here - low) if here > low else inf


def _by_level(first: str, last: str, alphabet: Sequence[str]) -> list[str]:
    """Guess 1, the nearest first: for each position of what *first* and *last* share, the characters above *last*'s."""
    shared = min(len(_common_prefix(first, last)), len(last) - 1)
    return [
        last[:position] + character
        for position in range(shared, -1, -1)
        for character in _above(last[position], alphabet)
    ]


def _above(character: str, alphabet: Sequence[str]) -> list[str]:
    """Characters of the alphabet above *character*; beyond ASCII, where few were seen, also 1, 2, 4, ... above it."""
    seen = alphabet[bisect_right(alphabet, character) :]
    code = ord(character)
    if code <= _ASCII_END:
        return list(seen)
    others = (code + 2**power for power in range(20))
    return sorted({*seen, *(chr(c) for c in others if c <= sys.maxunicode and not 0xD800 <= c < 0xE000)})


def _equal_parts(last: str, end: str | None, count: int, alphabet: Sequence[str]) -> list[str]:
    """Guess 2."""
    common = _common_prefix(last, end) if end is not None else ""
    length = (len(common) if end is not None else len(last)) + _DIGITS - len(common)
    base = len(alphabet) + 1
    low = _number(last, len(common), length, alphabet)
    high = _number(end, len(common), length, alphabet) if end is not None else base**length
    found: list[str] = []
    for part in range(1, count + 1):
        point = common + _text(low + (high - low) * part // (count + 1), length, alphabet)
        if point > (found[-1] if found else last) and (end is None or point < end):
            found.append(point)
    return found


def _spread(points: Sequence[str], count: int) -> list[str]:
    """*count* of the *points*, evenly, the first among them."""
    if len(points) <= count:
        return list(points)
    return [points[index * len(points) // count] for index in range(count)]


def _common_prefix(one: str, other: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _number(key: str, start: int, length: int, alphabet: Sequence[str]) -> int:
    """*length* characters of *key* as a number; 0 is the digit of what the key does not have."""
    value = 0
    for position in range(start, start + length):
        digit = bisect_right(alphabet, key[position]) if position < len(key) else 0
        value = value * (len(alphabet) + 1) + digit
    return value


def _text(value: int, length: int, alphabet: Sequence[str]) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, len(alphabet) + 1)
        digits.append(digit)
    characters = []
    for digit in reversed(digits):
        if digit == 0:
            break
        characters.append(alphabet[digit - 1])
    return "".join(characters)
