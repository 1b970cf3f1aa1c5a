"""Several tasks fail at once; a person is told of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gridfs.errors import GridfsError


@contextmanager
def single_error() -> Iterator[None]:
    """Turns the group of exceptions that a nursery raises into the first expected one in it.

    A group with a defect (or a KeyboardInterrupt) in it passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        expected = [leaf for leaf in leaves if isinstance(leaf, GridfsError)]
        if len(expected) < len(leaves):
            raise
        raise expected[0] from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
