"""The commit record: a Version as JSON, and back. Its fields are tabled in docs/manifest-format.md.

A reader ignores fields that it does not know, and refuses a record whose `format` is higher than its own; the fields
`format` and `readable_since` never change their meaning.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, fields
from typing import Any

from gridfs.errors import FormatError
from gridfs.model import Buffer, Mode, Version

FORMAT = 1
"""Format of the records that this gridfs writes, and the highest that it reads."""

READABLE_SINCE = "0.1.0"
"""The oldest gridfs that reads FORMAT."""

_TYPES: dict[str, type] = {"str": str, "int": int, "Mode": str, "str | None": str}


def format_record(version: Version) -> bytes:
    """The commit record of *version*, or its tombstone when `deleted_at` is set."""
    document = {"format": FORMAT, "readable_since": READABLE_SINCE} | asdict(version)
    if version.deleted_at is None:
        del document["deleted_at"]
    return json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n"


def parse_record(data: Buffer, key: str) -> Version:
    """The Version that the record at *key* describes. Raises FormatError for a damaged record or a newer format."""
    try:
        document = json.loads(bytes(data))
        form = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(key, "it is no JSON object with a format") from error
    if not isinstance(form, int) or form > FORMAT:
        raise FormatError(
            f"the commit record {key} has format {form}, and this gridfs reads formats up to {FORMAT}",
            remedy=f"install gridfs {document.get('readable_since', 'of a later version')} or newer",
        )
    values: dict[str, Any] = {}
    for field in fields(Version):
        value = document.get(field.name)
        if value is None and field.default is not MISSING:
            continue
        if type(value) is not _TYPES[str(field.type)]:
            raise damaged(key, f"its {field.name} is {value!r}")
        values[field.name] = value
    if not re.fullmatch("[0-9a-f]{64}", values["manifest_sha256"]):  # it becomes the name of a file
        raise damaged(key, f"its manifest_sha256 is {values['manifest_sha256']!r}")
    try:
        values["mode"] = Mode(values["mode"])
    except ValueError as error:
        raise damaged(key, f"its mode is {values['mode']!r}") from error
    return Version(**values)


def damaged(key: str, what: str) -> FormatError:
    """The record at *key* is not what gridfs has put there."""
    # Nor can it be deleted: a tombstone names the manifest, whose data stays while other nodes may still read it.
    return FormatError(
        f"the commit record {key} is damaged: {what}",
        remedy="restore it from a backup or an earlier version of the object; other versions are not affected",
    )
