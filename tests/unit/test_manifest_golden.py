"""Format 1, pinned as bytes: what was published once is read for ever, and what is written today is the same.

The files in tests/golden were written once by gridfs 0.1.0 and are never made anew; a new format gets files of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gridfs.catalog_lease import LeaseRecord, parse_lease
from gridfs.catalog_record import format_record, parse_record
from gridfs.manifest.reader import Manifest
from gridfs.manifest.schema import ManifestInfo
from gridfs.manifest.transport import Unpacker
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Entry, Kind, Mode, ObjectRecord, Problem, SourceBucket, Version, no_copy_identity
from tests.support.manifests import settings

GOLDEN = Path(__file__).parents[1] / "golden"
DOCUMENT = Path(__file__).parents[2] / "docs" / "manifest-format.md"

SHA256 = {
    "copy": "208bb844c225793a7fb936ebcf41cee091ed0db83f894e6375b82bbcb1781b3f",
    "no-copy": "04b040c1460e71ceb339d2b9c9f8b95c4fadd73f0da2c8c20e8e8a9aff2a263f",
}
SIZE_BYTES = {"copy": 32768, "no-copy": 32768}

KEYS = ("00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100")
MTIME_NS = 1_700_000_000_123_456_789
BUCKET = SourceBucket(
    "public-data", "https://s3.example.org", "eu-central-1", "set/", signed=False, requester_pays=True
)

COPY_ENTRIES = [
    Entry(1, 1, b"", 1, 0o755, 0, MTIME_NS, None, None, None, None, 2, 5),
    Entry(2, 1, b"a", 1, 0o750, 0, 1, None, None, None, None, 7, 2),
    Entry(3, 1, b"a-b", 2, 0o644, 5000, MTIME_NS, 2, 0, b"\x11" * 32, None, None, None),
    Entry(4, 1, b"empty", 2, 0o600, 0, -1, None, None, b"\x22" * 32, None, None, None),
    Entry(5, 1, b"link\xff", 3, 0o777, 7, 0, None, None, None, b"../\xfe/x", None, None),
    Entry(6, 1, b"none", 1, 0o755, 0, 0, None, None, None, None, None, 0),
    Entry(7, 2, b"one", 2, 0o644, 100, 0, 1, 0, b"\x33" * 32, None, None, None),
    Entry(8, 2, b"two", 2, 0o755, 200, 0, 1, 4096, b"\x44" * 32, None, None, None),
]
COPY_INFO = ManifestInfo(
    1, "0.1.0", 4096, 4, Mode.COPY, "/data/set", "gridfs 0.1.0", 4, 2, 1, 5300, 2, 2, None
)  # fmt: skip
NO_COPY_INFO = ManifestInfo(
    1, "0.1.0", 4096, 1, Mode.NO_COPY, "s3://public-data/set", "gridfs 0.1.0", 1, 0, 0, 9, 1, 0, BUCKET
)  # fmt: skip
PROBLEMS = [Problem("socket", b"run/\xff.sock"), Problem("xattr", b"", "12 files have extended attributes")]
VERSION = Version(
    "set", 1, "2026-01-02T03:04:05.678901Z", "/data/set", Mode.COPY, 4, 2, 1, 5300,
    f"datastores/set/manifests/{SHA256['copy']}.sqlite.zst", SHA256["copy"], SIZE_BYTES["copy"], 2,
)  # fmt: skip


def write_copy(path: Path) -> None:
    with ManifestWriter(path, settings(created_by="gridfs 0.1.0")) as writer:
        writer.set_root(0o755, MTIME_NS)
        writer.add_object(KEYS[0], 4296, bytes(range(16)))
        writer.add_object(KEYS[1], 5000, bytes(range(16, 32)))
        places = {1: b"", 2: b"a"}
        for entry in COPY_ENTRIES[1:]:
            writer.add_entry(
                places[entry.parent], entry.name, Kind(entry.kind), entry.mode, entry.size, entry.mtime_ns,
                object=entry.object, offset=entry.offset, sha256=entry.sha256, target=entry.target,
            )  # fmt: skip
        for problem in PROBLEMS:
            writer.add_problem(problem)
        writer.finish()


def write_no_copy(path: Path) -> None:
    changes = settings(created_by="gridfs 0.1.0", mode=Mode.NO_COPY, bucket=BUCKET, source="s3://public-data/set")
    with ManifestWriter(path, changes) as writer:
        writer.add_object("set/f", 9, etag='"e-1"', last_modified_ns=MTIME_NS)
        writer.add_entry(b"", b"f", Kind.FILE, 0o644, 9, MTIME_NS, object=1, offset=0)
        writer.finish()


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manifest]:
    """The golden manifest of the kind that the test's parameter says, out of its form in the store."""
    kind = request.param
    path = tmp_path / "golden.sqlite"
    with Unpacker(path, sha256=SHA256[kind], size_bytes=SIZE_BYTES[kind]) as unpacker:
        unpacker.feed((GOLDEN / f"manifest-1-{kind}.sqlite.zst").read_bytes())
        unpacker.finish()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[kind]
    with Manifest.open(path) as manifest:
        yield manifest


@pytest.mark.parametrize("golden", ["copy"], indirect=True)
def test_a_copied_version_of_format_1(golden: Manifest) -> None:
    assert golden.info == COPY_INFO
    assert [golden.entry(inode) for inode in range(1, 9)] == COPY_ENTRIES
    assert golden.entry(9) is None
    assert list(golden.objects()) == [
        ObjectRecord(1, KEYS[0], 4296, 0, KEYS[0], live_bytes=300),
        ObjectRecord(2, KEYS[1], 5000, 2, KEYS[1], live_bytes=5000),
    ]
    assert golden.checksums(1, 0, 2) == (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert golden.checksums(2, 1, 2) == (0x1F1E1D1C1B1A1918,)
    assert list(golden.problems()) == PROBLEMS
    assert [entry.inode for entry in golden.entries_of_object(1)] == [7, 8]


@pytest.mark.parametrize("golden", ["no-copy"], indirect=True)
def test_a_no_copy_version_of_format_1(golden: Manifest) -> None:
    assert golden.info == NO_COPY_INFO
    identity = no_copy_identity("https://s3.example.org", "public-data", "set/f", '"e-1"', 9)
    assert golden.object(1) == ObjectRecord(1, "set/f", 9, 0, identity, '"e-1"', MTIME_NS, 9)
    assert golden.resolve(b"f") == Entry(2, 1, b"f", 2, 0o644, 9, MTIME_NS, 1, 0, None, None, None, None)


def test_a_commit_record_of_format_1() -> None:
    raw = (GOLDEN / "record-1.json").read_bytes()
    assert parse_record(raw, "record-1.json") == VERSION
    assert format_record(VERSION) == raw


def test_a_lease_of_format_1() -> None:
    assert parse_lease((GOLDEN / "lease-1.json").read_bytes(), "lease-1.json") == LeaseRecord((1, 3), MTIME_NS)


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        pragmas = [
            str(connection.execute(f"PRAGMA {name}").fetchone())
            for name in ("application_id", "user_version", "page_size", "encoding")
        ]
        return pragmas + list(connection.iterdump())


@pytest.mark.parametrize(
    ("golden", "write", "longest"), [("copy", write_copy, 5), ("no-copy", write_no_copy, 1)], indirect=["golden"]
)
def test_the_writer_writes_format_1(golden: Manifest, write: object, longest: int, tmp_path: Path) -> None:
    """Byte for byte they differ between versions of SQLite; statement for statement they don't, but for a key that
    came later, and that readers of format 1 pass over.
    """
    assert callable(write)
    write(tmp_path / "today")
    added = set(dump(tmp_path / "today")) - set(dump(tmp_path / "golden.sqlite"))
    assert added == {f"INSERT INTO \"meta\" VALUES('longest_name_bytes',{longest});"}
    assert [line for line in dump(tmp_path / "today") if line not in added] == dump(tmp_path / "golden.sqlite")


# docs/manifest-format.md


def test_the_document_has_the_tables_as_they_are(tmp_path: Path) -> None:
    write_copy(tmp_path / "m")
    with closing(sqlite3.connect(tmp_path / "m")) as connection:
        statements = [row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
    documented = re.sub(r"\s*--[^\n]*", "", DOCUMENT.read_text())
    squeezed = re.sub(r"\s+", " ", documented)
    for statement in statements:
        assert re.sub(r"\s+", " ", statement) in squeezed


def test_the_document_s_examples_are_the_golden_files() -> None:
    examples = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    parsed = [json.loads(example) for example in examples]
    assert json.loads((GOLDEN / "record-1.json").read_bytes()) in parsed
    assert json.loads((GOLDEN / "lease-1.json").read_bytes()) in parsed


def test_the_document_names_every_field() -> None:
    text = DOCUMENT.read_text()
    fields = {*json.loads((GOLDEN / "record-1.json").read_bytes()), "deleted_at"}
    fields |= set(ManifestInfo.__dataclass_fields__) - {"bucket"} | set(SourceBucket.__dataclass_fields__)
    assert {field for field in fields if f"`{field}`" not in text} == set()
