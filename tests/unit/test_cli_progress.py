"""Progress as lines: each phase, then at most one line in ten seconds."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from gridfs.cli.progress import Bar, Lines

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_lines():
    clock, lines = Clock(), []
    progress = Lines(lines.append, clock)
    progress.on_phase("scanning")
    progress.on_scan(10, MIB)
    clock.now_s += 11
    progress.on_scan(20, 2 * MIB)
    progress.on_total(30, 400 * MIB)
    progress.on_phase("reading")
    progress.on_advance(1, 100 * MIB)
    clock.now_s += 10
    progress.on_advance(2, 300 * MIB)
    progress.on_advance(3, 301 * MIB)
    assert lines == [
        "scanning",
        "found 20 files, 2.0 MiB, 1 files/s",
        "to read: 30 files, 400 MiB",
        "reading",
        "2 files, 300 MiB of 30 files, 400 MiB, 30.0 MiB/s",
    ]


def test_a_line_that_says_nothing_new_is_left_out():
    clock, lines = Clock(), []
    progress = Lines(lines.append, clock)
    for _ in range(3):
        clock.now_s += 11
        progress.on_advance(0, 0)
    assert lines == ["0 files, 0 B, 0 B/s"]


def test_the_bar_shows_bytes_files_and_rate():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, legacy_windows=False)
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}")]
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        bar = Bar(bars)
        bar.on_phase("scanning")
        bar.on_scan(3, MIB)
        bars.refresh()
        bar.on_total(3, MIB)
        bar.on_phase("reading")
        bar.on_advance(3, MIB)
        bars.refresh()
    text = screen.getvalue()
    assert "scanning" in text
    assert "reading" in text
    assert "3 files, 1.0 MiB" in text
    assert "1.0 MiB, 3 files, " in text
