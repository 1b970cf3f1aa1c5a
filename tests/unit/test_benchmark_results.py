"""benchmarks.model: what becomes of figures between a run and the page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.model import Failure, Key, Record

KEY = Key("b", "rgw", "gridfs", "first epoch")


def a_run(value: float, when: str) -> Record:
    record = Record()
    record.add(KEY, "files/s", value)
    record.add_latencies(KEY._replace(metric="cold"), [value, value + 1])
    record.about = {"when": when, "measured": {"b": {"when": when}}}
    return record


def test_a_later_run_adds_its_rounds() -> None:
    first, second = a_run(10.0, "1"), a_run(30.0, "2")
    first.fail("b", "rgw", "s3fs", "too slow")
    second.fail("b", "rgw", "s3fs", "too slow")
    both = first.with_rounds_of(second)
    assert both.figures[KEY].values == [10.0, 30.0]
    assert both.median(*KEY) == 20.0
    assert both.failures == [Failure("b", "rgw", "s3fs", "too slow")]
    assert both.about["when"] == "2"
    assert first.figures[KEY].values == [10.0], "the runs themselves stay as they are"
    assert Record.from_json(both.to_json()).figures == both.figures


def test_the_page_takes_each_workload_from_its_own_file(tmp_path: Path) -> None:
    other = a_run(5.0, "3")
    other.figures = {KEY._replace(workload="e"): other.figures[KEY]}
    other.about["measured"] = {"e": {"when": "3"}}
    for name, record in (("b", a_run(10.0, "1")), ("e", other)):
        (tmp_path / f"{name}.json").write_text(record.to_json())
    whole = Record.merged(sorted(tmp_path.glob("*.json")))
    assert (whole.median(*KEY), whole.median(*KEY._replace(workload="e"))) == (10.0, 5.0)
    assert whole.about["when"] == "3"
    assert set(whole.about["measured"]) == {"b", "e"}
