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
        """Machine, versions, sizes, ceilings, when; `measured`: for each workload when, and how busy others were."""

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
        """One row on each line, so that a new run is a readable difference."""
        rows: dict[str, list[dict[str, Any]]] = {
            "figures": [
                key._asdict() | {"unit": figure.unit, "values": [round(value, 6) for value in figure.values]}
                for key, figure in sorted(self.figures.items())
            ],
            "failures": [asdict(failure) for failure in self.failures],
            "distributions_us": [
                key._asdict() | {"values": values} for key, values in sorted(self.distributions.items())
            ],
        }
        parts = [f'"about": {json.dumps(self.about, indent=1)}']
        parts += [f'"{name}": [\n' + ",\n".join(map(json.dumps, these)) + "\n]" for name, these in rows.items()]
        return "{\n" + ",\n".join(parts) + "\n}"

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

    def with_rounds_of(self, later: Record) -> Record:
        """The figures of both runs as rounds of one; what else there is to say, *later* says."""
        whole = Record()
        whole.about, whole.distributions = later.about, self.distributions | later.distributions
        whole.failures = list(dict.fromkeys([*self.failures, *later.failures]))
        for figures in (self.figures, later.figures):
            for key, figure in figures.items():
                whole.figures.setdefault(key, Figure(figure.unit)).values.extend(figure.values)
        return whole

    @classmethod
    def merged(cls, paths: Sequence[Path]) -> Record:
        """Results of all workloads, each from its own file, as one; of the machine it says what the newest says."""
        whole = cls()
        parts = sorted(
            (cls.from_json(path.read_text(encoding="utf-8")) for path in paths), key=lambda p: p.about["when"]
        )
        measured: dict[str, Any] = {}
        for part in parts:
            whole.figures |= part.figures
            whole.failures += part.failures
            whole.distributions |= part.distributions
            measured |= part.about["measured"]
            whole.about = part.about | {"measured": measured}
        return whole
