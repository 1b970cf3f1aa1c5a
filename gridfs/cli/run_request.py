"""What `grid run` and `grid session` were asked to mount, from options and spellings old and new.

A datastore may be written `NAME`, `NAME@VERSION`, `NAME:/path` or `NAME@VERSION:/path`. Versions and mount directories
given as options belong to the name before them, as in

    --datastore_name a --datastore_version 2 --datastore_name b --datastore_mount_dir /y

and where each name has one of them, they may also follow in the same order:

    --datastore_name a --datastore_name b --datastore_mount_dir /x --datastore_mount_dir /y
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gridfs.errors import InvalidInput
from gridfs.model import VersionSpec


class Option(Enum):
    """The three options, in their old spelling; dashes work as well."""

    NAME = "--datastore_name"
    VERSION = "--datastore_version"
    MOUNT_DIR = "--datastore_mount_dir"


class Given(NamedTuple):
    """One option as it stood on the command line."""

    option: Option
    value: str


@dataclass(frozen=True, slots=True)
class RequestedDatastore:
    """One datastore to mount; no mount directory means /datastores/NAME."""

    spec: VersionSpec
    mount_dir: str | None = None


def requested(name: str, version: str | None = None, mount_dir: str | None = None) -> RequestedDatastore:
    """Parses one datastore from its texts. Raises InvalidInput for contradictions and impossible versions."""
    name, colon, path = name.partition(":")
    if colon:
        if mount_dir is not None and mount_dir != path:
            raise InvalidInput(f"{name} has two mount directories: {path} and {mount_dir}", remedy="give one of them")
        mount_dir = path
    name, at, inline = name.partition("@")
    if at:
        if version is not None and version != inline:
            raise InvalidInput(f"{name} has two versions: {inline} and {version}", remedy="give one of them")
        version = inline
    if not name:
        raise InvalidInput("a datastore without a name", remedy="give --datastore_name; `grid datastore` lists them")
    if version is not None and not (version.isascii() and version.isdigit() and int(version) > 0):
        raise InvalidInput(
            f"'{version}' is no version of {name}",
            remedy=f"versions are numbers from 1: grid datastore versions {name}",
        )
    return RequestedDatastore(VersionSpec(name, int(version) if version is not None else None), mount_dir)


def assign(given: Sequence[Given]) -> list[RequestedDatastore]:
    """Gives each name its version and mount directory. Raises InvalidInput where that can't be told."""
    names = [value for option, value in given if option is Option.NAME]
    by_option = {option: _values_by_name(option, given, len(names)) for option in (Option.VERSION, Option.MOUNT_DIR)}
    return [
        requested(name, by_option[Option.VERSION].get(i), by_option[Option.MOUNT_DIR].get(i))
        for i, name in enumerate(names)
    ]


def _values_by_name(option: Option, given: Sequence[Given], name_count: int) -> dict[int, str]:
    values = [value for which, value in given if which is option]
    if len(values) == name_count:
        return dict(enumerate(values))
    belongs: dict[int, str] = {}
    name = -1
    for which, value in given:
        if which is Option.NAME:
            name += 1
        elif which is option:
            if name in belongs or name < 0:
                raise InvalidInput(
                    f"{option.value} {value} belongs to no {Option.NAME.value}",
                    remedy="write it after the name that it is for, once for each",
                )
            belongs[name] = value
    return belongs
