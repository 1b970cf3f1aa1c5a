"""`grid datastore`: every version of every datastore of the store, sorted by name and number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gridfs.cli.invocation import LOOK_UP_PATIENCE_S, Invocation
from gridfs.cli.output import Column, print_json, print_table, raise_all, say, shown_size, shown_time
from gridfs.errors import AccessDenied, CredentialsRefused, GridfsError
from gridfs.model import Version

if TYPE_CHECKING:
    from gridfs.catalog import Catalog

AVAILABLE = "available"


@click.command("list")
@click.option("--show-incomplete", is_flag=True, help="List interrupted creations, which `resume` continues.")
@click.pass_obj
def list_(invocation: Invocation, show_incomplete: bool) -> None:
    """Lists datastores; the same as `grid datastore`.

    \b
    Examples:
      grid datastore list
      grid --store s3://bucket/prefix datastore list -o json
    """
    (print_incomplete if show_incomplete else print_datastores)(invocation)


def print_datastores(invocation: Invocation) -> None:
    """Prints the list of the selected store."""

    async def all_versions() -> tuple[list[Version], list[GridfsError]]:
        async with invocation.open_catalog(patience_s=LOOK_UP_PATIENCE_S) as catalog:
            return await _available_versions(catalog)

    versions, unreadable = invocation.run(all_versions)
    selected = invocation.selected_store
    if invocation.json:
        print_json([version_as_json(version, selected.cluster) for version in versions])
    else:
        print_versions(versions, selected.cluster)
    raise_all(unreadable)
    if not versions and not invocation.json:
        say(f"No datastores in {selected.settings.url}. Make one: grid datastore create FOLDER --name NAME")


def print_versions(versions: list[Version], cluster: str | None) -> None:
    """The table of *versions*; with a column for the cluster where the store has such a name."""
    columns = [
        Column("Name"),
        *([Column("Cluster")] if cluster else []),
        Column("Version", right=True),
        Column("Size", right=True),
        Column("Created At"),
        Column("Status"),
    ]
    rows = [
        [
            version.name,
            *([cluster] if cluster else []),
            str(version.version),
            shown_size(version.total_bytes),
            shown_time(version.created_at),
            AVAILABLE,
        ]
        for version in versions
    ]
    print_table(columns, rows)


def version_as_json(version: Version, cluster: str | None) -> dict[str, str | int | None]:
    """One row of `grid datastore -o json`; docs/commands.md lists the fields."""
    return {
        "name": version.name,
        "cluster": cluster,
        "version": version.version,
        "size_bytes": version.total_bytes,
        "created_at": version.created_at,
        "status": AVAILABLE,
        "mode": str(version.mode),
        "source": version.source,
        "file_count": version.file_count,
        "directory_count": version.directory_count,
        "symlink_count": version.symlink_count,
        "problem_count": version.problem_count,
    }


async def _available_versions(catalog: Catalog) -> tuple[list[Version], list[GridfsError]]:
    """All versions that are not deleted, and what is wrong with the datastores and records that can't be read.

    Datastores are asked for side by side: a store may be 50 ms away.
    """
    from gridfs.catalog_parallel import in_parallel

    async def read(name: str) -> tuple[list[Version], list[GridfsError]]:
        try:
            versions, unreadable = await catalog.readable_versions(name)
        except CredentialsRefused:
            raise
        except AccessDenied as error:  # somebody keeps it for themselves
            return [], [error]
        return versions, list(unreadable.values())

    found = await in_parallel(read, await catalog.names())
    versions = [version for versions, _ in found for version in versions if version.deleted_at is None]
    return versions, [error for _, errors in found for error in errors]


def print_incomplete(invocation: Invocation) -> None:
    """Prints the creations of this user that were interrupted."""
    from gridfs.cli.resume import print_interrupted

    print_interrupted(invocation)
