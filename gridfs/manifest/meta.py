"""The meta table: a ManifestInfo as rows of key and value, and back, with the rule for formats to come.

The rule: a reader refuses a format that is higher than its own before it looks at any table but `meta`, whose keys
`format` and `readable_since` never change their meaning. Keys that it does not know are ignored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from gridfs.errors import FormatError
from gridfs.manifest.schema import APPLICATION_ID, FORMAT, ManifestInfo
from gridfs.model import Mode, SourceBucket


def to_column(text: str) -> str | bytes:
    """How a text is stored that may hold a path: one with bytes that are no UTF-8 (surrogates in it) as those bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return text


def from_column(value: str | bytes | int) -> str:
    """The text that `to_column` has stored."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def meta_rows(info: ManifestInfo) -> Iterator[tuple[str, str | bytes | int]]:
    """The rows of the meta table that say *info*; a value that is None has no row."""
    values = {field.name: getattr(info, field.name) for field in fields(ManifestInfo) if field.name != "bucket"}
    if info.bucket is not None:
        values |= {field.name: getattr(info.bucket, field.name) for field in fields(SourceBucket)}
    for key, value in values.items():
        if value is not None:
            yield key, to_column(str(value)) if isinstance(value, str) else int(value)


def read_meta(connection: sqlite3.Connection, path: Path) -> ManifestInfo:
    """What the manifest in *connection* says of itself. Raises FormatError if it is none, or newer."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise FormatError(f"{path} is no manifest: it is another program's SQLite file")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    form = connection.execute("PRAGMA user_version").fetchone()[0]
    if form > FORMAT:
        raise FormatError(
            f"{path} is a manifest of format {form}, and this gridfs reads formats up to {FORMAT}",
            remedy=f"install gridfs {meta.get('readable_since', 'of a later version')} or newer",
        )
    try:
        return _info_of(meta)
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is damaged: its meta table lacks {error}") from error


def _info_of(meta: dict[str, str | bytes | int]) -> ManifestInfo:
    def number(key: str) -> int:
        return int(meta[key])

    def text(key: str) -> str:
        return from_column(meta[key])

    def optional(key: str) -> str | None:
        return text(key) if key in meta else None

    mode = Mode(text("mode"))
    bucket = None
    if mode is Mode.NO_COPY:
        bucket = SourceBucket(
            bucket=text("bucket"),
            endpoint=optional("endpoint"),
            region=optional("region"),
            prefix=text("prefix"),
            signed=bool(number("signed")),
            requester_pays=bool(number("requester_pays")),
        )
    return ManifestInfo(
        format=number("format"),
        readable_since=text("readable_since"),
        block_size_bytes=number("block_size_bytes"),
        block_count=number("block_count"),
        mode=mode,
        source=text("source"),
        created_by=text("created_by"),
        file_count=number("file_count"),
        directory_count=number("directory_count"),
        symlink_count=number("symlink_count"),
        total_bytes=number("total_bytes"),
        object_count=number("object_count"),
        problem_count=number("problem_count"),
        bucket=bucket,
        longest_name_bytes=number("longest_name_bytes") if "longest_name_bytes" in meta else None,
    )
