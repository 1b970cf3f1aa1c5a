"""Reads a page of a listing ten times as fast as botocore's general parser (1,000 keys: 2 instead of 20 ms).

It works through botocore's own event before parsing: the keys are taken out of the body here, and botocore parses the
little that is left. The fields are found by name, each in one pass over the body: in a well-formed page there is one
of each for every key, and a page where that is not so is read as XML. What is no well-formed page either is left to
botocore, whose error then says so.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from html import unescape
from typing import Any
from urllib.parse import unquote_plus

import botocore.handlers

from gridfs.store.base import ObjectHead

_EVENT = "before-parse.s3.*"
ROWS = "GridfsRows"
"""Key of the parsed answer under which the keys and what is said of them are: the fields of _FIELDS, as text."""

_FIELDS = ("Key", "Size", "ETag", "LastModified", "StorageClass")
_FIND = {name: re.compile(rf"<{name}>([^<]*)</{name}>") for name in (*_FIELDS, "NextContinuationToken")}
_HEAD: Callable[[tuple[Any, ...]], ObjectHead] = partial(tuple.__new__, ObjectHead)
"""ObjectHead._make without a call of Python's."""
_REST = "<ListBucketResult><IsTruncated>{}</IsTruncated>{}</ListBucketResult>"


def read_pages_fast(events: Any) -> None:
    """Makes the client with these *events* leave the rows of each page under ROWS in its answer."""
    # botocore parses the whole body to see whether it is an error that says 200; it gets its turn after us.
    guard = getattr(botocore.handlers, "_handle_200_error", None)
    if guard is not None:
        events.unregister(_EVENT, guard)
    events.register_first(_EVENT, take_heads)
    if guard is not None:
        events.register_first(_EVENT, guard)


def take_heads(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Handler of the event."""
    if operation_model.name != "ListObjectsV2" or response_dict["status_code"] != 200:
        return
    try:
        body = response_dict["body"].decode()
        rows = _rows_by_name(body) or _rows_of_xml(body)
    except (ET.ParseError, ValueError, KeyError):
        return
    if "<EncodingType>url</EncodingType>" in body:
        rows = [(unquote_plus(row[0]), *row[1:]) if "%" in row[0] or "+" in row[0] else row for row in rows]
    customized_response_dict[ROWS] = rows
    token = _FIND["NextContinuationToken"].search(body)
    truncated = "true" if "<IsTruncated>true</IsTruncated>" in body else "false"
    response_dict["body"] = _REST.format(truncated, token[0] if token else "").encode()


def _rows_by_name(body: str) -> Sequence[tuple[str, ...]]:
    """The fields of each key; nothing if the page is not as regular as that takes."""
    if not body.endswith("</ListBucketResult>") or "<!" in body:
        return ()
    body = body.replace("&quot;", '"')  # of the ETags; what is left to unescape in a key has another ampersand
    count = body.count("<Contents>")
    columns = [_FIND[name].findall(body) for name in _FIELDS]
    columns[0] = [unescape(key) if "&" in key else key for key in columns[0]]
    return list(zip(*columns, strict=True)) if all(len(column) == count for column in columns) else ()


def _rows_of_xml(body: str) -> Sequence[tuple[str, ...]]:
    """The same from any well-formed page. Raises ParseError, or ValueError if it is no page at all."""
    root = ET.fromstring(body)  # noqa: S314 - expat since 2.4.1 bounds what entities expand to
    namespace = root.tag[: root.tag.find("}") + 1]
    if root.tag != f"{namespace}ListBucketResult":
        raise ValueError(f"a {root.tag} is no listing")
    rows = []
    for item in root.iter(f"{namespace}Contents"):
        fields = {element.tag[len(namespace) :]: element.text or "" for element in item}
        rows.append((fields["Key"], fields["Size"], fields.get("ETag", ""), fields["LastModified"],
                     fields.get("StorageClass", "")))  # fmt: skip
    return rows


def heads_of(rows: Sequence[tuple[str, ...]]) -> list[ObjectHead]:
    """The records of *rows*. Raises ValueError for what is no size or no time."""
    if not rows:
        return []
    keys, sizes, etags, times, classes = zip(*rows, strict=True)
    # Column by column, because a listing makes millions: half a microsecond for each key instead of two.
    quoted = [etag if etag.startswith('"') else _quoted(etag) for etag in etags]
    known = [storage_class or None for storage_class in classes]
    return list(map(_HEAD, zip(keys, map(int, sizes), quoted, map(_nanoseconds, times), known, strict=True)))


def _quoted(etag: str) -> str | None:
    """As headers have it; some servers leave the quotes out in listings."""
    return f'"{etag}"' if etag else None


@lru_cache(maxsize=1024)
def _nanoseconds(text: str) -> int:
    """Whole seconds: what a HEAD and a GET say of the same object. Objects put together share theirs."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
