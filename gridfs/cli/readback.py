"""`grid datastore download` and `verify`: what reads a version's bytes without a mount."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from gridfs.cli.failures import one_line
from gridfs.cli.invocation import Invocation
from gridfs.cli.output import print_json, say, shown_count, shown_path, shown_size
from gridfs.cli.parameters import SPEC
from gridfs.config import ensure_cache
from gridfs.errors import IntegrityError, InvalidInput
from gridfs.light import expanded
from gridfs.model import Mode, VersionSpec

if TYPE_CHECKING:
    from gridfs.life.download import Outlook
    from gridfs.life.verify import Verification


class Percentage(click.ParamType[float]):
    """`5%`, `5` or `0.5%`: a share of 0 to 1."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", str(value).strip(), re.ASCII)
        if match is None or not 0 < float(match[1]) <= 100:
            self.fail(f"'{value}' is no percentage; write it as 5%", param, ctx)
        return float(match[1]) / 100


@click.command("download")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.argument("places", metavar="[PATH] DIR", nargs=-1, required=True)
@click.pass_obj
def download(invocation: Invocation, spec: VersionSpec, places: tuple[str, ...]) -> None:
    """Copies a version, or what PATH in it holds, into the directory DIR. Needs no FUSE and no root.

    Every byte is verified. Times, execute bits and symbolic links are kept. What is in DIR already is not fetched
    again, so the same command continues after an interruption; what differs there is never overwritten, and nothing
    is ever written outside DIR.

    \b
    Examples:
      grid datastore download imagenet ./imagenet
      grid datastore download imagenet@1 train/n01440764 ./tench
      grid datastore download imagenet labels.csv .
    """
    from gridfs.cli.progress import shown_progress

    if len(places) > 2:
        raise click.UsageError("give at most a PATH and a DIR")
    if not places[-1]:  # as of a variable that is not set
        raise InvalidInput("the directory to copy into is empty", remedy="write . for the current one")
    path, directory = (b"" if len(places) == 1 else os.fsencode(places[0])), Path(expanded(places[-1])).absolute()

    async def work() -> Outlook:
        from gridfs.catalog_contents import open_contents
        from gridfs.cli.show import entry_at
        from gridfs.life.download import download as copy

        async with invocation.open_catalog() as catalog:
            version = await catalog.resolve(spec)
            cache = invocation.cache_settings().directory
            async with open_contents(catalog, version, cache, invocation.store_settings) as contents:
                top = entry_at(contents.manifest, version, path)
                with shown_progress() as progress:
                    return await copy(
                        contents,
                        top,
                        directory,
                        on_phase=progress.on_phase,
                        on_outlook=lambda outlook: progress.on_total(outlook.missing.files, outlook.missing.size_bytes),
                        on_advance=progress.on_advance,
                    )

    outlook = invocation.run(work, after_signal="the same command continues")
    if invocation.json:
        print_json(
            {
                "directory": str(directory),
                "fetched_files": outlook.missing.files,
                "fetched_bytes": outlook.missing.size_bytes,
                "present_files": outlook.present.files,
                "present_bytes": outlook.present.size_bytes,
            }
        )
        return
    fetched, present = outlook.missing, outlook.present
    was_there = f"; {shown_count(present.files, 'file')} were there" if present.files else ""
    say(
        f"Downloaded {shown_count(fetched.files, 'file')}, {shown_size(fetched.size_bytes)}, to {directory}{was_there}."
    )


_REMEDIES = {
    Mode.COPY: "restore the store, or create a new version from the source; where data differs, delete the damaged"
    " versions first, since a new one takes over what they have",
    Mode.NO_COPY: "create a new version of what the bucket has now",
}


@click.command("verify")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.option("--sample", type=Percentage(), metavar="PERCENT", help="Read only this share, chosen at random.")
@click.pass_obj
def verify(invocation: Invocation, spec: VersionSpec, sample: float | None) -> None:
    """Reads a version back from its store, past all caches, and names every file that is not what was stored.

    Ends with 7 if there is one. Of a no-copy version it finds what is gone or was changed in the bucket.

    \b
    Examples:
      grid datastore verify imagenet
      grid datastore verify imagenet@1 --sample 5%
    """
    from gridfs.cli.progress import shown_progress

    async def work() -> tuple[str, Mode, Verification]:
        from gridfs.catalog_contents import open_contents
        from gridfs.life.verify import verify as read_back

        # The manifest too comes from the store, and not from where a mount has left it.
        scratch = ensure_cache(invocation.cache_settings().directory)
        async with invocation.open_catalog() as catalog:
            version = await catalog.resolve(spec)
            with TemporaryDirectory(prefix="verify-", dir=scratch) as cache, shown_progress() as progress:
                async with open_contents(catalog, version, Path(cache), invocation.store_settings) as contents:
                    progress.on_phase("reading back")
                    if sample is None:
                        progress.on_total(version.file_count, version.total_bytes)
                    result = await read_back(contents, sample=sample, on_advance=progress.on_advance)
                    return f"{version.name}@{version.version}", version.mode, result

    label, mode, result = invocation.run(work)
    if invocation.json:
        print_json(
            {
                "sound": result.is_sound,
                "read_bytes": result.read_bytes,
                "compared_files": result.whole_files,
                "findings": [
                    {"path": finding.path.decode("utf-8", "surrogateescape"), "problem": finding.problem}
                    for finding in result.findings
                ],
            }
        )
    else:
        for finding in result.findings:
            click.echo(one_line(f"{shown_path(finding.path) or label}: {finding.problem}"))
    if not result.is_sound:
        raise IntegrityError(
            f"{label} is damaged: {shown_count(len(result.findings), 'finding')}",
            remedy=_REMEDIES[mode],
        )
    compared = f"{shown_count(result.whole_files, 'file')} compared, {shown_size(result.read_bytes)} read"
    say(f"{label} is sound{' as far as was sampled' if sample is not None else ''}: {compared}.")
