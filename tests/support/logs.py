"""A test whose code logs a warning fails unless it said that it expects one: nobody reads warnings that always come."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FOREIGN = ("werkzeug", "moto", "urllib3", "asyncio", "hypothesis")
"""Loggers of test servers and tools: what they say is not about gridfs."""


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".")[0] not in FOREIGN:
            self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@contextmanager
def no_warnings_logged() -> Iterator[None]:
    """Fails at its end when a warning or worse was logged meanwhile, on whatever thread."""
    collector = _Collector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield
    finally:
        root.removeHandler(collector)
    if collector.lines:
        pytest.fail(
            "logged, though the test is not marked logs_warnings:\n" + "\n".join(collector.lines), pytrace=False
        )
