"""`grid datastore create --dry-run`: what would be taken, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridfs.cli.invocation import Invocation
from gridfs.cli.output import print_json, say, shown_count, shown_size, warn
from gridfs.selection import SelectedStore

if TYPE_CHECKING:
    from gridfs.create.preview import Preview
    from gridfs.create.request import CreateRequest


def print_preview(invocation: Invocation, request: CreateRequest, selected: SelectedStore) -> None:
    """Scans the source and prints what a creation would take."""
    from gridfs.cli.progress import shown_progress

    async def work() -> Preview:
        from gridfs.create.preview import preview

        with shown_progress() as progress:
            return await preview(request, selected.settings, invocation.paths, progress)

    seen = invocation.run(work)
    if invocation.json:
        print_json(
            {
                "name": request.name,
                "source": seen.source,
                "file_count": seen.files,
                "total_bytes": seen.total_bytes,
                "problems": {problem.reason: problem.count for problem in seen.problems},
                "notes": list(seen.notes),
            }
        )
        return
    taken = f"{shown_count(seen.files, 'file')}, {shown_size(seen.total_bytes)}"
    say(f"Nothing was made. {request.name} would take {taken} from {seen.source}")
    for note in seen.notes:
        warn(note)
    for problem in seen.problems:
        warn(f"can't be kept: {problem.count:,} {problem.reason}")
