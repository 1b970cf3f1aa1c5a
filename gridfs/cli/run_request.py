"""What `grid run` and `grid session` were asked to mount, from options and spellings old and new.

A datastore may be written `NAME`, `NAME@VERSION`, `NAME:/path` or `NAME@VERSION:/path`. Versions and mount directories
given as options belong to the name before them, as in

    --datastore_name a --datastore_version 2 --datastore_name b --datastore_mount_dir /y

and where each name has one of them, they may also follow in the same order:

    --datastore_name a --datastore_name b --datastore_mount_dir /x --datastore_mount_dir /y

Light: see gridfs/light.py.
"""

from __future__ import annotations

from gridfs.errors import InvalidInput
from gridfs.light import LightRecord, expanded
from gridfs.mount.view import DATASTORES, checked_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gridfs.model import VersionSpec

NAME, VERSION, MOUNT_DIR = "--datastore_name", "--datastore_version", "--datastore_mount_dir"


def spellings(option: str) -> tuple[str, str]:
    """An option as it was always written, and with dashes."""
    return option, "--" + option[2:].replace("_", "-")


_NORMAL, _NORMAL_LENGTH = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-"), 128
"""As in names.py."""

OPTIONS = {spelling: option for option in (NAME, VERSION, MOUNT_DIR) for spelling in spellings(option)}
"""Every spelling of the options that say what is mounted, and which of the three it is."""


class Given(LightRecord):
    """One option as it stood on the command line."""

    __slots__ = ("option", "value")

    def __init__(self, option: str, value: str) -> None:
        self.option = option
        self.value = value


class RequestedDatastore(LightRecord):
    """One datastore to mount; no mount directory means /datastores/NAME."""

    __slots__ = ("mount_dir", "name", "version")

    def __init__(self, name: str, version: int | None = None, mount_dir: str | None = None) -> None:
        self.name = name
        self.version = version
        self.mount_dir = mount_dir

    @property
    def label(self) -> str:
        """`NAME` or `NAME@VERSION`."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @property
    def spec(self) -> VersionSpec:
        from gridfs.model import VersionSpec

        return VersionSpec(self.name, self.version)


def in_order(words: Sequence[str]) -> Iterator[Given]:
    """The options that say what is mounted, in their order, which click forgets."""
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            return
        spelling, equals, value = word.partition("=")
        if spelling in OPTIONS:
            yield Given(OPTIONS[spelling], value if equals else next(remaining, ""))


def requested(name: str, version: str | None = None, mount_dir: str | None = None) -> RequestedDatastore:
    """Parses one datastore from its texts. Raises InvalidInput for contradictions and impossible versions."""
    if "://" in name:
        raise InvalidInput(
            f"'{name}' is an address, and not the name of a datastore",
            remedy="`grid datastore` lists the names; a store is chosen with --store",
        )
    name, colon, path = name.partition(":")
    if colon and path.isdigit() and "@" not in name:
        raise InvalidInput(
            f"'{name}:{path}' names no version: its number comes after '@'", remedy=f"for example {name}@{path}"
        )
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
    if not _is_normal(name):
        from gridfs.names import normalise_name

        name = normalise_name(name)
    return RequestedDatastore(name, int(version) if version is not None else None, mount_dir)


def _is_normal(name: str) -> bool:
    """Whether `normalise_name`, which is not light, would change nothing."""
    return _NORMAL.issuperset(name) and name[0] not in "._-" and len(name) <= _NORMAL_LENGTH


def assign(given: Sequence[Given]) -> list[RequestedDatastore]:
    """Gives each name its version and mount directory. Raises InvalidInput where that can't be told."""
    names = [each.value for each in given if each.option == NAME]
    versions, mount_dirs = (_values_by_name(option, given, len(names)) for option in (VERSION, MOUNT_DIR))
    return [requested(name, versions.get(i), mount_dirs.get(i)) for i, name in enumerate(names)]


def mount_path(request: RequestedDatastore) -> str:
    """Where *request* shall be seen. Raises InvalidInput for a path that can't be."""
    return checked_path(request.label, expanded(request.mount_dir or f"{DATASTORES}/{request.name}"))


def highest_taken(name: str, version: int, path: str) -> str:
    """What is said where no version was given."""
    return f"{name}: version {version}, the highest, at {path}"


def _values_by_name(option: str, given: Sequence[Given], name_count: int) -> dict[int, str]:
    values = [each.value for each in given if each.option == option]
    if len(values) == name_count:
        return dict(enumerate(values))
    belongs: dict[int, str] = {}
    name = -1
    for each in given:
        if each.option == NAME:
            name += 1
        elif each.option == option:
            if name in belongs or name < 0:
                raise InvalidInput(
                    f"{option} {each.value} belongs to no {NAME}",
                    remedy="write it after the name that it is for, once for each",
                )
            belongs[name] = each.value
    return belongs
