"""The options of what mounts: `grid mount`, `grid run`, `grid session` and `mount.gridfs` share them.

@click.command()
@mount_options
def mount(invocation, ..., **given): ...  options, cache = mount_settings(invocation, given)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.parameters import DIRECTORY, DURATION, GROUP, PERMISSION_BITS, SIZE, USER
from gridfs.config import FREE_SPACE_FRACTION, READ_TIMEOUT_S, CacheSettings, MountOptions
from gridfs.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

CACHE_NAMES = ("cache_dir", "max_cache_size", "memory_target")

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--cache-dir",
        type=DIRECTORY,
        help="Cache of this node, shared by all its mounts; on a local disk.  [default: ~/.cache/gridfs]",
    ),
    click.option(
        "--max-cache-size",
        type=SIZE,
        help="Limit of the disk cache, as 200GiB; 0 turns it off.  "
        f"[default: what leaves {FREE_SPACE_FRACTION:.0%} of its disk free]",
    ),
    click.option(
        "--memory-target",
        type=SIZE,
        help="Hard limit of the data in memory; 32MiB at least.  "
        "[default: the lesser of 1GiB and a quarter of the cgroup's limit]",
    ),
    click.option(
        "--read-timeout",
        type=DURATION,
        default=READ_TIMEOUT_S,
        help=f"A read that the store does not answer fails after this.  [default: {READ_TIMEOUT_S:.0f}s]",
    ),
    click.option(
        "--prefetch",
        type=click.Choice(["auto", "none", "all"]),
        default="auto",
        show_default=True,
        help="What is fetched ahead of readers; all: the whole version into the disk cache.",
    ),
    click.option(
        "--allow-other/--no-allow-other",
        default=None,
        help="Let other users read it.  [default: as root yes, else no]",
    ),
    click.option("--uid", type=USER, help="Owner of all files.  [default: you]"),
    click.option("--gid", type=GROUP, help="Group of all files.  [default: yours]"),
    click.option("--umask", type=PERMISSION_BITS, help="Permission bits to take away.  [default: none]"),
    click.option(
        "--file-mode",
        type=PERMISSION_BITS,
        default="0444",
        show_default=True,
        help="Mode of files; 0111 is added where the owner may execute.",
    ),
    click.option("--dir-mode", type=PERMISSION_BITS, default="0555", show_default=True, help="Mode of directories."),
    click.option(
        "--image/--no-image",
        default=True,
        show_default=True,
        help="Mount the version as an EROFS image, where the kernel can (for root): as fast as a local disk. "
        "Not for no-copy versions, nor with --xattr.",
    ),
    click.option(
        "--veil/--no-veil",
        default=True,
        show_default=True,
        help="The image, or a read-only overlay where permitted, in place of the FUSE mount itself: Python's open() "
        "is 4 times faster.",
    ),
    click.option(
        "--zero-open/--no-zero-open",
        default=True,
        show_default=True,
        help="Let the kernel open files without asking the daemon, where it can.",
    ),
    click.option(
        "--xattr/--no-xattr", default=False, show_default=True, help="Answer user.gridfs.*; makes `ls -l` slower."
    ),
    click.option("-o", "extra", multiple=True, metavar="OPTION,...", help="Further mount options, as for mount(8)."),
)


def mount_options(command: F) -> F:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def mount_settings(invocation: Invocation, given: Mapping[str, Any]) -> tuple[MountOptions, CacheSettings]:
    """The settings that the values of `mount_options` mean; `-o` may also spell uid=, gid=, umask= and allow_other."""
    values = {name: value for name, value in given.items() if name not in CACHE_NAMES}
    values["read_timeout_s"] = values.pop("read_timeout")
    if not values["read_timeout_s"]:
        raise InvalidInput("--read-timeout 0: nothing could be read that has to be fetched", remedy="give it seconds")
    values["extra"] = tuple(_split(values.pop("extra")))
    values["extra"], spelled = _known_options(values["extra"])
    values |= {name: value for name, value in spelled.items() if values.get(name) is None}
    if values["allow_other"] is None:
        values["allow_other"] = MountOptions.unsaid(os.geteuid()).allow_other
    cache = invocation.cache_settings(given["cache_dir"], given["max_cache_size"], given["memory_target"])
    return MountOptions(**values), cache


def _split(texts: tuple[str, ...]) -> list[str]:
    return [option.strip() for text in texts for option in text.split(",") if option.strip()]


_SO_ANYWAY = frozenset(
    ("ro", "defaults", "nosuid", "nodev", "default_permissions", "_netdev", "nofail", "auto", "noauto", "user", "users")
)
"""What fstab and mount(8) say, and what is so without saying or concerns only them."""


def _known_options(options: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The options that are for the kernel, and the values of those that are ours."""
    parsers = {"uid": USER, "gid": GROUP, "umask": PERMISSION_BITS}
    spelled: dict[str, Any] = {}
    rest = []
    for option in options:
        name, _, value = option.partition("=")
        if name in parsers:
            spelled[name] = parsers[name].convert(value, None, None)
        elif option == "allow_other":
            spelled["allow_other"] = True
        elif option == "rw":
            raise InvalidInput("-o rw: a version never changes", remedy="leave it out")
        elif name == "fsname":
            raise InvalidInput("-o fsname: mounts are found by their name, gridfs:NAME@VERSION", remedy="leave it out")
        elif option not in _SO_ANYWAY and not option.startswith("x-"):
            rest.append(option)
    return tuple(rest), spelled
