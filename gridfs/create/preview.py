"""What a creation would take, without making anything: `grid datastore create --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from gridfs.config import Paths, StoreSettings, ensure_private
from gridfs.create.creation import ProblemCount
from gridfs.create.journal import Journal
from gridfs.create.node_disk import disk_failures_named
from gridfs.create.opening import opened_source
from gridfs.create.progress import Progress
from gridfs.create.request import CreateRequest
from gridfs.create.source import StreamedSource
from gridfs.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Preview:
    """What a source holds."""

    source: str
    files: int
    total_bytes: int
    problems: tuple[ProblemCount, ...]
    notes: tuple[str, ...]


async def preview(request: CreateRequest, store: StoreSettings, paths: Paths, progress: Progress) -> Preview:
    """Scans the source of *request*, as for a version in *store*, and reads nothing.

    Raises what create_datastore raises for a source.
    """
    async with opened_source(request, store, paths) as (source, notes):
        if isinstance(source, StreamedSource):
            raise InvalidInput(
                f"--dry-run can't be used with '{source.label}'",
                remedy="an archive tells what it holds while it is read",
            )
        with (
            disk_failures_named(paths.state),
            TemporaryDirectory(dir=ensure_private(paths.state), prefix="preview-") as directory,
        ):
            journal = Journal(Path(directory) / "journal.sqlite")
            try:
                progress.on_phase("scanning")
                journal.begin_scan()
                await source.scan(journal)
                await trio.to_thread.run_sync(journal.end_scan)
                totals = await trio.to_thread.run_sync(journal.file_totals)
                problems = tuple(ProblemCount(*row) for row in journal.problem_counts())
            finally:
                journal.close()
        return Preview(source.label, totals.files, totals.total_bytes, problems, notes)
