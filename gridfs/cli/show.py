"""`grid datastore versions`, `show`, `files` and `diff`: what records and manifests tell, without reading any data."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from gridfs.cli.failures import one_line
from gridfs.cli.invocation import Invocation
from gridfs.cli.listing import version_as_json
from gridfs.cli.output import (
    Column,
    print_json,
    print_table,
    raise_all,
    say,
    shown_count,
    shown_path,
    shown_size,
    shown_time,
)
from gridfs.cli.parameters import SPEC
from gridfs.errors import GridfsError, InvalidInput, NotFound
from gridfs.model import Entry, Kind, Problem, Version, VersionSpec

if TYPE_CHECKING:
    from gridfs.life.diff import Difference
    from gridfs.manifest.reader import Manifest

PROBLEMS_SHOWN = 20
"""`-o json` has all."""
_KINDS = {Kind.DIRECTORY: "directory", Kind.FILE: "file", Kind.SYMLINK: "symlink"}


@click.command("versions")
@click.argument("name")
@click.pass_obj
def versions(invocation: Invocation, name: str) -> None:
    """Lists the versions of NAME; deleted ones too, whose numbers stay taken.

    \b
    Examples:
      grid datastore versions imagenet
      grid datastore versions imagenet -o json
    """
    from gridfs.names import normalise_name

    wanted = normalise_name(name)

    async def work() -> tuple[list[Version], list[GridfsError]]:
        async with invocation.open_catalog() as catalog:
            found, unreadable = await catalog.readable_versions(wanted)
            if not found and not unreadable:
                await catalog.latest(wanted)  # raises, with near names
            return found, list(unreadable.values())

    found, unreadable = invocation.run(work)
    if invocation.json:
        cluster = invocation.selected_store.cluster
        print_json(
            [
                version_as_json(version, cluster) | {"status": _status(version), "deleted_at": version.deleted_at}
                for version in found
            ]
        )
    else:
        columns = [Column("Version", right=True), Column("Size", right=True), Column("Files", right=True)]
        columns += [Column("Created At"), Column("Status"), Column("Source")]
        rows = [
            [
                str(version.version),
                shown_size(version.total_bytes),
                f"{version.file_count:,}",
                shown_time(version.created_at),
                _status(version),
                version.source,
            ]
            for version in found
        ]
        print_table(columns, rows)
    raise_all(unreadable)


@click.command("show")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.pass_obj
def show(invocation: Invocation, spec: VersionSpec) -> None:
    """Shows where a version came from, what is in it, its hashes, and what of its source could not be kept.

    \b
    Examples:
      grid datastore show imagenet
      grid datastore show imagenet@1 -o json
    """

    async def work() -> dict[str, Any]:
        async with _opened(invocation, spec) as (version, manifest):
            found = manifest.problems() if invocation.json else islice(manifest.problems(), PROBLEMS_SHOWN)
            problems.extend(found)
            return _details(version, manifest)

    problems: list[Problem] = []
    details = invocation.run(work)
    if invocation.json:
        print_json(details | {"problems": [problem._asdict() | {"name": _text(problem.name)} for problem in problems]})
        return
    width = max(map(len, details))
    for key, value in details.items():
        if value is not None:
            shown = f"{value:,} ({shown_size(value)})" if key in ("total_bytes", "block_size_bytes") else str(value)
            click.echo(one_line(f"{key.replace('_', ' '):{width}}  {shown}"))
    for problem in problems:
        click.echo(one_line(f"not kept: {problem.reason}: {shown_path(problem.name)} {problem.detail}".rstrip()))
    more = details["problem_count"] - len(problems)
    if more > 0:
        say(f"And {more:,} more: grid datastore show {details['name']}@{details['version']} -o json")


@click.command("files")
@click.argument("spec", metavar="NAME[@VERSION]", type=SPEC)
@click.argument("path", required=False, default="")
@click.pass_obj
def files(invocation: Invocation, spec: VersionSpec, path: str) -> None:
    """Lists what is in a version, or below PATH in it: size in bytes, time of change (UTC), path.

    \b
    Examples:
      grid datastore files imagenet
      grid datastore files imagenet@1 train/n01440764
      grid datastore files imagenet -o json
    """

    async def work() -> None:
        async with _opened(invocation, spec) as (version, manifest):
            top = entry_at(manifest, version, os.fsencode(path))
            prefix = os.fsencode(path).strip(b"/")
            found = (
                (b"/".join(part for part in (prefix, below) if part), entry)
                for below, entry in manifest.walk(top.inode)
                if below or entry.kind != Kind.DIRECTORY
            )
            (_print_files_as_json if invocation.json else _print_files)(found)

    invocation.run(work)


@click.command("diff")
@click.argument("old", metavar="NAME@OLD", type=SPEC)
@click.argument("new", metavar="NAME[@NEW]", type=SPEC)
@click.pass_obj
def diff(invocation: Invocation, old: VersionSpec, new: VersionSpec) -> None:
    """Lists what differs between two versions: added (+), removed (-), other content (M), other kind (T), other mode
    or time (t). Compares hashes in the manifests; no data is read.

    \b
    Examples:
      grid datastore diff imagenet@1 imagenet@2
      grid datastore diff imagenet@1 imagenet -o json
    """

    async def work() -> int:
        from gridfs.life.diff import differences

        async with _opened(invocation, old) as (_, before), _opened(invocation, new) as (_, after):
            found = differences(before, after)
            if invocation.json:
                print_json([_difference_as_json(each) for each in found])
                return 0
            count = 0
            for each in found:
                click.echo(one_line(f"{_SIGNS[each.change]} {shown_path(each.path)}"))
                count += 1
            return count

    count = invocation.run(work)
    if not invocation.json:
        say(shown_count(count, "difference"))


_SIGNS = {"added": "+", "removed": "-", "content": "M", "kind": "T", "attributes": "t"}


@asynccontextmanager
async def _opened(invocation: Invocation, spec: VersionSpec) -> AsyncIterator[tuple[Version, Manifest]]:
    """The version of *spec* and its manifest."""
    from gridfs.manifest.reader import Manifest

    async with invocation.open_catalog() as catalog:
        version = await catalog.resolve(spec)
        path = await catalog.fetch_manifest(version, invocation.cache_settings().directory)
    with Manifest.open(path) as manifest:
        yield version, manifest


def entry_at(manifest: Manifest, version: Version, path: bytes) -> Entry:
    """The entry at *path*. Raises NotFound, or InvalidInput for what can't be a path in a version."""
    if b".." in path.split(b"/"):
        raise InvalidInput(
            f"'{shown_path(path)}' is no path in a datastore", remedy="give it from the root, without .."
        )
    entry = manifest.resolve(b"/".join(part for part in path.split(b"/") if part not in (b"", b".")))
    if entry is None:
        label = f"{version.name}@{version.version}"
        raise NotFound(f"there is no '{shown_path(path)}' in {label}", remedy=f"grid datastore files {label}")
    return entry


def _status(version: Version) -> str:
    return "available" if version.deleted_at is None else "deleted"


def _details(version: Version, manifest: Manifest) -> dict[str, Any]:
    info = manifest.info
    bucket = {} if info.bucket is None else {f"bucket_{key}": value for key, value in asdict(info.bucket).items()}
    return {
        "name": version.name,
        "version": version.version,
        "created_at": version.created_at,
        "created_by": info.created_by,
        "source": version.source,
        "mode": str(version.mode),
        "file_count": info.file_count,
        "directory_count": info.directory_count,
        "symlink_count": info.symlink_count,
        "total_bytes": info.total_bytes,
        "object_count": info.object_count,
        "block_size_bytes": info.block_size_bytes,
        "manifest_sha256": version.manifest_sha256,
        "manifest_key": version.manifest_key,
        **bucket,
        "problem_count": info.problem_count,
    }


def _print_files(found: Iterable[tuple[bytes, Entry]]) -> None:
    for path, entry in found:
        suffix = "/" if entry.kind == Kind.DIRECTORY else ""
        target = f" -> {shown_path(entry.target)}" if entry.target is not None else ""
        changed = shown_time(_iso(entry.mtime_ns))
        click.echo(one_line(f"{entry.size:>14}  {changed}  {shown_path(path)}{suffix}{target}"))


def _print_files_as_json(found: Iterable[tuple[bytes, Entry]]) -> None:
    """An array, one line an entry: a list of millions is not held whole."""
    click.echo("[", nl=False)
    for number, (path, entry) in enumerate(found):
        click.echo(("," if number else "") + "\n " + json.dumps(_file_as_json(path, entry)), nl=False)
    click.echo("\n]")


def _file_as_json(path: bytes, entry: Entry) -> dict[str, Any]:
    return {
        "path": _text(path),
        "kind": _KINDS[Kind(entry.kind)],
        "size_bytes": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime_ns": entry.mtime_ns,
        "sha256": entry.sha256.hex() if entry.sha256 is not None else None,
        "target": _text(entry.target) if entry.target is not None else None,
    }


def _difference_as_json(difference: Difference) -> dict[str, Any]:
    def side(entry: Entry | None) -> dict[str, Any] | None:
        return None if entry is None else _file_as_json(difference.path, entry)

    return {
        "path": _text(difference.path),
        "change": str(difference.change),
        "old": side(difference.old),
        "new": side(difference.new),
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _iso(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns // 10**9, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"@{mtime_ns // 10**9}"  # of no calendar
