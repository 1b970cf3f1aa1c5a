"""Splits a range of keys without knowing the keys: where a second lister may start ahead of the first.

S3 lists keys in the order of their UTF-8 bytes, which is the order of code points, and from any string on. So a range
can be cut anywhere; the art is to cut where keys are. Keys are read as numbers: each character is a digit, and the
digits are the characters that have been seen in keys so far (names are mostly digits and a few letters, and a cut
between `img_0042` and `img_9` must fall on `img_1`, not on `img_:`). The range is cut into equal parts of that number
line. A cut that turns out to have nothing behind it costs one request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

_DIGITS = 6
"""Behind the common prefix of the range: finer than any number of listers needs."""


def split_points(low: str, high: str | None, count: int, alphabet: Sequence[str]) -> list[str]:
    """At most *count* strings, ascending, strictly between *low* and *high* (None: the end of all keys).

    *alphabet*: sorted characters; none of the answers has another one behind what *low* and *high* have in common.
    """
    if not alphabet:
        return []
    common = _common_prefix(low, high) if high is not None else ""
    depth = len(common) + _DIGITS
    if high is None:  # the common prefix of all keys may be long, and cuts fall on its characters one by one
        depth = len(low) + _DIGITS
    base = len(alphabet) + 1
    first = _number(low, len(common), depth, alphabet)
    last = _number(high, len(common), depth, alphabet) if high is not None else base ** (depth - len(common))
    found: list[str] = []
    for part in range(1, count + 1):
        point = common + _text(first + (last - first) * part // (count + 1), depth - len(common), alphabet)
        if point > (found[-1] if found else low) and (high is None or point < high):
            found.append(point)
    return found


def _common_prefix(one: str, other: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _number(key: str, start: int, stop: int, alphabet: Sequence[str]) -> int:
    """The characters *start* to *stop* of *key* as a number; 0 is the digit of what the key does not have."""
    value = 0
    for position in range(start, stop):
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
