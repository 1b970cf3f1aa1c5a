"""What C libraries and the programs that they start write to stderr: where libfuse says why a mount failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def native_errors() -> Iterator[Callable[[], str]]:
    """Catches descriptor 2 of this process meanwhile; the function given says what has come, as one line."""
    saved = os.dup(2)
    try:
        with open(os.memfd_create("stderr"), "w+b") as caught:  # a container may have no place for temporary files

            def said() -> str:
                caught.seek(0)
                return " ".join(caught.read().decode(errors="replace").split())

            os.dup2(caught.fileno(), 2)
            try:
                yield said
            finally:
                os.dup2(saved, 2)
    finally:
        os.close(saved)
