"""Commit records: what is refused, and what is ignored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gridfs.catalog_record import format_record, parse_record
from gridfs.errors import FormatError
from gridfs.model import Mode, Version

KEY = "datastores/set/versions/00000002.json"
VERSION = Version(
    "set", 2, "2026-03-04T05:06:07Z", "s3://b/p/", Mode.NO_COPY, 1, 2, 3, 4, "k", "0a" * 32, 8192, problem_count=5
)


def changed(**changes: object) -> bytes:
    document = json.loads(format_record(VERSION)) | changes
    return json.dumps({key: value for key, value in document.items() if value != "drop"}).encode()


@pytest.mark.parametrize("version", [VERSION, replace(VERSION, deleted_at="2026-04-01T00:00:00Z", mode=Mode.COPY)])
def test_round_trip(version: Version) -> None:
    assert parse_record(format_record(version), KEY) == version


def test_names_that_are_no_ascii_survive() -> None:
    version = replace(VERSION, source="/data/día \udcff")
    assert parse_record(format_record(version), KEY) == version


def test_a_newer_format_says_what_reads_it() -> None:
    with pytest.raises(FormatError, match=r"format 2.*install gridfs 3\.1\.0 or newer"):
        parse_record(b'{"format": 2, "readable_since": "3.1.0"}', KEY)


def test_unknown_fields_are_ignored_and_optional_ones_may_lack() -> None:
    assert parse_record(changed(colour="red", problem_count="drop"), KEY) == replace(VERSION, problem_count=0)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"format": "1"}',
        changed(name=7),
        changed(version="2"),
        changed(version=True),
        changed(total_bytes="drop"),
        changed(mode="moved"),
        changed(manifest_sha256="../../etc/passwd"),
    ],
)
def test_damaged_records_are_refused_by_their_key(record: bytes) -> None:
    with pytest.raises(FormatError, match="00000002"):
        parse_record(record, KEY)
