"""Replacing this process by a run's command, with the run's datastores in place.

    host:       make missing directories where that is possible (mount/leftovers), leave a janitor for them
    namespace:  unshare, rebuild, attach (mount/namespace)
    exec:       the command, with this process's pid, terminal, signals and environment

Nothing of gridfs remains in the run. The kernel counts its users: the datastore's mount lives as long as the run's
namespace holds it. Light: see gridfs/light.py.
"""

from __future__ import annotations

import os

from gridfs.errors import InvalidInput, NotFound
from gridfs.light import ensure_private
from gridfs.mount.leftovers import leftovers_of
from gridfs.mount.namespace import enter
from gridfs.mount.view import LocalHost, Placement, plan_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def replace_process(
    placements: list[Placement],
    command: Sequence[str],
    runtime: str,
    *,
    veil: bool = True,
) -> NoReturn:
    """Becomes *command*, which sees each datastore at its path. The process must have a single thread.

    Raises InvalidInput (paths, a command that can't be executed), NotFound (no such command), Unsupported (namespaces).
    """
    leftovers = leftovers_of(ensure_private(runtime))
    leftovers.sweep()
    with leftovers.attaching([placement.path for placement in placements]):
        plan = plan_view(placements, LocalHost())  # a directory that it finds must not be removed before it is used
        if made := leftovers.make(plan.made):
            leftovers.leave_janitor(made)
        enter(plan, ensure_private(f"{runtime}/run"), veil=veil)
        execute(command)


def execute(command: Sequence[str]) -> NoReturn:
    """exec, with the shell's two kinds of failure: no such command, and one that can't be executed."""
    try:
        os.execvp(command[0], list(command))
    except FileNotFoundError as error:
        raise NotFound(
            f"no such command: {command[0]}", remedy="check the spelling and PATH; the command follows after --"
        ) from error
    except OSError as error:
        raise InvalidInput(
            f"can't execute {command[0]}: {error.strerror}", remedy="is it a program, with execute permission?"
        ) from error
