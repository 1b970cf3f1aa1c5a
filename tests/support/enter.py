"""`python -m tests.support.enter RUNTIME PATH=SOURCE... -- COMMAND`: a run with directories in place of datastores."""

from __future__ import annotations

import sys
from unittest import mock

from gridfs.errors import GridfsError
from gridfs.mount import veil
from gridfs.mount.runs import replace_process
from gridfs.mount.view import Placement, checked_path


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    placements = []
    for number, argument in enumerate(arguments[1:split], 1):
        path, source = argument.split("=")
        label = f"d{number}@1"
        placements.append(Placement(label, checked_path(label, path), source))
    try:
        # Which would take them for what is left of a mount.
        mock.patch.object(veil, "_check_shown").start()
        replace_process(placements, arguments[split + 1 :], arguments[0])
    except GridfsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
