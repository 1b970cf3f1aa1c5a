"""Lists a bucket by many requests at once, whether its keys lie in directories or in one flat heap.

A listing is sequential by nature: each page says where the next begins, and 1,000 keys a page at 30 ms are 33,000
keys a second. But it may begin after any string. So the range of all keys is cut into ranges that are listed side by
side: whenever a page has come, and more is to come, and listers are idle, the lister that has the page gives away all
but the first part of what is left of its range. keyspace.py says where to cut, and how much may be left. Prefixes need
no treatment of their own: a cut falls between two directories as well as inside one.

Every page is asked for by the last key before it, never by a token: a page that was interrupted or malformed is asked
for again, and nothing is lost or doubled. A server whose pages are not in order (S3's directory buckets) is listed by
one lister alone, by tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TypeAlias

import trio

from gridfs.store.base import ObjectHead
from gridfs.store.keyspace import Alphabet, keys_left, split_points
from gridfs.store.retry import RetryPolicy, persist

LISTERS = 16
"""A page takes 7 ms of CPU, so behind 15 ms four would do, and 16 behind 100 ms. More only ask more for nothing: of
200,000 keys 16 listers receive 250,000, and more with each that is added."""
PAGE_KEYS = 1000
"""S3's limit."""
_LEAST_KEYS = 6 * PAGE_KEYS
"""A range of fewer is not worth a lister of its own: behind its end, and where nothing is, pages come for nothing."""
_SAMPLE_EVERY = 40
"""Keys of a page whose characters are noted for the cuts."""
_PATIENCE = RetryPolicy(deadline_s=60)
"""For one page: a listing of an hour should survive a minute of trouble."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    heads: Sequence[ObjectHead]
    is_last: bool
    """Nothing comes after it in the bucket below the prefix."""
    token: str | None
    """Where the server itself would continue."""


FetchPage: TypeAlias = Callable[[str, str | None, int, str | None], Awaitable[Page]]
"""The page of keys after the first argument or, if it is given, the one that the token stands for; at most so many. The
last argument is the highest key that is wanted."""

DeliverPage: TypeAlias = Callable[[Sequence[ObjectHead]], Awaitable[None]]


@dataclass(slots=True)
class _Range:
    """Keys above *after* up to *end* (inclusive; None: to the end)."""

    after: str
    end: str | None


class UnorderedError(Exception):
    """The server's keys are not in the order of their code points."""


async def list_in_parallel(fetch_page: FetchPage, prefix: str, deliver: DeliverPage, *, listers: int = LISTERS) -> None:
    """Hands all keys that start with *prefix* to *deliver*, page by page, in any order, each key once (from a server
    without order: at least once).

    *fetch_page* raises the classes of gridfs.errors; what is retryable is asked for again for up to a minute.
    *deliver* may be called by several tasks at once, and holds its lister up.
    """
    listing = _Listing(fetch_page, prefix, deliver, listers)
    try:
        await listing.run()
    except BaseExceptionGroup as group:
        error = _first_of(group)
        if not isinstance(error, UnorderedError):
            raise error from group
        await _list_by_tokens(listing.fetch, deliver)


async def _list_by_tokens(fetch: FetchPage, deliver: DeliverPage) -> None:
    token: str | None = None
    while True:
        page = await fetch("", token, PAGE_KEYS, None)
        await deliver(page.heads)
        if page.is_last:
            return
        token = page.token


class _Listing:
    def __init__(
        self,
        fetch_page: FetchPage,
        prefix: str,
        deliver: DeliverPage,
        listers: int,
    ) -> None:
        self._fetch_page = fetch_page
        self._prefix = prefix
        self._deliver = deliver
        self._listers = listers
        self._idle = listers
        self._alphabet = Alphabet()
        self._random = Random()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._start(_Range("", None))

    def _start(self, keys: _Range) -> None:
        self._idle -= 1
        self._nursery.start_soon(self._list, keys, name=f"list after {keys.after[-40:]!r}")

    async def _list(self, keys: _Range) -> None:
        token: str | None = None
        start, count, most, shortened = keys.after, 0, PAGE_KEYS, False
        while True:
            page = await self.fetch(keys.after, token, most, keys.end)
            heads, ended = _inside(page, keys)
            token = None
            if heads:
                keys.after = heads[-1].key
            else:
                token = page.token  # an empty page that is not the last one: only the server knows where it is
            if ended:
                self._idle += 1  # before the delivery: the next request need not wait for it
                await self._deliver(heads)
                return
            count += len(heads)
            self._note_characters(heads)
            left = self._keys_left(keys, start, count)
            if shortened:  # the estimate was too low: it is not believed again
                left = max(left, 4 * count)
            most = int(min(PAGE_KEYS, left * 1.2 + 20))  # what comes behind the range is parsed for nothing
            shortened = shortened or most < PAGE_KEYS
            if heads:
                self._give_away(keys, heads[0].key, left)
            await self._deliver(heads)

    def _keys_left(self, keys: _Range, start: str, count: int) -> float:
        """An estimate, after the range that began at *start* has brought *count* keys."""
        skip = len(self._prefix)  # which all keys share
        end = keys.end[skip:] if keys.end is not None else None
        return keys_left(start[skip:], keys.after[skip:], end, count, self._alphabet)

    def _give_away(self, keys: _Range, first: str, left: float) -> None:
        """Cuts what is left of *keys* (some *left* of them) into ranges for the idle listers, and one for itself."""
        skip = len(self._prefix)
        last, end = keys.after[skip:], keys.end[skip:] if keys.end is not None else None
        count = int(min(self._idle, left / _LEAST_KEYS))
        points = [self._prefix + cut for cut in split_points(first[skip:], last, end, count, self._alphabet)]
        ends = [*points[1:], keys.end]
        for after, end in zip(points, ends, strict=False):
            self._start(_Range(after, end))
        if points:
            keys.end = points[0]

    def _note_characters(self, heads: Sequence[ObjectHead]) -> None:
        skip = len(self._prefix)
        for head in heads[::_SAMPLE_EVERY]:
            self._alphabet.note(head.key[skip:])

    async def fetch(self, after: str, token: str | None, most: int, end: str | None) -> Page:
        """One page, asked for until it comes."""
        return await persist(lambda: self._fetch_page(after, token, most, end), _PATIENCE, self._random)


def _inside(page: Page, keys: _Range) -> tuple[Sequence[ObjectHead], bool]:
    """What of the page lies in the range, and whether nothing of the range comes after it. Raises UnorderedError."""
    heads = page.heads
    if not heads:
        return heads, page.is_last
    if heads[0].key <= keys.after or any(a.key >= b.key for a, b in pairwise(heads)):
        raise UnorderedError
    if keys.end is None or heads[-1].key <= keys.end:
        return heads, page.is_last or heads[-1].key == keys.end
    return [head for head in heads if head.key <= keys.end], True


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the listing: the first failure of a lister, before the cancellation of the others."""
    failure, cancelled = group.split(lambda error: not isinstance(error, trio.Cancelled))[::1]
    error: BaseException = failure or cancelled or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
