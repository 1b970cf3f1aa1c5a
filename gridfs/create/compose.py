"""Writes the manifest of what a journal holds: one pass in the manifest's order, in one worker thread.

Objects are appended to the tape when the first entry that lies in them comes by, so the tape is in tree order whatever
the order of their making was, and an object that nothing refers to any more does not get into the manifest. In a
no-copy version each file is an object: the one in the bucket.
"""

from __future__ import annotations

from pathlib import Path

from gridfs.create.digest import EMPTY_SHA256
from gridfs.create.journal import Journal
from gridfs.create.journal_schema import FoundRow
from gridfs.errors import SourceProblem
from gridfs.manifest.schema import ManifestInfo, ManifestSettings
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode


def write_manifest(journal: Journal, path: Path, settings: ManifestSettings) -> ManifestInfo:
    """Writes the SQLite file *path*, which is replaced if an earlier run has left one.

    Raises SourceProblem for an object that no no-copy version can name.
    """
    path.unlink(missing_ok=True)
    numbers: dict[int, int] = {}  # of the journal's object -> of the manifest's
    rows = journal.rows()
    with ManifestWriter(path, settings) as writer:
        for row in rows:
            if not row.name:
                writer.set_root(row.mode, row.mtime_ns)
                continue
            number, offset = None, row.offset
            if settings.mode is Mode.NO_COPY and row.kind == Kind.FILE and row.size:
                key = row.locator.decode("utf-8", "surrogateescape")
                if row.etag is None:
                    raise SourceProblem(
                        f"{settings.source} can't be left where it is: its server lists {key} with no ETag, by which a"
                        " read could tell it from what is put there later",
                        remedy="leave out --no-copy",
                    )
                number, offset = writer.add_object(key, row.size, etag=row.etag, last_modified_ns=row.mtime_ns), 0
            elif row.object is not None:
                if row.object not in numbers:
                    stored = journal.object(row.object)
                    numbers[row.object] = writer.add_object(stored.key, stored.size_bytes, stored.checksums)
                number = numbers[row.object]
            writer.add_entry(
                row.directory,
                row.name,
                Kind(row.kind),
                row.mode,
                row.size,
                row.mtime_ns,
                object=number,
                offset=offset,
                sha256=_sha256(row),
                target=row.target,
            )
        for problem in journal.problems():
            writer.add_problem(problem)
        return writer.finish()


def _sha256(row: FoundRow) -> bytes | None:
    return EMPTY_SHA256 if row.kind == Kind.FILE and row.size == 0 else row.sha256
