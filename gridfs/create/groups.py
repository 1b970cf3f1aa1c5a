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
        each = list(leaves(group))
        expected = [leaf for leaf in each if isinstance(leaf, GridfsError)]
        if len(expected) < len(each):
            raise
        raise expected[0] from group


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups in it; of one that is no group, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
