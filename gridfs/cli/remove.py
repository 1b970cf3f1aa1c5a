"""`grid datastore delete` and `gc`: a version is deleted at once, its data goes when nobody can need it any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gridfs.cli.invocation import Invocation
from gridfs.cli.output import Column, print_json, print_table, raise_all, say, shown_count, shown_size
from gridfs.cli.parameters import DURATION, SPEC, Number
from gridfs.errors import Busy, GridfsError, Interrupted, InvalidInput, StoreFull
from gridfs.model import Version, VersionSpec

if TYPE_CHECKING:
    from gridfs.life.collect import Collection, Tally


@click.command("delete")
@click.argument("spec", metavar="[NAME@VERSION]", type=SPEC, required=False)
@click.option("--name", metavar="NAME", help="Name of the datastore.")
@click.option("--version", "number", type=Number(least=1), metavar="VERSION", help="Which version of it.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def delete(invocation: Invocation, spec: VersionSpec | None, name: str | None, number: int | None, yes: bool) -> None:
    """Deletes one version; the others stay as they are, and its number is never used again.

    Asks on a terminal. Refused while the version is mounted on this node, by name of the mount or the run: by you,
    or, where root deletes, by anyone. Other users' mounts and other nodes' are not seen; for them the data stays until
    `grid datastore gc` removes it, two weeks later at the earliest.

    \b
    Examples:
      grid datastore delete --name imagenet --version 1
      grid datastore delete imagenet@1 --yes
    """
    wanted = _one_version(spec, name, number)

    async def look() -> Version:
        async with invocation.open_catalog() as catalog:
            return await catalog.resolve(wanted)

    version = invocation.run(look)
    label = f"{version.name}@{version.version}"
    _refuse_if_in_use(invocation, version)
    if not yes:
        _ask(f"Delete {label} ({shown_count(version.file_count, 'file')}, {shown_size(version.total_bytes)})?")

    async def act() -> Version:
        with _told_how_little():
            async with invocation.open_catalog() as catalog:
                return await catalog.delete(version)

    tombstone = invocation.run(act)
    if invocation.json:
        print_json({"name": version.name, "version": version.version, "deleted_at": tombstone.deleted_at})
        return
    say(f"Deleted {label}. Its data goes with `grid datastore gc`, two weeks from now at the earliest.")


@click.command("gc")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--grace",
    type=DURATION,
    metavar="TIME",
    help="Age of a deletion, and of what is unreachable, before data goes; less is safe only when nothing is "
    "mounted and no creation waits to be resumed.  [default: 7d]",
)
@click.pass_obj
def gc(invocation: Invocation, names: tuple[str, ...], dry_run: bool, grace: float | None) -> None:
    """Removes the data that no version needs any more: of deleted versions and of creations that were given up.

    What is unreachable is marked first, and removed by a later `gc` a grace period after that. Safe beside
    creations, deletions and other collections; run it daily.

    \b
    Examples:
      grid datastore gc --dry-run
      grid datastore gc
      grid datastore gc imagenet
    """
    from gridfs.life.boot_clock import BootClock

    failures: list[GridfsError] = []

    async def work() -> list[Collection]:
        from gridfs.life.collect import GRACE_S, collect
        from gridfs.names import normalise_name

        grace_s, cache = GRACE_S if grace is None else grace, invocation.cache_settings().directory
        collections = []
        async with invocation.open_catalog() as catalog:
            for name in [normalise_name(name) for name in names] or await catalog.names():
                if names and not await catalog.numbers(name):
                    await catalog.latest(name)  # raises, with near names
                try:
                    with _told_how_little():
                        collections.append(await collect(catalog, name, cache, grace_s=grace_s, dry_run=dry_run))
                except GridfsError as error:
                    failures.append(error)
        return collections

    collections = invocation.run(work, clock=BootClock())
    if invocation.json:
        print_json([_as_json(collection, dry_run) for collection in collections])
    else:
        columns = [Column("Name"), Column("Kept", right=True), Column("Waiting", right=True)]
        columns += [Column("Would Remove" if dry_run else "Removed", right=True)]
        rows = [[each.name, _shown(each.kept), _shown(each.waiting), _shown(each.removed)] for each in collections]
        print_table(columns, rows)
    raise_all(failures)


@contextmanager
def _told_how_little() -> Iterator[None]:
    """Says of a store without any room that these commands, which shall make some, need a little themselves."""
    try:
        yield
    except StoreFull as error:
        raise StoreFull(
            error.message, remedy="what is to go is noted there first: free a few KiB by hand, and repeat this"
        ) from error


def _one_version(spec: VersionSpec | None, name: str | None, number: int | None) -> VersionSpec:
    from gridfs.names import normalise_name

    if spec is not None and name is not None:
        raise InvalidInput(f"two names: '{spec}' and '{name}'", remedy="give one of them")
    if spec is not None and None not in (spec.version, number) and spec.version != number:
        raise InvalidInput(f"two versions: '{spec}' and --version {number}", remedy="give one of them")
    if spec is not None:
        name, number = spec.name, number if number is not None else spec.version
    if name is None or number is None:
        raise InvalidInput(
            "which version to delete was not said", remedy="give --name and --version; `grid datastore` lists them"
        )
    return VersionSpec(normalise_name(name), number)


def _refuse_if_in_use(invocation: Invocation, version: Version) -> None:
    """Raises Busy if the version is mounted on this node as far as can be seen, and names the mount or the run."""
    from gridfs.mount.in_use import in_use

    label = f"{version.name}@{version.version}"
    for use in in_use(invocation.store_settings.url, label, invocation.paths):
        used = [f"mounted at {', '.join(map(str, use.paths))}"] if use.paths else []
        used += [f"in use by a run: {', '.join(use.runs)}"] if use.runs else []
        whose = "" if use.record.uid == os.geteuid() else f" by uid {use.record.uid}"
        remedy = f"grid unmount {use.paths[0]}" if use.paths else "wait for its end"
        raise Busy(f"{label} is {' and '.join(used)}{whose}", remedy=remedy)


def _ask(question: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput("nothing was deleted, because nobody could be asked", remedy="give --yes")
    if not click.confirm(question, err=True):
        raise Interrupted("nothing was deleted")


def _shown(tally: Tally) -> str:
    return f"{shown_size(tally.size_bytes)} ({tally.count:,})"


def _as_json(collection: Collection, dry_run: bool) -> dict[str, object]:
    return {
        "name": collection.name,
        "dry_run": dry_run,
        "kept_objects": collection.kept.count,
        "kept_bytes": collection.kept.size_bytes,
        "waiting_objects": collection.waiting.count,
        "waiting_bytes": collection.waiting.size_bytes,
        "removed_objects": collection.removed.count,
        "removed_bytes": collection.removed.size_bytes,
    }
