"""`grid run` and `grid session`: a command, or a shell, that sees datastores at its paths.

Imports little, because hundreds of them start together: trio and the store's clients are imported only in the forked
child that starts a daemon (run_daemons), and the process that becomes the command never has a second thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.mount_options import mount_options, mount_settings
from gridfs.cli.output import say
from gridfs.cli.parameters import DURATION
from gridfs.cli.run_daemons import served
from gridfs.cli.run_request import Given, Option, RequestedDatastore, assign
from gridfs.errors import InvalidInput
from gridfs.mount.mountpoint import DATASTORES
from gridfs.mount.runs import replace_process
from gridfs.mount.view import Placement, checked_path

F = TypeVar("F", bound=Callable[..., Any])

LINGER_S = 600.0
"""How long a daemon of runs outlives its last user: longer than a scheduler takes between the jobs of an array."""


class OrderedCommand(click.Command):
    """Keeps the order in which the datastore options stood, which click forgets: a directory belongs to a name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(_in_order(args))
        return super().parse_args(ctx, args)


def _in_order(args: Sequence[str]) -> Iterable[Given]:
    remaining = iter(args)
    for word in remaining:
        if word == "--":
            return
        spelling, equals, value = word.partition("=")
        option = next((o for o in Option if o.value == spelling.replace("-", "_").replace("__", "--", 1)), None)
        if option is not None:
            value = value if equals else next(remaining, "")
            yield Given(option, value)


def datastore_options(command: F) -> F:
    """The options that `run` and `session` share."""
    for option in reversed(
        [
            click.option(
                "--datastore_name",
                "--datastore-name",
                "names",
                multiple=True,
                metavar="NAME[@VERSION][:DIR]",
                help="A datastore to mount; may be repeated.",
            ),
            click.option(
                "--datastore_version",
                "--datastore-version",
                "versions",
                multiple=True,
                metavar="VERSION",
                help="Its version.  [default: the highest]",
            ),
            click.option(
                "--datastore_mount_dir",
                "--datastore-mount-dir",
                "mount_dirs",
                multiple=True,
                metavar="DIR",
                help="Where it appears (absolute).  [default: /datastores/NAME]",
            ),
            click.option(
                "--config",
                "config",
                type=click.Path(path_type=Path),
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
    _replace(context, given, (invocation.environment.shell,), home=Path.home())


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
    paths = [checked_path(str(r.spec), r.mount_dir or f"{DATASTORES}/{r.spec.name}") for r in requests]
    placements = []
    for request, path, daemon in zip(
        requests, paths, served(invocation, [r.spec for r in requests], options, cache, linger_s), strict=True
    ):
        if request.spec.version is None:
            say(f"{request.spec.name}: version {daemon.version}, the highest, at {path}")
        placements.append(Placement(daemon.label, path, PurePosixPath(daemon.fuse_path)))
        if home is not None:
            in_home = PurePosixPath(home) / "datastores" / daemon.name
            if in_home not in paths:
                placements.append(Placement(daemon.label, in_home, PurePosixPath(daemon.fuse_path)))
    replace_process(placements, command, invocation.paths.runtime, veil=options.veil)


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
