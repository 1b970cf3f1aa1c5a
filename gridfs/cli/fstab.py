"""`mount.gridfs`: what mount(8) runs for `mount -t gridfs NAME[@VERSION] DIR` and for lines of /etc/fstab.

    imagenet@2  /datastores/imagenet  gridfs  _netdev,nofail,ro,allow_other,store=s3://bucket/prefix  0  0

It becomes `grid mount NAME DIR` with the options translated: `store=...`, `cache_dir=...` and every other option of
`grid mount` may stand in the option field, with its dashes as underscores (dashes work as well). What mount(8), systemd
and FUSE themselves understand is passed on or is so without saying.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from gridfs.cli.app import grid, run
from gridfs.cli.failures import end_with
from gridfs.cli.invocation import Invocation
from gridfs.errors import GridfsError, InvalidInput

USAGE = "mount.gridfs NAME[@VERSION] DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,...]"

_FLAGS = frozenset("sfnv")
_WITH_VALUE = frozenset("oNt")
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")


def main() -> None:
    """Entry point of mount.gridfs, as mount(8) describes external helpers."""
    sys.exit(mount(sys.argv[1:]))


def mount(arguments: Sequence[str]) -> int:
    """Mounts by the arguments of a mount helper; returns the exit code."""
    try:
        translated = translate(arguments)
    except GridfsError as error:
        return end_with(error, Invocation())
    return 0 if translated is None else run(translated)


def translate(arguments: Sequence[str]) -> list[str] | None:
    """The arguments of `grid` that mean the same; None for a dry run (-f). Raises InvalidInput."""
    places: list[str] = []
    fields: list[str] = []
    fake = verbose = False
    remaining = iter(arguments)
    for word in remaining:
        if not (word.startswith("-") and len(word) > 1):
            places.append(word)
            continue
        letters = word[1:]
        if letters[0] in _WITH_VALUE:
            value = letters[1:] or next(remaining, "")
            if letters[0] == "o":
                fields.append(value)
        elif set(letters) <= _FLAGS:
            fake, verbose = fake or "f" in letters, verbose or "v" in letters
        else:
            raise InvalidInput(f"mount.gridfs does not know {word}", remedy=f"usage: {USAGE}")
    if len(places) != 2:
        raise InvalidInput("a datastore and a directory are needed", remedy=f"usage: {USAGE}")
    if fake:
        return None
    return [*(["--verbose"] if verbose else []), "mount", *places, *_options(",".join(fields).split(","))]


def _options(options: Iterable[str]) -> list[str]:
    spellings = _spellings()
    translated: list[str] = []
    for option in options:
        if option in ("", "rw"):  # mount(8) says rw where nobody said ro
            continue
        name, equals, value = option.partition("=")
        spelling = spellings.get("--" + name.replace("_", "-"))
        if spelling is None or name in ("uid", "gid", "umask", "allow_other"):  # those are mount options of their own
            translated += ["-o", option]
        elif spelling.is_flag:
            if equals and value.lower() not in (*_ON, *_OFF):
                raise InvalidInput(f"-o {option}: '{value}' is neither yes nor no", remedy=f"write {name}=yes")
            on = not equals or value.lower() in _ON
            translated += spelling.opts[:1] if on else spelling.secondary_opts[:1]  # --foreground has no opposite
        else:
            translated += [spelling.opts[0], value]
    return translated


def _spellings() -> dict[str, click.Option]:
    """The long options of `grid mount`, its global ones included."""
    command = grid.get_command(click.Context(grid), "mount")
    assert command is not None
    return {
        spelling: parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for spelling in parameter.opts
        if spelling.startswith("--")
    }
