"""`grid mount` and `grid unmount`: the version is looked up here, everything else is mount/client's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gridfs.cli.invocation import LOOK_UP_PATIENCE_S, Invocation
from gridfs.cli.mount_options import mount_options, mount_settings
from gridfs.cli.output import print_json, say
from gridfs.cli.parameters import SPEC
from gridfs.errors import InvalidInput
from gridfs.light import expanded
from gridfs.model import Version, VersionSpec


@click.command("mount")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.argument("directory", metavar="[DIR]", required=False)
@mount_options
@click.option("--foreground", is_flag=True, help="Stay, for supervisors such as systemd.")
@click.pass_obj
def mount(invocation: Invocation, /, spec: VersionSpec, directory: str | None, foreground: bool, **given: Any) -> None:
    """Mounts a datastore read-only at DIR, or at /datastores/NAME, and returns when it is ready to be read.

    \b
    Examples:
      grid mount imagenet
      grid mount imagenet@1 /data
      grid mount imagenet --cache-dir /local/cache --max-cache-size 200GiB
    """
    from gridfs.mount.client import MountRequest
    from gridfs.mount.client import mount as mount_version
    from gridfs.mount.handed_in import descriptor_of
    from gridfs.mount.requirements import check_machine

    if directory == "":
        raise InvalidInput("the directory to mount at is empty", remedy=f"leave it out for /datastores/{spec.name}")
    path = Path(expanded(directory)) if directory is not None else None
    options, cache = mount_settings(invocation, given)
    if descriptor_of(path) is None:
        check_machine()
    version = resolve(invocation, spec)
    request = MountRequest(invocation.store_settings, version, cache, options, path, foreground)
    shown = mount_version(request, invocation.paths)
    if invocation.json:
        print_json({"name": version.name, "version": version.version, "path": str(shown)})
    else:
        click.echo(f"{version.name}@{version.version} is mounted at {shown}")


@click.command("unmount")
@click.argument("what", metavar="NAME[@VERSION]|DIR")
@click.option("--lazy", is_flag=True, help="Take it out of the tree now; whoever uses it may go on with it.")
@click.pass_obj
def unmount(invocation: Invocation, what: str, lazy: bool) -> None:
    """Takes mounts away: the one at DIR, or all of a datastore. If processes use it they are named, and it stays.

    \b
    Examples:
      grid unmount imagenet
      grid unmount /data
      grid unmount --lazy imagenet@1
    """
    from gridfs.mount.client import unmount as unmount_what

    paths = [str(path) for path in unmount_what(expanded(what), invocation.paths, lazy=lazy)]
    if invocation.json:
        print_json({"unmounted": paths})
        return
    for path in paths:
        say(f"Unmounted {path}")


def resolve(invocation: Invocation, spec: VersionSpec) -> Version:
    """The commit record that *spec* means, from the selected store."""

    async def look() -> Version:
        async with invocation.open_catalog(patience_s=LOOK_UP_PATIENCE_S) as catalog:
            return await catalog.resolve(spec)

    return invocation.run(look)
