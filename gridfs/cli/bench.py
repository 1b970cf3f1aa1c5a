"""`grid bench`: open()-to-bytes latency and throughput of a mount, or of any directory to compare it with."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.output import Column, print_json, print_table, say, shown_count, shown_size
from gridfs.cli.parameters import FILE, Number, Seconds
from gridfs.errors import AccessDenied, InvalidInput, NotFound, SourceProblem
from gridfs.light import expanded

if TYPE_CHECKING:
    from gridfs.bench.run import Measurement

DATASTORES = Path("/datastores")


@click.command("bench")
@click.argument("directory", metavar="[MOUNT|DIR]", default=".")
@click.option("--files", type=Number(least=1), default=1000, show_default=True, help="Read at most this many files.")
@click.option(
    "--seconds", type=Seconds(least=0.05), default=3.0, show_default=True, help="Longest time of each of the passes."
)
@click.option("--seed", type=Number(), default=1, show_default=True, help="Another number is another shuffled order.")
@click.option("--plot", "plot_file", type=FILE, metavar="FILE.svg", help="Also draw it.")
@click.pass_obj
def bench(
    invocation: Invocation, directory: str, files: int, seconds: float, seed: int, plot_file: Path | None
) -> None:
    """Measures how long open() to bytes takes in a mount or any directory (default: this one).

    Cold and warm, p50 to p99.9; whole files by 1, 4 and 8 processes in tree order and shuffled; the largest file from
    start to end. Only system calls are timed, so a local folder can be measured for comparison. As root the page cache
    of the whole machine is dropped before each cold pass.

    \b
    Examples:
      grid bench /datastores/imagenet
      grid bench imagenet                         the same
      grid bench ./imagenet_folder --plot local.svg
    """
    from gridfs.bench.plot import plot
    from gridfs.bench.run import Limits, measure

    where = _directory(expanded(directory))
    if plot_file is not None and not os.access(plot_file.parent, os.W_OK):
        raise InvalidInput(f"--plot {plot_file}: {plot_file.parent} can't be written to")
    steps = sys.stderr.isatty() and not invocation.json
    try:
        result = measure(where, Limits(files, seconds, seed), _show_step if steps else lambda text: None)
    except ValueError as error:
        raise InvalidInput(
            f"'{directory}' can't be measured: {error}", remedy="name the directory that holds the files"
        ) from error
    except OSError as error:
        named = f"'{directory}' can't be measured: {error.strerror}"
        if error.filename is not None:
            named += f": {os.fsdecode(error.filename)}"
        raise (AccessDenied if isinstance(error, PermissionError) else SourceProblem)(named) from error
    finally:
        if steps:
            click.echo("\r\x1b[K", nl=False, err=True)
    if invocation.json:
        print_json(as_json(result))
    else:
        print_measurement(result)
    if plot_file is not None:
        try:
            plot_file.write_text(plot(result), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"--plot {plot_file} can't be written: {error.strerror}") from error


def _directory(given: str) -> str:
    """The directory that *given* names, or the mount at the default place of a datastore of that name."""
    if os.path.isdir(given):
        return os.path.abspath(given)
    mounted = DATASTORES / given
    if "/" not in given and mounted.is_dir():
        return str(mounted)
    if os.path.exists(given):
        raise InvalidInput(f"'{given}' is no directory", remedy="name the directory that holds the files")
    raise NotFound(f"there is no directory '{given}'", remedy="`grid status` lists what is mounted where")


def _show_step(text: str) -> None:
    click.echo(f"\r\x1b[K{text} ...", nl=False, err=True)


def as_json(result: Measurement) -> dict[str, Any]:
    """*result* without the single values behind the quantiles."""
    return {
        "directory": result.directory,
        "filesystem": result.filesystem,
        "cold": result.cold.value,
        "file_count": result.file_count,
        "file_bytes": result.file_bytes,
        "largest_bytes": result.largest_bytes,
        "latencies": [
            {name: value for name, value in asdict(one).items() if name != "ordered_us"} for one in result.latencies
        ],
        "rates": [asdict(one) | {"files_per_s": one.files_per_s, "gb_per_s": one.gb_per_s} for one in result.rates],
    }


def print_measurement(result: Measurement) -> None:
    """Two tables, and what they mean."""
    from gridfs.bench.measure import DAEMON_NOTE

    mean = result.file_bytes // max(1, result.file_count)
    click.echo(
        f"{result.directory} ({result.filesystem}): {shown_count(result.file_count, 'file')} of {shown_size(mean)} "
        f"on average, the largest found {shown_size(result.largest_bytes)}\n"
    )
    if result.latencies:
        print_table(
            [
                Column("latency"),
                Column("state"),
                *(Column(title, right=True) for title in ("count", "p50", "p90", "p99", "p99.9")),
            ],
            [
                [one.access, one.state, f"{one.count:,}"]
                + [shown_latency(value) for value in (one.p50_us, one.p90_us, one.p99_us, one.p999_us)]
                for one in result.latencies
            ],
        )
        click.echo("")
    print_table(
        [
            Column("throughput"),
            Column("state"),
            *(Column(title, right=True) for title in ("readers", "files", "files/s", "GB/s")),
        ],
        [
            [
                one.access,
                one.state,
                str(one.readers),
                f"{one.files:,}",
                "" if one.access == "sequential" else f"{one.files_per_s:,.0f}",
                f"{one.gb_per_s:.2f}",
            ]
            for one in result.rates
        ],
    )
    click.echo("", err=True)
    say(f"{result.cold.value}.")
    say(DAEMON_NOTE)


def shown_latency(microseconds: float) -> str:
    """`8.4 us`, `312 us`, `15.2 ms`, `1.20 s`."""
    if microseconds < 1000:
        return f"{microseconds:.1f} us" if microseconds < 100 else f"{microseconds:.0f} us"
    if microseconds < 1e6:
        return f"{microseconds / 1e3:.2f} ms" if microseconds < 1e4 else f"{microseconds / 1e3:.1f} ms"
    return f"{microseconds / 1e6:.2f} s"
