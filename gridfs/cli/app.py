"""The tree of commands, and one run of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from gridfs import __version__
from gridfs.cli.failures import end_with
from gridfs.cli.groups import Lazy, LazyGroup, global_options
from gridfs.cli.invocation import Invocation
from gridfs.mount.quick import StartLock

HELP = """Versioned datasets, mounted read-only, as fast as a local disk.

\b
  grid datastore create ./images --name imagenet   make a version of a folder,
                                                   an s3:// bucket or an archive
  grid datastore                                   list what there is
  grid mount imagenet                              read it at /datastores/imagenet
  grid run --datastore_name imagenet -- CMD        ... only for one command
  grid unmount imagenet                            and take it away again

Each `create` makes the next version (1, 2, 3, ...) of that name; a version never changes. NAME@VERSION names one,
NAME alone the highest.
"""

COMMANDS = {
    "datastore": Lazy("gridfs.cli.datastore", "datastore", "List, create, inspect and delete datastores."),
    "mount": Lazy("gridfs.cli.mount", "mount", "Mount a datastore as a read-only directory."),
    "unmount": Lazy("gridfs.cli.mount", "unmount", "Take a mount away."),
    "status": Lazy("gridfs.cli.status", "status", "What is mounted on this node, how it does, and what went wrong."),
    "run": Lazy("gridfs.cli.run", "run", "Run a command that sees datastores at its paths."),
    "session": Lazy("gridfs.cli.run", "session", "The same around an interactive shell."),
    "warm": Lazy("gridfs.cli.warm", "warm", "Fetch a version into this node's cache."),
    "bench": Lazy("gridfs.cli.bench", "bench", "Measure open()-to-bytes latency of a mount or a directory."),
}


@click.group(
    "grid",
    cls=LazyGroup,
    lazy=COMMANDS,
    aliases={"datastores": "datastore", "umount": "unmount"},
    help=HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="grid", message="%(prog)s %(version)s")
@click.pass_context
def grid(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


grid.params.extend(global_options(hidden=False))


def run(arguments: Sequence[str], start_lock: StartLock | None = None) -> int:
    """Runs `grid` with *arguments* and returns its exit code; never raises."""
    invocation = Invocation()
    invocation.start_lock = start_lock
    try:
        if invocation.environment.completion:
            complete(invocation.environment.completion)
        # Not grid.main(): it would turn a closed pipe into a plain exit with 1.
        with grid.make_context("grid", list(arguments), obj=invocation) as context:
            grid.invoke(context)
        sys.stdout.flush()
    except BaseException as error:
        return end_with(error, invocation)
    return 0


def complete(instruction: str) -> None:
    """Answers a shell that asks for completions, or for the script that asks (docs/commands.md)."""
    from click.shell_completion import shell_complete

    raise SystemExit(shell_complete(grid, {}, "grid", "_GRID_COMPLETE", instruction))
