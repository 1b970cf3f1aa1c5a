"""`grid run` and `grid session`: a command, or a shell, that sees datastores at its paths.

What most runs ask for, quick_run does without coming here. trio and the store's clients are imported only in the forked
child that starts a daemon (run_daemons): the process that becomes the command never has a second thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.mount_options import mount_options, mount_settings
from gridfs.cli.output import say
from gridfs.cli.parameters import DURATION, FILE
from gridfs.cli.run_daemons import served
from gridfs.cli.run_request import (
    MOUNT_DIR,
    NAME,
    VERSION,
    RequestedDatastore,
    assign,
    highest_taken,
    in_order,
    mount_path,
    spellings,
)
from gridfs.config import MountOptions
from gridfs.errors import InvalidInput
from gridfs.light import home_directory
from gridfs.mount.runs import replace_process
from gridfs.mount.spec import MountRecord
from gridfs.mount.view import Placement

F = TypeVar("F", bound=Callable[..., Any])

LINGER_S = 600.0
"""How long a daemon of runs outlives its last user: longer than a scheduler takes between the jobs of an array."""


class OrderedCommand(click.Command):
    """Keeps the order in which the datastore options stood, which click forgets: a directory belongs to a name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(in_order(args))
        return super().parse_args(ctx, args)


def datastore_options(command: F) -> F:
    """The options that `run` and `session` share."""
    for option in reversed(
        [
            click.option(
                *spellings(NAME),
                "names",
                multiple=True,
                metavar="NAME[@VERSION][:DIR]",
                help="A datastore to mount; may be repeated.",
            ),
            click.option(
                *spellings(VERSION),
                "versions",
                multiple=True,
                metavar="VERSION",
                help="Its version.  [default: the highest]",
            ),
            click.option(
                *spellings(MOUNT_DIR),
                "mount_dirs",
                multiple=True,
                metavar="DIR",
                help="Where it appears (absolute).  [default: /datastores/NAME]",
            ),
            click.option(
                "--config",
                "config",
                type=FILE,
                metavar="FILE",
                help="Grid's YAML with compute.train.datastore_name, _version and _mount_dir.",
            ),
            click.option(
                "--linger",
                "linger_s",
                type=DURATION,
                default=LINGER_S,
                help="How long the daemon stays after the last run let go of it.  [default: 10m]",
            ),
            mount_options,
        ]
    ):
        command = option(command)
    return command


_SETTINGS = {"allow_interspersed_args": False}


@click.command("run", cls=OrderedCommand, context_settings=_SETTINGS)
@datastore_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]...")
@click.pass_context
def run(context: click.Context, /, command: tuple[str, ...], **given: Any) -> None:
    """Runs COMMAND with datastores mounted for it, where nobody else sees them; nothing is left when it ends.

    The command takes the place of this process: a scheduler sees the job itself, its signals, terminal and exit
    status. A version or a directory belongs to the name before it. Without a version the highest is taken, and said.

    \b
    Examples:
      grid run --datastore_name imagenet -- python train.py
      grid run --datastore_name imagenet@2:/opt/data -- ./train.sh
      grid run --datastore_name a --datastore_name b \\
               --datastore_mount_dir /x --datastore_mount_dir /y -- ls /x /y
      grid run --config run.yml -- python train.py
      srun -N 4 grid run --datastore_name imagenet -- python train.py
    """
    if not command:
        raise InvalidInput(
            "no command to run was given", remedy="write it after --, or take `grid session` for a shell"
        )
    _replace(context, given, command)


@click.command("session", cls=OrderedCommand, context_settings=_SETTINGS)
@datastore_options
@click.pass_context
def session(context: click.Context, /, **given: Any) -> None:
    """Starts your shell with datastores mounted for it, at /datastores/NAME and at ~/datastores/NAME too.

    \b
    Examples:
      grid session --datastore_name imagenet
      grid session --datastore_name imagenet --datastore_version 2 --datastore_mount_dir /data
    """
    invocation: Invocation = context.find_root().obj
    _replace(context, given, (invocation.environment.shell,), home=Path(home_directory()))


def _replace(
    context: click.Context, given: dict[str, Any], command: Sequence[str], home: Path | None = None
) -> NoReturn:
    """Finds or starts the daemons, and becomes the command."""
    invocation: Invocation = context.find_root().obj
    requests = _requests(context, given.pop("config"))
    linger_s = given.pop("linger_s")
    for handled in "names", "versions", "mount_dirs":
        del given[handled]
    options, cache = mount_settings(invocation, given)
    paths = [mount_path(request) for request in requests]
    placements = []
    for request, path, daemon in zip(
        requests, paths, served(invocation, [r.spec for r in requests], options, cache, linger_s), strict=True
    ):
        if request.version is None:
            say(highest_taken(request.name, daemon.version, path))
        placements.append(_placement(daemon, path, options))
        if home is not None:
            in_home = f"{home}/datastores/{daemon.name}"
            if in_home not in paths:
                placements.append(_placement(daemon, in_home, options))
    replace_process(placements, command, str(invocation.paths.runtime), veil=options.veil)


def _placement(daemon: MountRecord, path: str, options: MountOptions) -> Placement:
    if not options.veil:
        return Placement(daemon.label, path, str(daemon.fuse_path))
    return Placement(daemon.label, path, str(daemon.shown_path), daemon.is_image)


def _requests(context: click.Context, config: Path | None) -> list[RequestedDatastore]:
    """What the options ask for, else what the configuration file does. Raises InvalidInput when that is nothing."""
    found = assign(context.meta[__name__])
    if not found and config is not None:
        from gridfs.cli.run_config import read_run_config

        in_file = read_run_config(config)
        found = [in_file] if in_file is not None else []
    if not found:
        raise InvalidInput(
            "no datastore was given",
            remedy="give --datastore_name NAME (`grid datastore` lists them), or --config FILE",
        )
    return found
