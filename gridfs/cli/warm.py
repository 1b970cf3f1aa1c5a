"""`grid warm`: a version into the disk cache of this node, and how much of one is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridfs.cli.invocation import LOOK_UP_PATIENCE_S, Invocation
from gridfs.cli.output import print_json, shown_size, warn
from gridfs.cli.parameters import DIRECTORY, SIZE, SPEC
from gridfs.config import CacheSettings, MountOptions
from gridfs.errors import InvalidInput
from gridfs.model import Version, VersionSpec

if TYPE_CHECKING:
    from gridfs.read.warm import Warmth


@click.command("warm")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.option("--check", is_flag=True, help="Only tell how much of it is there.")
@click.option("--cache-dir", type=DIRECTORY, help="As of `grid mount`, whose cache it is.")
@click.option("--max-cache-size", type=SIZE, help="As of `grid mount`.")
@click.option("--memory-target", type=SIZE, help="As of `grid mount`.")
@click.pass_obj
def warm(
    invocation: Invocation,
    spec: VersionSpec,
    check: bool,
    cache_dir: Path | None,
    max_cache_size: int | None,
    memory_target: int | None,
) -> None:
    """Fetches a whole version into this node's disk cache, before it is mounted or beside a mount.

    \b
    Examples:
      grid warm imagenet
      grid warm --check imagenet@1
    """
    cache = invocation.cache_settings(cache_dir, max_cache_size, memory_target)
    if cache.max_size_bytes == 0:
        raise InvalidInput("the disk cache is turned off (--max-cache-size 0)", remedy="give it a size")
    found: list[tuple[Version, Warmth, Path]] = []

    async def work() -> None:
        found.append(await _warm(invocation, spec, cache, check=check))

    invocation.run(work, after_signal="what has come stays; the same command goes on with the rest")
    version, warmth, place = found[0]
    if invocation.json:
        print_json(
            {
                "name": version.name,
                "version": version.version,
                "cached_bytes": warmth.cached_bytes,
                "total_bytes": warmth.total_bytes,
                "complete": warmth.complete,
            }
        )
        return
    share = warmth.cached_bytes / warmth.total_bytes if warmth.total_bytes else 1.0
    amount = f"{shown_size(warmth.cached_bytes)} of {shown_size(warmth.total_bytes)} ({share:.0%})"
    why = "" if place == cache.directory else ", the store, which is read in place"
    click.echo(f"{version.name}@{version.version}: {amount} are in {place}{why}")
    if not check and not warmth.complete:
        warn("the cache has no room for the rest; give it more with --max-cache-size, or choose --cache-dir")


async def _warm(
    invocation: Invocation, spec: VersionSpec, cache: CacheSettings, *, check: bool
) -> tuple[Version, Warmth, Path]:
    """The version, how much of it is on this node's disk then, and in which directory."""
    import trio

    from gridfs.cache.tiered import open_cache
    from gridfs.catalog_contents import open_contents
    from gridfs.read.reader import Reader, ReaderSettings
    from gridfs.read.warm import measure

    async with invocation.open_catalog(patience_s=LOOK_UP_PATIENCE_S) as catalog:
        version = await catalog.resolve(spec)
    async with (
        invocation.open_catalog() as catalog,
        open_contents(catalog, version, cache.directory, invocation.store_settings) as contents,
    ):
        tiers = open_cache(cache, contents.store, contents.path_of)
        reader = Reader(
            contents.manifest, contents.objects, contents.key_of, tiers, ReaderSettings.of(cache, MountOptions())
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run, name="reader")
            warmth = await measure(contents.manifest, tiers)
            if not check and not warmth.complete:
                with click.progressbar(
                    length=warmth.total_bytes, label=f"warming {version.name}@{version.version}", file=sys.stderr
                ) as bar:
                    warmth = await reader.warm(lambda behind: bar.update(max(0, behind - bar.pos)))
            nursery.cancel_scope.cancel()
        place = contents.store if contents.store is not None and tiers.statistics().is_store else cache.directory
        return version, warmth, place
