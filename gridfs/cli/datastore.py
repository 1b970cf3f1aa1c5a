"""`grid datastore`: by itself the list, and the group of what is done to datastores."""

from __future__ import annotations

import click

from gridfs.cli.groups import Lazy, LazyGroup
from gridfs.cli.invocation import Invocation

_SHOW, _READBACK, _REMOVE = "gridfs.cli.show", "gridfs.cli.readback", "gridfs.cli.remove"
COMMANDS = {
    "create": Lazy("gridfs.cli.create", "create", "Make a version of a folder, a bucket or an archive."),
    "list": Lazy("gridfs.cli.listing", "list_", "List datastores; the same as `grid datastore`."),
    "versions": Lazy(_SHOW, "versions", "All versions of a datastore."),
    "show": Lazy(_SHOW, "show", "One version: source, counts, hashes, what could not be represented."),
    "files": Lazy(_SHOW, "files", "The files of a version."),
    "diff": Lazy(_SHOW, "diff", "What differs between two versions."),
    "download": Lazy(_READBACK, "download", "Copy files of a version to a directory, without a mount."),
    "verify": Lazy(_READBACK, "verify", "Read a version back and compare checksums."),
    "resume": Lazy("gridfs.cli.resume", "resume", "Continue a creation that was interrupted."),
    "clearcache": Lazy("gridfs.cli.resume", "clearcache", "Forget interrupted creations."),
    "delete": Lazy(_REMOVE, "delete", "Delete a version."),
    "gc": Lazy(_REMOVE, "gc", "Remove what no version needs any more."),
}


@click.group(
    "datastore",
    cls=LazyGroup,
    lazy=COMMANDS,
    invoke_without_command=True,
    epilog="Options of every command, such as --store and --output json: grid --help",
)
@click.option("--show-incomplete", is_flag=True, help="List interrupted creations, which `resume` continues.")
@click.pass_context
def datastore(context: click.Context, show_incomplete: bool) -> None:
    """Lists datastores; with a command, does something to them.

    \b
    Examples:
      grid datastore
      grid datastore -o json
      grid datastore create ./imagenet_folder --name imagenet
      grid datastore show imagenet@1
    """
    if context.invoked_subcommand is None:
        from gridfs.cli.listing import print_datastores, print_incomplete

        invocation = context.find_object(Invocation)
        assert invocation is not None
        (print_incomplete if show_incomplete else print_datastores)(invocation)
