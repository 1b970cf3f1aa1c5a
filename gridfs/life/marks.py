"""Marks: what a garbage collection saw unreachable, and when it was first seen so. Pure.

One object holds the marks of a whole datastore; each collection writes a new one and removes those that it has taken
over. Two collections at once leave two, and the later moment of a key counts: waiting too long is the safe side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gridfs.errors import FormatError
from gridfs.life.roots import Roots
from gridfs.model import Buffer
from gridfs.store.base import ObjectHead

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What a collection does with what it has listed."""

    kept: list[ObjectHead]
    waiting: list[ObjectHead]
    """Unreachable, but not yet for so long as the grace period."""
    due: list[ObjectHead]
    first_seen_ns: dict[str, int]
    """The marks from now on: of what waits and of what is due."""


def decide(
    listed: Iterable[ObjectHead], roots: Roots, first_seen_ns: Mapping[str, int], now_ns: int, grace_ns: int
) -> Decision:
    """Sorts what is there into what is kept, what waits, and what may be removed now."""
    decision = Decision([], [], [], {})
    for head in listed:
        if roots.keep(head):
            decision.kept.append(head)
            continue
        seen_ns = decision.first_seen_ns[head.key] = first_seen_ns.get(head.key, now_ns)
        (decision.due if now_ns - seen_ns >= grace_ns else decision.waiting).append(head)
    return decision


def format_marks(first_seen_ns: Mapping[str, int]) -> bytes:
    """The content of a marks object."""
    return json.dumps({"format": FORMAT, "first_seen_ns": dict(first_seen_ns)}).encode()


def parse_marks(data: Buffer, key: str) -> dict[str, int]:
    """The moments by key. Damaged marks are none: everything is then seen for the first time. Raises FormatError for
    marks of a newer format."""
    try:
        document = json.loads(bytes(data))
        form = int(document["format"])
        marks = {str(marked): int(seen_ns) for marked, seen_ns in document["first_seen_ns"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    if form > FORMAT:
        raise FormatError(f"the marks {key} are of a newer gridfs", remedy="collect garbage with that one")
    return marks


def merged(all_marks: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The marks of several objects as one; of two moments the later."""
    result: dict[str, int] = {}
    for marks in all_marks:
        for key, seen_ns in marks.items():
            result[key] = max(seen_ns, result.get(key, seen_ns))
    return result
