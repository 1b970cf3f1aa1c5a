"""How a creation is seen: a bar with bytes, files and rate on a terminal, a line now and then otherwise.

Both go to stderr. The line comes at most every ten seconds, so that the log of a batch job stays short.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gridfs.cli.output import say, shown_count, shown_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from gridfs.create.progress import Progress

LINE_INTERVAL_S = 10.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A Progress for stderr as it is."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    ) as bars:
        yield Bar(bars)


class Lines:
    """Plain lines: each phase, and how far it is every ten seconds."""

    def __init__(
        self,
        write: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._rate = Rate(clock)
        self._total = ""
        self._last_line = ""
        self._next_line_s = clock() + LINE_INTERVAL_S

    def on_phase(self, text: str) -> None:
        self._write(text)
        self._rate = Rate(self._clock)

    def on_scan(self, files: int, total_bytes: int) -> None:
        self._line(f"found {shown_count(files, 'file')}, {shown_size(total_bytes)}, {self._rate.of(files):,} files/s")

    def on_total(self, files: int, total_bytes: int) -> None:
        self._write(f"to read: {shown_count(files, 'file')}, {shown_size(total_bytes)}")
        self._total = f" of {shown_count(files, 'file')}, {shown_size(total_bytes)}"

    def on_advance(self, files: int, total_bytes: int) -> None:
        rate = self._rate.of(total_bytes)
        self._line(f"{shown_count(files, 'file')}, {shown_size(total_bytes)}{self._total}, {shown_size(rate)}/s")

    def _line(self, text: str) -> None:
        now_s = self._clock()
        if now_s >= self._next_line_s and text != self._last_line:  # a source that stalls says nothing new
            self._next_line_s = now_s + LINE_INTERVAL_S
            self._last_line = text
            self._write(text)


class Bar:
    """The bar of a terminal."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task("starting", total=None, counts="")
        self._rate = Rate()

    def on_phase(self, text: str) -> None:
        self._bars.update(self._task, description=text)
        self._rate = Rate()

    def on_scan(self, files: int, total_bytes: int) -> None:
        rate = self._rate.of(files)
        self._bars.update(
            self._task, counts=f"{shown_count(files, 'file')}, {shown_size(total_bytes)}, {rate:,} files/s"
        )

    def on_total(self, files: int, total_bytes: int) -> None:
        # A tree of empty files is done when its bytes are: the bar needs a total above zero to show that.
        self._bars.update(self._task, total=max(total_bytes, 1), completed=0)

    def on_advance(self, files: int, total_bytes: int) -> None:
        rate = self._rate.of(total_bytes)
        counts = f"{shown_size(total_bytes)}, {shown_count(files, 'file')}, {shown_size(rate)}/s"
        self._bars.update(self._task, completed=total_bytes, counts=counts)


class Rate:
    """Bytes per second since it was made, which is when a phase begins."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()

    def of(self, done_bytes: int) -> int:
        """The rate, now that *done_bytes* of the phase are done."""
        elapsed_s = self._clock() - self._began_s
        return int(done_bytes / elapsed_s) if elapsed_s > 0 else 0
