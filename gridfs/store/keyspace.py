"""Splits a range of keys without knowing the keys: where a second lister may start ahead of the first.

S3 lists keys in the order of their UTF-8 bytes, which is the order of code points, and from any string on. So a range
can be cut anywhere; the art is to cut where keys are. Two guesses are made, both with the characters that keys have had
so far at each position (`Alphabet`):

1. Keys go on as they are: behind `img_000999` come `img_001...`, or `img_01...`, or `img_1...`, or other names. A cut
   at each character that all of the last page had in common finds, in one round trip, how far they go.
2. Keys are spread evenly: read as numbers whose digits are the characters of each position, the range is cut into equal
   parts.

A cut that turns out to have nothing behind it costs one request, and a page of the next range.
"""

from __future__ import annotations

import string
import sys
from bisect import bisect_right
from collections.abc import Sequence
from math import inf

_ASCII_END = 0x7F
_DIGITS = 6
"""Behind the common prefix of a range: finer than any number of listers needs."""
_CLASSES = (string.digits, string.ascii_lowercase, string.ascii_uppercase)


class Alphabet:
    """Which characters keys have at each position.

    Names are mostly numbers of a fixed width and a few letters: a cut between `img_0042` and `img_9` must fall on
    `img_1`, not on `img_:`. Where one digit was seen, any may come; where a letter was, any that was seen anywhere.
    """

    def __init__(self) -> None:
        self._seen: list[set[str]] = []
        self._everywhere: set[str] = set()
        self._sorted: dict[int, list[str]] = {}

    def note(self, key: str) -> None:
        """A key that exists."""
        self._seen.extend(set() for _ in range(len(key) - len(self._seen)))
        for position, character in enumerate(key):
            if character not in self._seen[position]:
                self._seen[position].add(character)
                self._everywhere.add(character)
                self._sorted.clear()

    def at(self, position: int) -> Sequence[str]:
        """Characters that a key may have at *position*, ascending; behind the longest key: any that there are."""
        found = self._sorted.get(position)
        if found is None:
            seen = self._seen[position] if position < len(self._seen) else self._everywhere
            found = self._sorted[position] = sorted(self._completed(seen))
        return found

    def _completed(self, seen: set[str]) -> set[str]:
        complete = set(seen)
        for members in _CLASSES:
            if not seen.isdisjoint(members):
                complete |= set(members) if members is string.digits else self._everywhere.intersection(members)
        return complete


def split_points(first: str, last: str, end: str | None, count: int, alphabet: Alphabet) -> list[str]:
    """At most *count* strings, ascending, strictly between *last* and *end* (None: the end of all keys).

    A page has just brought the keys *first* to *last* of the range.
    """
    if count < 1:
        return []
    levels = [point for point in _by_level(first, last, alphabet) if end is None or point < end]
    if len(levels) > count:
        return _spread(levels, count)
    return sorted({*levels, *_spread(_equal_parts(last, end, count, alphabet), count - len(levels))})


def keys_left(start: str, last: str, end: str | None, count: int, alphabet: Alphabet) -> float:
    """How many more keys a range has, if the *count* keys from *start* to *last* are as dense as the rest."""
    if end is None:
        return inf
    common = len(_common_prefix(start, end))
    low, here, high = (_number(key, common, _DIGITS, alphabet) for key in (start, last, end))
    return count * (high - here) / (here - low) if here > low else inf


def _by_level(first: str, last: str, alphabet: Alphabet) -> list[str]:
    """Guess 1, the nearest first: for each position of what *first* and *last* share, the characters above *last*'s."""
    shared = min(len(_common_prefix(first, last)), len(last) - 1)
    return [
        last[:position] + character
        for position in range(shared, -1, -1)
        for character in _above(last[position], alphabet.at(position))
    ]


def _above(character: str, alphabet: Sequence[str]) -> list[str]:
    """Those of *alphabet* above *character*; beyond ASCII, where few were seen, also those 1, 2, 4, ... above it."""
    seen = alphabet[bisect_right(alphabet, character) :]
    code = ord(character)
    if code <= _ASCII_END:
        return list(seen)
    others = (code + 2**power for power in range(20))
    return sorted({*seen, *(chr(c) for c in others if c <= sys.maxunicode and not 0xD800 <= c < 0xE000)})


def _equal_parts(last: str, end: str | None, count: int, alphabet: Alphabet) -> list[str]:
    """Guess 2."""
    common = _common_prefix(last, end) if end is not None else ""
    start, length = len(common), _DIGITS if end is not None else len(last) + _DIGITS
    low = _number(last, start, length, alphabet)
    high = _number(end, start, length, alphabet) if end is not None else _number_end(start, length, alphabet)
    found: list[str] = []
    for part in range(1, count + 1):
        point = common + _text(low + (high - low) * part // (count + 1), start, length, alphabet)
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


def _number(key: str, start: int, length: int, alphabet: Alphabet) -> int:
    """*length* characters of *key* from *start* as a number; 0 is the digit of what the key does not have."""
    value = 0
    for position in range(start, start + length):
        characters = alphabet.at(position)
        digit = bisect_right(characters, key[position]) if position < len(key) else 0
        value = value * (len(characters) + 1) + digit
    return value


def _number_end(start: int, length: int, alphabet: Alphabet) -> int:
    """Above every number of that length."""
    value = 1
    for position in range(start, start + length):
        value *= len(alphabet.at(position)) + 1
    return value


def _text(value: int, start: int, length: int, alphabet: Alphabet) -> str:
    """The inverse of _number."""
    characters: list[str] = []
    for position in range(start + length - 1, start - 1, -1):
        value, digit = divmod(value, len(alphabet.at(position)) + 1)
        if digit:
            characters.append(alphabet.at(position)[digit - 1])
        else:
            characters.clear()  # the key ends here, whatever the digits behind are
    return "".join(reversed(characters))
