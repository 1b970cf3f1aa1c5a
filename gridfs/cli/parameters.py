"""What people write on the command line, made into the types that the rest works with."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path
from typing import Any

import click

from gridfs.config import parse_size
from gridfs.errors import InvalidInput
from gridfs.light import expanded
from gridfs.model import VersionSpec
from gridfs.names import parse_spec

_DURATION_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE | re.ASCII)


_HIGHEST_ID = 0xFFFFFFFE
"""The one above it means none to the kernel."""


class Size(click.ParamType[int]):
    """`200GiB`, `64M`, `4096`: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """`20`, `20s`, `10m`, `2h`, `500ms`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        match = _DURATION_PATTERN.fullmatch(value.strip())
        if match is None:
            self.fail(f"'{value}' is no duration; write it as 20s, 10m or a number of seconds", param, ctx)
        return float(match.group(1)) * _DURATION_UNITS_S[(match.group(2) or "").lower()]


class Number(click.ParamType[int]):
    """A whole number that is not less than *least*."""

    name = "number"

    def __init__(self, least: int | None = None) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        allowed = "a whole number" if self.least is None else f"a whole number from {self.least}"
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or (self.least is not None and int(text) < self.least):
            self.fail(f"'{value}' is not {allowed}", param, ctx)
        return int(text)


class Seconds(click.ParamType[float]):
    """Seconds, with a fraction perhaps, and not less than *least*."""

    name = "seconds"

    def __init__(self, least: float) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = float("nan")
        if not self.least <= seconds < float("inf"):
            self.fail(f"'{value}' is not a number of seconds from {self.least}", param, ctx)
        return seconds


class PermissionBits(click.ParamType[int]):
    """`0444`, `644`, `0o755`: octal, as chmod takes them."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
            self.fail(f"'{value}' is no octal mode; write it as 0444", param, ctx)
        return int(value.removeprefix("0o"), 8)


class LocalPath(click.Path):
    """A path, there already or not. A `~` that the shell has left (`--option=~/x`) is the home."""

    def __init__(self, *, is_file: bool) -> None:
        super().__init__(file_okay=is_file, dir_okay=not is_file, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):  # as of a variable that is not set; it would be the current directory
            self.fail("it is empty", param, ctx)
        return super().convert(expanded(os.fspath(value)), param, ctx)


class Account(click.ParamType[int]):
    """A user or a group by name or number."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= _HIGHEST_ID:
            return int(value)
        try:
            return pwd.getpwnam(value).pw_uid if self.name == "user" else grp.getgrnam(value).gr_gid
        except KeyError:
            self.fail(f"there is no {self.name} '{value}' on this machine", param, ctx)


class Spec(click.ParamType[VersionSpec]):
    """`NAME` or `NAME@VERSION`."""

    name = "name[@version]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> VersionSpec:
        return value if isinstance(value, VersionSpec) else parse_spec(value)


DIRECTORY = LocalPath(is_file=False)
FILE = LocalPath(is_file=True)
SIZE = Size()
DURATION = Duration()
PERMISSION_BITS = PermissionBits()
USER = Account("user")
GROUP = Account("group")
SPEC = Spec()
