"""What C libraries and the programs that they start write to stderr: where libfuse says why a mount failed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def native_errors() -> Iterator[Callable[[], str]]:
    """Catches descriptor 2 of this process meanwhile; the function given says what has come, as one line."""
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as caught:

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
