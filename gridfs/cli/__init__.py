"""The command `grid`.

`main` imports nothing of gridfs before it knows that `gridfs` is this package: pymongo ships a package of the same
name, and where both are installed into one environment the later one has overwritten `gridfs/__init__.py`.
"""

from __future__ import annotations

import sys

_SHADOWED = (
    "grid: the package 'gridfs' in {place} is not this program's but another one's (pymongo ships one of that name); "
    "install grid in an environment of its own, for example with pipx"
)


def main() -> None:
    """Entry point of the command; ends the process with the exit code of what happened."""
    import gridfs

    if getattr(gridfs, "PROGRAM", None) != "grid":
        place = (getattr(gridfs, "__path__", None) or ["?"])[0]
        sys.stderr.write(_SHADOWED.format(place=place) + "\n")
        raise SystemExit(10)

    from gridfs.cli.quick_run import quick_run

    start_lock = quick_run(sys.argv[1:])  # does not return from a run that finds its daemon

    from gridfs.cli.app import run

    raise SystemExit(run(sys.argv[1:], start_lock))
