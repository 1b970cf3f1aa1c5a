"""`grid datastore resume`, `clearcache` and `--show-incomplete`: creations of this user that were interrupted."""

from __future__ import annotations

from dataclasses import replace

import click

from gridfs.addresses import shown_url
from gridfs.cli.invocation import Invocation
from gridfs.cli.output import Column, print_json, print_table, say, shown_count, shown_time
from gridfs.errors import NotFound
from gridfs.selection import SelectedStore


@click.command("resume")
@click.argument("name", required=False)
@click.pass_obj
def resume(invocation: Invocation, name: str | None) -> None:
    """Continues the creation that was interrupted last, or the last one of NAME. Uploads nothing twice.

    \b
    Examples:
      grid datastore resume
      grid datastore resume imagenet
    """
    from gridfs.cli.create import carry_out, print_result
    from gridfs.create.workplace import incomplete
    from gridfs.names import normalise_name

    wanted = normalise_name(name) if name is not None else None
    waiting = [
        creation
        for creation in incomplete(invocation.paths)
        if not creation.is_running and wanted in (None, creation.request.name)
    ]
    if not waiting:
        what = f"interrupted creation of {wanted}" if wanted else "interrupted creation"
        raise NotFound(f"there is no {what}", remedy="`grid datastore --show-incomplete` lists those there are")
    creation = waiting[0]
    say(f"Continuing {creation.request.name} from {shown_url(creation.request.source)}")
    flags, store = invocation.flags, creation.store
    settings = replace(
        store,
        endpoint_url=flags.endpoint_url or store.endpoint_url,
        region=flags.region or store.region,
        profile=flags.profile or store.profile,
        sign=store.sign and not flags.no_sign_request,
    )
    selected = SelectedStore(settings, None)
    print_result(invocation, selected, carry_out(invocation, creation.request, selected))


@click.command("clearcache")
@click.pass_obj
def clearcache(invocation: Invocation) -> None:
    """Forgets interrupted creations: they can't be resumed then, and what they stored goes with the next `gc`.

    \b
    Examples:
      grid datastore clearcache
    """
    from gridfs.create.workplace import clear

    count = clear(invocation.paths)
    if invocation.json:
        print_json({"forgotten": count})
        return
    say(f"Forgot {shown_count(count, 'interrupted creation')}.")


def print_interrupted(invocation: Invocation) -> None:
    """The list of `--show-incomplete`."""
    from gridfs.create.workplace import incomplete

    creations = incomplete(invocation.paths)
    if invocation.json:
        print_json(
            [
                {
                    "name": creation.request.name,
                    "source": shown_url(creation.request.source),
                    "store": creation.store_url,
                    "started_at": creation.started_at,
                    "running": creation.is_running,
                }
                for creation in creations
            ]
        )
        return
    columns = [Column("Name"), Column("Started At"), Column("Source Path"), Column("Store"), Column("Status")]
    print_table(
        columns,
        [
            [
                creation.request.name,
                shown_time(creation.started_at),
                shown_url(creation.request.source),
                creation.store_url,
                "running" if creation.is_running else "interrupted",
            ]
            for creation in creations
        ],
    )
