"""Groups of commands that are imported when they are used, and global options that work at any place of a line.

`grid --version` and `grid run` must not pay for what creating imports, so a group knows its commands by module, name
and one line of help. A command is *adopted* when it is loaded: it takes the global options too, hidden in its own
help, as far as it has no option of that spelling itself (`grid mount -o` is the kernel's, so there only `--output`
is global). What is given later on the line wins.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.parameters import FILE


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, and its line in the group's help."""

    module: str
    name: str
    """Of the click.Command in *module*."""
    help: str
    section: str = "Commands"


class LazyGroup(click.Group):
    """A click group over `Lazy` commands, with *aliases* for old spellings that its help does not show."""

    def __init__(
        self, *args: Any, lazy: Mapping[str, Lazy], aliases: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)
        self.aliases = dict(aliases or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if name not in self.commands and name in self.lazy:
            where = self.lazy[name]
            command = getattr(importlib.import_module(where.module), where.name)
            assert isinstance(command, click.Command)
            self.commands[name] = adopt(command)
        return self.commands.get(name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.lazy, 1)
            meant = f" (did you mean '{near[0]}'?)" if near else ""
            raise click.UsageError(f"no such command '{args[0]}'{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, where in self.lazy.items():
            sections.setdefault(where.section, []).append((name, where.help))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


def adopt(command: click.Command) -> click.Command:
    """Gives *command* the global options that it does not spell itself."""
    taken = {spelling for param in command.params for spelling in param.opts}
    command.params.extend(global_options(hidden=True, taken=taken))
    if command.epilog is None and not isinstance(command, LazyGroup):
        command.epilog = "Options of every command, such as --store and --output json: grid --help"
    return command


def global_options(*, hidden: bool, taken: Iterable[str] = ()) -> Sequence[click.Option]:
    """New options that put what they are given into the Invocation."""
    found = []
    for spellings, settings in _GLOBAL_OPTIONS:
        free = [spelling for spelling in spellings if spelling not in taken]
        if not free:
            continue
        parameter = spellings[-1].lstrip("-").replace("-", "_")
        found.append(
            click.Option(
                [f"global_{parameter}", *free],
                expose_value=False,
                callback=_remember,
                hidden=hidden,
                **settings,
            )
        )
    return found


_GLOBAL_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--store",),
        {"metavar": "STORE", "help": "Where datastores are: s3://bucket/prefix, a directory, or a configured name."},
    ),
    (("--cluster",), {"metavar": "NAME", "help": "A store by its name in the configuration file."}),
    (("--endpoint-url",), {"metavar": "URL", "help": "Address of an S3 server other than AWS."}),
    (("--region",), {"metavar": "REGION", "help": "Region of the bucket."}),
    (("--profile",), {"metavar": "NAME", "help": "Profile of the AWS configuration."}),
    (("--no-sign-request",), {"is_flag": True, "help": "Ask without credentials, as anyone may of a public bucket."}),
    (
        ("--config",),
        {
            "metavar": "FILE",
            "type": FILE,
            "help": "Configuration file.  [default: ~/.config/gridfs/config.toml]",
        },
    ),
    (
        ("-o", "--output"),
        {"type": click.Choice(["console", "json"]), "help": "How results are printed.  [default: console]"},
    ),
    (("-v", "--verbose", "--debug"), {"is_flag": True, "help": "Say more; show the traceback of a failure."}),
)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value == "":  # of a variable that a script forgot to set: not to be taken for the default store
        raise click.BadParameter("it is empty", ctx, param)
    if not value:
        return
    invocation = ctx.find_root().obj
    assert isinstance(invocation, Invocation)
    field = (param.name or "").removeprefix("global_")
    if field in ("output", "debug", "config"):
        setattr(invocation, {"config": "config_path"}.get(field, field), value)
    else:
        invocation.flags = replace(invocation.flags, **{field: value})
