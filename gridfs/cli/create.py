"""`grid datastore create`: from what a person writes to a request, and from its result to what a person reads."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from gridfs.addresses import shown_url
from gridfs.cli.invocation import Invocation, retry_policy
from gridfs.cli.listing import print_versions, version_as_json
from gridfs.cli.output import print_json, say, shown_count, shown_size, warn
from gridfs.errors import GridfsError, Interrupted, InvalidInput
from gridfs.selection import SelectedStore, StoreFlags, select_store

if TYPE_CHECKING:
    from gridfs.config import StoreSettings
    from gridfs.create.creation import CreateResult
    from gridfs.create.request import CreateRequest

CONTINUE = "what was stored is kept: the same command again continues, or `grid datastore resume`"


@click.command("create")
@click.argument("source", required=False, metavar="[SOURCE]")
@click.option("--source", "old_source", hidden=True, metavar="SOURCE")
@click.option("--name", metavar="NAME", help="Name of the datastore.  [default: the last component of SOURCE]")
@click.option("--no-copy", is_flag=True, help="Leave the data in its bucket; only the listing is taken.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out what can't be read, and report it.")
@click.option("--checksum", is_flag=True, help="Read every file, also what looks as it did in the version before.")
@click.option("--extract", is_flag=True, help="Take a local archive apart, as is always done with one at a URL.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Of a bucket: take only such paths; may be repeated.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Of a bucket: leave such paths out; may be repeated.")
@click.option("--strict", is_flag=True, help="Make no version if anything can't be represented.")
@click.option("--requester-pays", is_flag=True, help="Of a bucket: let its owner charge you for the requests.")
@click.option("--dry-run", is_flag=True, help="Say what would be taken, and how much; make nothing.")
@click.pass_obj
def create(
    invocation: Invocation,
    source: str | None,
    old_source: str | None,
    name: str | None,
    no_copy: bool,
    skip_unreadable: bool,
    checksum: bool,
    extract: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    strict: bool,
    requester_pays: bool,
    dry_run: bool,
) -> None:
    """Makes the next version of a datastore from SOURCE: a folder, a file, an s3:// bucket or prefix, or an archive
    at an https:// URL. Asks nothing. Interrupted, the same command continues and uploads nothing twice.

    The name is made lower case, ASCII, without spaces. With a bucket as SOURCE the options --endpoint-url, --region,
    --profile and --no-sign-request are about that bucket too. In a PATTERN `*` matches `/` as well; it is compared
    with the whole path below the prefix, and --exclude wins.

    \b
    Examples:
      grid datastore create ./imagenet_folder/ --name imagenet
      grid datastore create s3://ryft-public-sample-data/esRedditJson/
      grid datastore create s3://ryft-public-sample-data/esRedditJson/ --no-copy
      grid datastore create s3://ryft-public-sample-data/ --include '*.json' --dry-run
      grid datastore create https://host/subfolder/trainingSet.tar.gz
    """
    if source and old_source:
        raise InvalidInput(
            f"two sources: '{shown_url(source)}' and '{shown_url(old_source)}'", remedy="give one of them"
        )
    text = source or old_source
    if not text:
        raise InvalidInput("no source was given", remedy="give a folder, an s3:// or an https:// address")
    from gridfs.create.request import CreateRequest, SourceKind, absolute_source, source_kind
    from gridfs.model import Mode
    from gridfs.names import name_from_source, normalise_name

    is_bucket, shown = source_kind(text) is SourceKind.BUCKET, shown_url(text)
    if no_copy and not is_bucket:
        raise InvalidInput(
            f"--no-copy can't be used with '{shown}'", remedy="only what lies in a bucket can stay there"
        )
    if requester_pays and not is_bucket:
        raise InvalidInput(f"--requester-pays can't be used with '{shown}'", remedy="leave it out, or give a bucket")
    selected = _store_beside_source(invocation) if is_bucket else invocation.selected_store
    named = normalise_name(name) if name is not None else name_from_source(text)
    if name is not None and named != name:
        say(f"The name is {named}.")
    request = CreateRequest(
        name=named,
        source=absolute_source(text),
        mode=Mode.NO_COPY if no_copy else Mode.COPY,
        skip_unreadable=skip_unreadable,
        checksum=checksum,
        extract=extract,
        source_settings=_source_settings(invocation, text, requester_pays) if is_bucket else None,
        include=include,
        exclude=exclude,
        strict=strict,
    )
    if dry_run:
        from gridfs.cli.preview import print_preview

        print_preview(invocation, request, selected)
        return
    print_result(invocation, selected, carry_out(invocation, request, selected))


def carry_out(invocation: Invocation, request: CreateRequest, selected: SelectedStore) -> CreateResult:
    """Makes the version; progress goes to stderr."""
    from gridfs.cli.progress import shown_progress

    made: list[CreateResult] = []

    async def work() -> None:
        from gridfs.create.creation import create_datastore
        from gridfs.store.stack import open_store

        store = await open_store(selected.settings, retry=retry_policy())
        try:
            with shown_progress() as progress:
                made.append(
                    await create_datastore(request, store, invocation.paths, progress, store_settings=selected.settings)
                )
        finally:
            await store.aclose()

    try:
        invocation.run(work, after_signal=CONTINUE)
    except GridfsError as error:
        if isinstance(error, Interrupted) and made:  # too late: there is a version, and nothing to go on with
            return made[0]
        if not isinstance(error, Interrupted) and _is_kept(invocation, request, selected):
            say(f"{CONTINUE[0].upper()}{CONTINUE[1:]}.")
        raise
    return made[0]


def _is_kept(invocation: Invocation, request: CreateRequest, selected: SelectedStore) -> bool:
    """Whether a failed creation has left something to go on with."""
    from gridfs.create.workplace import incomplete

    return any(
        creation.request == request and creation.store_url == selected.settings.url
        for creation in incomplete(invocation.paths)
    )


def print_result(invocation: Invocation, selected: SelectedStore, result: CreateResult) -> None:
    """The new version as a row, and what there is to know about it."""
    version = result.version
    changes = None
    if version.mode == "no-copy" and version.version > 1:
        from gridfs.cli.changes import count_changes

        try:
            changes = count_changes(invocation, selected, version)
        except Interrupted:
            raise
        except GridfsError as error:  # the version exists: made again for this, there would be another one each time
            warn(f"what changed since the version before can't be told: {error.message}")
    if invocation.json:
        print_json(
            version_as_json(version, selected.cluster)
            | {
                "sent_bytes": result.sent_bytes,
                "reused_files": result.reused_files,
                "reused_bytes": result.reused_bytes,
                "notes": list(result.notes),
                "changes": changes,
                "problems": {problem.reason: problem.count for problem in result.problems},
            }
        )
        return
    print_versions([version], selected.cluster)
    for note in result.notes:
        warn(note)
    if changes is not None:
        listed = ", ".join(f"{count:,} {what}" for what, count in changes.items())
        say(f"Files since the version before: {listed}.")
    if result.reused_files:
        files, size = shown_count(result.reused_files, "file"), shown_size(result.reused_bytes)
        say(f"Reused: {files} ({size}); uploaded: {shown_size(result.sent_bytes)}.")
    if result.problems:
        listed = ", ".join(f"{problem.count:,} {problem.reason}" for problem in result.problems)
        warn(f"not everything could be kept: {listed} (grid datastore show {version.name}@{version.version})")
    if sys.stdout.isatty():
        say(f"Read it: grid mount {version.name}    List all: grid datastore")


def _store_beside_source(invocation: Invocation) -> SelectedStore:
    """The store, where the source is a bucket: then flags about buckets may be meant for the source alone."""
    flags = invocation.flags
    only_choice = StoreFlags(store=flags.store, cluster=flags.cluster)

    def select(chosen: StoreFlags) -> SelectedStore:
        return select_store(chosen, invocation.environment, invocation.config_file, invocation.paths)

    selected = select(only_choice)
    return select(replace(flags, no_sign_request=False)) if selected.settings.url.startswith("s3://") else selected


def _source_settings(invocation: Invocation, source: str, requester_pays: bool) -> StoreSettings:
    """What the flags say of the source's bucket. Its region is found out, and AWS_REGION is about this machine."""
    from gridfs.config import StoreSettings
    from gridfs.create.request import absolute_source

    flags = invocation.flags
    return StoreSettings(
        url=absolute_source(source),
        endpoint_url=flags.endpoint_url,
        region=flags.region,
        profile=flags.profile,
        sign=not flags.no_sign_request,
        requester_pays=requester_pays,
    )
