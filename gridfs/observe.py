"""What happened, told once: logging with one event a line, incidents for `grid status`, counters.

A mount that can't reach its store fails a thousand reads a second, and each failure has the same cause. So a failure
goes through `Incidents.note`: the first of its cause is logged in the user's words, every further one only counted.
`grid status` shows the incidents with their counts, and `log_repeats` writes the counts when a process ends.

    cause = class of the error + what it concerns (a key, a host), never the changing part (an offset, an attempt)

Everything here is for one thread (trio's) except the logging itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gridfs.addresses import without_secrets
from gridfs.errors import GridfsError

INCIDENT_LIMIT = 64
"""Causes kept; the one that was not seen for longest goes first. A screen of `grid status` shows fewer."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


class OneLineFormatter(logging.Formatter):
    """One event a line: newlines in a message (names of files may hold them) are shown as `\\n`.

    Only a traceback, which is a defect's, spans several lines. What is secret in a URL is left out of both.
    """

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(LOG_FORMAT)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        record.message = record.message.replace("\n", "\\n").replace("\r", "\\r")
        return super().formatMessage(record)


def set_up_logging(
    *, log_file: Path | None = None, stream: TextIO | None = None, level: int | str = logging.INFO
) -> logging.Logger:
    """Sends the events of gridfs to *log_file* (made 0600, appended to), to *stream*, to both or to none.

    Only the logger `gridfs` is touched, so a program that imports gridfs keeps its own logging. Called again it
    replaces what the call before it had set up.
    """
    logger = logging.getLogger("gridfs")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = []
    if log_file is not None:
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        handlers.append(logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace"))
    if stream is not None:
        handlers.append(logging.StreamHandler(stream))
    for handler in handlers or [logging.NullHandler()]:
        handler.setFormatter(OneLineFormatter())
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return logger


@dataclass(slots=True)
class Incident:
    """One cause of failures, how often it was met, and what to do about it."""

    kind: str
    """Class of the error, such as `StoreUnavailable`; `defect` for what gridfs did not expect."""
    subject: str
    """What it concerns: a key, a mount, a directory."""
    message: str
    remedy: str | None
    count: int
    first_at_s: float
    """Seconds since the epoch."""
    last_at_s: float

    def as_json(self) -> dict[str, str | int | float | None]:
        return {
            "kind": self.kind,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "count": self.count,
            "first_at_s": round(self.first_at_s, 3),
            "last_at_s": round(self.last_at_s, 3),
        }


class Incidents:
    """The causes that a process has met, most recent last; bounded."""

    def __init__(
        self,
        logger: logging.Logger,
        *,
        limit: int = INCIDENT_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._logger = logger
        self._limit = limit
        self._clock = clock
        self._by_cause: OrderedDict[tuple[str, str], Incident] = OrderedDict()

    def note(self, error: BaseException, subject: str = "") -> Incident:
        """Counts *error* under its cause; logs it when it is the first of that cause.

        What is no GridfsError is a defect of gridfs and is logged with its traceback.
        """
        expected = isinstance(error, GridfsError)
        kind = type(error).__name__ if expected else "defect"
        message = error.message if isinstance(error, GridfsError) else f"{type(error).__name__}: {error}"
        remedy = error.remedy if isinstance(error, GridfsError) else "report it, with the traceback in the log"
        now_s = self._clock()
        cause = (kind, subject or message)
        incident = self._by_cause.get(cause)
        if incident is not None:
            incident.count += 1
            incident.last_at_s = now_s
            incident.message = message
            self._by_cause.move_to_end(cause)
            return incident
        incident = Incident(kind, subject, message, remedy, 1, now_s, now_s)
        self._by_cause[cause] = incident
        while len(self._by_cause) > self._limit:
            self._by_cause.popitem(last=False)
        if expected:
            self._logger.warning("%s%s", error, f" [{subject}]" if subject else "")
        else:
            self._logger.error("defect: %s%s", message, f" [{subject}]" if subject else "", exc_info=error)
        return incident

    def snapshot(self) -> list[Incident]:
        """All of them, the most recent last."""
        return list(self._by_cause.values())

    def log_repeats(self) -> None:
        """Writes how often each cause came back; for the end of a process."""
        for incident in self._by_cause.values():
            if incident.count > 1:
                self._logger.warning("%d times: %s", incident.count, incident.message)


class Counters:
    """Named counts since the start of the process, such as `reads`, `bytes_fetched`, `defects`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        return dict(sorted(self._counts.items()))
