"""Results as records: one line for each figure of each subject in each workload, with the values of all rounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gridfs.bench.figures import median, quantile

CDF_POINTS = 200


class Key(NamedTuple):
    """What a figure is of."""

    workload: str
    """The letter of the issue: `a`, `c2`, `m-e`."""
    setting: str
    """Which server: `rgw`, `limited`, `nginx`, `counted`, or `local` without one."""
    subject: str
    metric: str


@dataclass(slots=True)
class Figure:
    """Values of one key, one for each round."""

    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Failure:
    """A subject that could not do a workload, in its own words."""

    workload: str
    setting: str
    subject: str
    message: str


class Record:
    """Everything that a run found."""

    def __init__(self) -> None:
        self.figures: dict[Key, Figure] = {}
        self.failures: list[Failure] = []
        self.distributions: dict[Key, list[float]] = {}
        """Latencies of the last round, thinned to CDF_POINTS, in microseconds."""
        self.about: dict[str, Any] = {}
        """Machine, versions, sizes, ceilings, when."""

    def add(self, key: Key, unit: str, value: float) -> None:
        self.figures.setdefault(key, Figure(unit)).values.append(value)

    def add_latencies(self, key: Key, values_us: Sequence[float]) -> None:
        """Quantiles of *values_us* as figures `<metric> p50` to `p99.9`, and the distribution itself."""
        ordered = sorted(values_us)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
            self.add(key._replace(metric=f"{key.metric} {name}"), "us", quantile(ordered, share))
        step = max(1, len(ordered) // CDF_POINTS)
        self.distributions[key] = [round(value, 1) for value in ordered[::step]]

    def fail(self, workload: str, setting: str, subject: str, message: str) -> None:
        failure = Failure(workload, setting, subject, message)
        if failure not in self.failures:
            self.failures.append(failure)

    def median(self, workload: str, setting: str, subject: str, metric: str) -> float | None:
        figure = self.figures.get(Key(workload, setting, subject, metric))
        return figure.median if figure else None

    def to_json(self) -> str:
        return json.dumps(
            {
                "about": self.about,
                "figures": [
                    key._asdict() | {"unit": figure.unit, "values": [round(value, 6) for value in figure.values]}
                    for key, figure in sorted(self.figures.items())
                ],
                "failures": [asdict(failure) for failure in self.failures],
                "distributions_us": [
                    key._asdict() | {"values": values} for key, values in sorted(self.distributions.items())
                ],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Record:
        found, record = json.loads(text), cls()
        record.about = found["about"]
        for row in found["figures"]:
            key = Key(row["workload"], row["setting"], row["subject"], row["metric"])
            record.figures[key] = Figure(row["unit"], row["values"])
        record.failures = [Failure(**row) for row in found["failures"]]
        for row in found["distributions_us"]:
            key = Key(row["workload"], row["setting"], row["subject"], row["metric"])
            record.distributions[key] = row["values"]
        return record

    @classmethod
    def merged(cls, paths: Sequence[Path]) -> Record:
        """Results of several runs as one; where two have the same workload, the later path's stands whole."""
        whole = cls()
        for path in paths:
            part = cls.from_json(path.read_text(encoding="utf-8"))
            done = {key.workload for key in part.figures} | {failure.workload for failure in part.failures}
            whole.figures = {k: v for k, v in whole.figures.items() if k.workload not in done} | part.figures
            whole.failures = [f for f in whole.failures if f.workload not in done] + part.failures
            whole.distributions = {
                k: v for k, v in whole.distributions.items() if k.workload not in done
            } | part.distributions
            loads = whole.about.get("load before each workload", {}) | part.about.get("load before each workload", {})
            whole.about = whole.about | part.about | {"load before each workload": loads}
        return whole
