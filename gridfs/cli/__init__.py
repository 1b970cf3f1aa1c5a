"""The command `grid`.

`main` imports nothing of gridfs before it knows that `gridfs` is this package: pymongo ships a package of the same
name, and where both are installed into one environment the later one has overwritten `gridfs/__init__.py`.
"""

from __future__ import annotations

import os
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

    _open_what_is_closed()
    try:
        from gridfs.cli.quick_run import quick_run

        start_lock = quick_run(sys.argv[1:])  # does not return from a run that finds its daemon

        from gridfs.cli.app import run

        code = run(sys.argv[1:], start_lock)
    except KeyboardInterrupt:  # while modules were imported, which takes seconds from a busy disk
        try:
            sys.stderr.write("grid: ended by Ctrl-C\n")
        except OSError:  # nobody can read it any more (a lost terminal)
            pass
        code = 130
    raise SystemExit(code)


def _open_what_is_closed() -> None:
    """Gives stdin, stdout and stderr to /dev/null where whoever started us has closed them (`>&-`).

    The next file opened would else be one of them, and be written to. A command of `grid run` finds them closed again.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, and not inherited
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
