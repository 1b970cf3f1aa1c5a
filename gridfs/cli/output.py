"""How results look: tables (rich on a terminal, aligned columns otherwise), JSON, sizes and times.

Results go to stdout. What accompanies them (progress, hints, warnings) goes to stderr: a pipe gets results only.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from gridfs.cli.failures import one_line
from gridfs.errors import GridfsError


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False
    """Aligned right, as numbers are."""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints *rows* under the titles of *columns*."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, rows)
        return
    widths = [max(len(column.title), *(len(row[at]) for row in rows), 0) for at, column in enumerate(columns)]
    for row in [[column.title for column in columns], *rows]:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_json(value: Any) -> None:
    """Prints *value* as JSON; bytes that are no UTF-8 must have been made text with surrogateescape."""
    click.echo(json.dumps(value, indent=2))


def say(text: str) -> None:
    """A hint or a note, on stderr. One that nobody can read any more (a lost terminal) changes nothing."""
    with contextlib.suppress(OSError):
        click.echo(one_line(text), err=True)


def warn(text: str) -> None:
    say(f"grid: warning: {text}")


def raise_all(failures: Sequence[GridfsError]) -> None:
    """Ends a command that did what it could: raises the last of *failures*, which is said then, and says the others."""
    for failure in failures[:-1]:
        warn(str(failure))
    if failures:
        raise failures[-1]


def shown_size(size_bytes: int) -> str:
    """*size_bytes* in the unit that leaves at most four digits: `0 B`, `312 B`, `1.4 MiB`, `812 GiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        size /= 1024
        if size < 999.5 or unit == "PiB":
            return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    raise AssertionError("unreachable")


def shown_count(count: int, singular: str, plural: str | None = None) -> str:
    """`1 file`, `20,310 files`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def shown_time(utc: str) -> str:
    """`2026-11-22 12:40` of an ISO 8601 time in UTC, to the minute."""
    return utc[:16].replace("T", " ")


def shown_path(raw: bytes) -> str:
    """A path of a datastore as text; bytes that are no UTF-8 are shown as `\\xNN`."""
    return raw.decode("utf-8", "backslashreplace")
