"""Each cause is told once and counted; events take one line."""

from __future__ import annotations

import io
import logging

import pytest

from gridfs.errors import ObjectMissing, StoreUnavailable
from gridfs.observe import Counters, Incidents, set_up_logging


@pytest.fixture
def stream():
    logger = logging.getLogger("gridfs")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield io.StringIO()
    set_up_logging()
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    for handler in before[0]:
        logger.addHandler(handler)
    logger.setLevel(before[1])
    logger.propagate = before[2]


def incidents_on(stream, clock=lambda: 1000.0, limit=64) -> Incidents:
    return Incidents(set_up_logging(stream=stream), clock=clock, limit=limit)


@pytest.mark.logs_warnings
def test_a_repeat_is_counted_and_not_printed(stream):
    times = iter([10.0, 20.0, 30.0])
    incidents = incidents_on(stream, clock=lambda: next(times))
    for attempt in range(3):
        incidents.note(StoreUnavailable(f"attempt {attempt} timed out", remedy="check the network"), "s3.example")
    assert stream.getvalue().count("\n") == 1
    (incident,) = incidents.snapshot()
    assert (incident.count, incident.first_at_s, incident.last_at_s) == (3, 10.0, 30.0)
    assert incident.message == "attempt 2 timed out"
    assert incident.as_json()["remedy"] == "check the network"


@pytest.mark.logs_warnings
def test_other_causes_are_other_incidents(stream):
    incidents = incidents_on(stream)
    incidents.note(StoreUnavailable("timed out"), "a")
    incidents.note(StoreUnavailable("timed out"), "b")
    incidents.note(ObjectMissing("gone"), "a")
    assert [(incident.kind, incident.subject) for incident in incidents.snapshot()] == [
        ("StoreUnavailable", "a"),
        ("StoreUnavailable", "b"),
        ("ObjectMissing", "a"),
    ]


@pytest.mark.logs_warnings
def test_the_cause_that_was_not_seen_for_longest_is_forgotten_first(stream):
    incidents = incidents_on(stream, limit=2)
    for subject in ("a", "b", "a", "c"):
        incidents.note(ObjectMissing("gone"), subject)
    assert [incident.subject for incident in incidents.snapshot()] == ["a", "c"]


@pytest.mark.logs_warnings
def test_a_defect_leaves_its_traceback(stream):
    incidents = incidents_on(stream)
    try:
        raise KeyError("what")
    except KeyError as error:
        incidents.note(error, "lookup")
    assert "Traceback" in stream.getvalue()
    assert incidents.snapshot()[0].kind == "defect"


@pytest.mark.logs_warnings
def test_the_end_tells_the_counts(stream):
    incidents = incidents_on(stream)
    for _ in range(5):
        incidents.note(ObjectMissing("object 7 is gone"), "7")
    incidents.log_repeats()
    assert "5 times: object 7 is gone" in stream.getvalue()


def test_an_event_takes_one_line(stream):
    set_up_logging(stream=stream).info("read %s", "two\nlines")
    assert stream.getvalue().endswith("gridfs: read two\\nlines\n")
    assert stream.getvalue().count("\n") == 1


def test_the_log_file_is_the_users_alone(tmp_path, stream):
    log_file = tmp_path / "log" / "grid.log"
    set_up_logging(log_file=log_file).info("hello")
    assert log_file.stat().st_mode & 0o777 == 0o600
    assert "hello" in log_file.read_text()


def test_set_up_again_replaces(stream):
    set_up_logging(stream=io.StringIO())
    set_up_logging(stream=stream).info("once")
    assert stream.getvalue().count("once") == 1


def test_counters():
    counters = Counters()
    counters.add("reads")
    counters.add("bytes_fetched", 10)
    counters.add("reads")
    assert counters.snapshot() == {"bytes_fetched": 10, "reads": 2}
    assert counters["defects"] == 0
