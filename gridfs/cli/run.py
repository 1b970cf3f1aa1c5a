"""`grid run` and `grid session`: a command, or a shell, that sees datastores at its paths.

Imports little, because hundreds of them start together: trio and the store's clients are imported only in the forked
child that starts a daemon (mount/attach), and the process that becomes the command never has a second thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.mount_options import mount_options
from gridfs.cli.parameters import Duration
from gridfs.cli.run_config import read_run_config
from gridfs.cli.run_request import Given, Option, RequestedDatastore, assign
from gridfs.errors import InvalidInput

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
                type=Duration(),
                default=LINGER_S,
                show_default="10m",
                help="How long the daemon stays after the last run let go of it.",
            ),
            mount_options,
        ]
    ):
        command = option(command)
    return command
