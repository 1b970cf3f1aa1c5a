"""What a version takes over from the one before it, and what it packs anew so that reading stays fast.

A file of the same path, size and mtime is taken over unread if both versions are of one source (in another, the same
three mean little: what an archive was unpacked to has one date for all); any other file is read, and not sent again if
the version before holds the same content. Both cost nothing but locality, so a pack is packed anew when

1. less than half of it is still live: a reader that fills whole packs would fetch more dead bytes than live ones, and
   the store would keep them;
2. it is thin (its live bytes lie in runs of less than MIN_RUN_BYTES in tree order), and somewhere in the tree more than
   MAX_STREAMS packs are interleaved.

Rule 2 is about readers in tree order. A version with 1 % changed adds one pack whose files are scattered between
those of the old packs; to the prefetcher such a reader is two streams, each in order, and loses 3 %. Eight interleaved
packs cost 7 %, sixteen 29 %; the ninth version after the last repacking packs the thin ones together, which makes two
streams of all. So a byte is sent again once in eight versions (docs/decisions/repacking.md).

Pure but for `learn`, which moves rows from the manifest to the journal, and `leave_to_repack`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gridfs.create.journal import Journal
from gridfs.create.journal_schema import BaseFile
from gridfs.manifest.reader import Manifest
from gridfs.model import Kind

MIN_RUN_BYTES = 1 << 20
"""What 100 MB/s delivers in a round trip of 10 ms: shorter runs are dominated by the latency of their first byte."""

MAX_STREAMS = 8

_BATCH_ROWS = 4096


@dataclass(slots=True)
class ObjectUse:
    """How a version uses one object. Positions count the entries of the version in tree order."""

    size_bytes: int
    live_bytes: int = 0
    runs: int = 0
    """Stretches of files that follow each other in the tree as well as in the object."""
    first: int = 0
    last: int = 0
    end: int = 0
    """Offset at which the last file of it ended."""


def measure(extents: Iterable[tuple[int, int, int, int]], sizes: Mapping[int, int]) -> dict[int, ObjectUse]:
    """The use of each object in *sizes* by (position, object, offset, length), which come in tree order.

    An extent that lies before the end of the one before it in its object (content that is named twice, files in another
    order) begins a run and does not count as live.
    """
    uses: dict[int, ObjectUse] = {}
    current = 0
    for position, number, offset, length in extents:
        size = sizes.get(number)
        if size is not None:
            use = uses.get(number)
            if use is None:
                use = uses[number] = ObjectUse(size, first=position)
            follows = offset >= use.end
            use.runs += number != current or not follows
            if follows:
                use.live_bytes += length
                use.end = offset + length
            use.last = position
        current = number
    return uses


def to_repack(uses: Mapping[int, ObjectUse]) -> set[int]:
    """The objects whose files are to be packed anew (rules 1 and 2)."""
    anew = {number for number, use in uses.items() if use.live_bytes * 2 < use.size_bytes}
    kept = {number: use for number, use in uses.items() if number not in anew and use.runs > 1}
    if interleaved((use.first, use.last) for use in kept.values()) > MAX_STREAMS:
        anew |= {number for number, use in kept.items() if use.live_bytes < MIN_RUN_BYTES * use.runs}
    return anew


def interleaved(stretches: Iterable[tuple[int, int]]) -> int:
    """The greatest number of *stretches* (first and last position) that any position lies in."""
    events = sorted(event for first, last in stretches for event in ((first, 1), (last + 1, -1)))
    depth = deepest = 0
    for _, change in events:
        depth += change
        deepest = max(deepest, depth)
    return deepest


def learn(journal: Journal, manifest: Manifest, *, by_path: bool) -> None:
    """Makes the content of *manifest* known to the journal; *by_path*: and gives it to files that look unchanged.

    To be called in one thread.
    """
    block_size = manifest.info.block_size_bytes
    numbers: dict[int, int] = {}  # of the manifest's object -> of the journal's
    batch: list[BaseFile] = []
    for path, entry in manifest.walk():
        if entry.kind != Kind.FILE or entry.object is None or entry.offset is None or entry.sha256 is None:
            continue
        number = numbers.get(entry.object)
        if number is None:
            record = manifest.object(entry.object)
            checksums = array("Q", manifest.checksums(entry.object, 0, record.block_count(block_size)) or ())
            number = journal.add_base_object(record.key, record.size_bytes, _little_endian(checksums))
            numbers[entry.object] = number
        batch.append(BaseFile(path, entry.size, entry.mtime_ns, entry.sha256, number, entry.offset))
        if len(batch) >= _BATCH_ROWS:
            journal.add_base_files(batch, by_path=by_path)
            batch.clear()
    journal.add_base_files(batch, by_path=by_path)
    journal.commit()


def leave_to_repack(journal: Journal) -> None:
    """Takes what is to be packed anew from the files that were given it. After `learn` and a scan, in one thread."""
    sizes = {number: size for number, _, size in journal.base_objects()}
    extents = (
        (position, row.object, row.offset, row.size)
        for position, row in enumerate(journal.rows())
        if row.object is not None and row.offset is not None
    )
    journal.forget_contents_of(to_repack(measure(extents, sizes)))
    journal.commit()


def _little_endian(checksums: array[int]) -> bytes:
    if sys.byteorder == "big":
        checksums.byteswap()
    return checksums.tobytes()
