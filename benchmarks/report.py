"""docs/benchmarks.md and its plots, from the results of one or more runs. Only its last part (notes.md) is typed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import BOTO3, LOCAL
from benchmarks.goal import Goal, Verdict, judge
from benchmarks.goals import (
    LITDATA,
    RIVALS,
    goals_of_buckets,
    goals_of_creation,
    goals_of_the_main_job,
    goals_of_the_read_path,
)
from benchmarks.model import Failure, Figure, Key, Record
from benchmarks.processes import TOUCHED_BYTES
from benchmarks.workloads import WORKLOADS
from gridfs.bench import svg
from gridfs.bench.svg import figure as shown

SETTINGS = {
    "rgw": "Ceph RGW on loopback",
    "limited": "the same, every connection limited to 15 ms to the first byte and 90 MB/s",
    "nginx": "nginx on loopback, objects in memory",
    "counted": "Ceph RGW behind a proxy that counts",
    "warm": "everything in the page cache",
    "local": "local disk, no server",
}
NOTES = Path(__file__).with_name("notes.md")
"""What people found out about the figures: limits, profiles, ideas that were tried. It ends the page."""

QUIET_SHARE = 0.15
"""Of the processors, while this program only waits: a machine with services has always something to do."""

LESS_IS_BETTER = ("us", "ms", "s", "MiB", "x", "", "GETs")


def write_page(record: Record, page: Path) -> None:
    """Writes *page*, and its plots into a folder of its name beside it."""
    plots = page.with_suffix("")
    plots.mkdir(parents=True, exist_ok=True)
    page.write_text(render(record, write_plots(record, plots)), encoding="utf-8")


def render(record: Record, plots: Sequence[tuple[str, str]]) -> str:
    """The whole page; *plots* are (workload's letter, path relative to the page)."""
    many = f"{record.about['scale']['many_entries']:,}"
    small = f"{record.about['scale']['created_files']:,} files"
    large = f"1 file of {record.about['scale']['big_bytes'] >> 20} MiB"
    parts = [_introduction(record), "## Goals\n", _goals("The main job", goals_of_the_main_job(many), record)]
    parts.append(_goals("The read path", goals_of_the_read_path(many), record))
    parts.append(_goals("No-copy versions of buckets", goals_of_buckets(), record))
    parts.append(_goals("Creation", goals_of_creation(small, large), record))
    parts.append(_lost(record))
    for workload in WORKLOADS:
        body = _tables(record, workload.letter)
        if not body:
            continue
        parts.append(f"## ({workload.letter}) {workload.title}\n\n{workload.reason}\n")
        parts += [f"![({letter})]({path})\n" for letter, path in plots if letter == workload.letter]
        parts.append(body)
        if workload.letter == "c":
            parts.append(f"### (d) a second epoch\n\n{_tables(record, 'd')}")
    parts.append(f"## (k) peak anonymous memory of the daemon, MiB\n\n{_memory(record)}")
    parts.append(_failures(record.failures))
    if NOTES.exists():
        parts.append(NOTES.read_text(encoding="utf-8"))
    return "\n".join(parts)


def _introduction(record: Record) -> str:
    about = record.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"""# Benchmarks

gridfs beside what people use instead, on one server, every byte that was read compared with what was written. Written
by `make bench`; figures are medians of the rounds, with the lowest and the highest.

- Machine: {about["machine"]}; {about["system"]}. Server, daemon and readers share these cores: compare figures
  with each other, and not with other machines'.
- Measured: {_measured(about["measured"])}.
- Versions: {versions}.
- Repeat it: `make bench` (as root, an hour on an idle machine, `python -m benchmarks --rounds 1` half of that;
  `--only a,c` measures some of it anew, `--quick` shows that it works). It installs the rivals into an environment of
  its own, starts its servers on loopback, and removes everything but the results in `benchmarks/results/`.
- Server: Ceph RGW over memory with `tcp_nodelay=1`; a GET of 4 KiB took {about["small GET, ms"]} ms at p50 (above 5, a
  run ends at once). What it and the proxies before it give at most to 1, 8 and 16 connections together:
  {_ceilings(about["ceilings, GB/s"])}.
- *cold*: a new daemon, no cache directory, page cache of the machine dropped. *warm*: read before, nothing dropped.
- Before every pass of every subject the suite takes {TOUCHED_BYTES / 2**30:g} GiB of memory (a quarter of
  what is available, if that is less), a third of it in large pages, and frees it. This virtual machine hands free
  memory back to its host within seconds, and a pass that had to get it again (2.4 s a GiB, measured) took up to twice
  as long as one that had not, whoever it was of.
- Rivals run with the settings that their documentation recommends (`benchmarks/subjects/`): rclone with its cache off
  and full, 8 streams of 4 MiB, times from the listing; s3fs with its cache on local disk; litData's
  StreamingRawDataset with and without its cache; obstore and boto3 are bare clients that show no file system, obstore
  the limit of what is cold. ext4 is the limit of what is warm.
- A pass over small files ends after {about["scale"]["pass_s"]:.0f} s, and its rate is of the files read until then.
"""


def _measured(measured: dict[str, Any]) -> str:
    """On which day each workload was measured, and what else the machine did just before (None: nobody looked)."""
    days: dict[str, list[str]] = {}
    for workload in WORKLOADS:
        if one := measured.get(workload.letter):
            share = one["others' share of the processors"]
            others = f" (others took {share:.0%} of the processors)" if share and share > QUIET_SHARE else ""
            others = " (others worked, too)" if share is None else others
            days.setdefault(one["when"].partition(" ")[0], []).append(f"({workload.letter}){others}")
    return "; ".join(f"{', '.join(letters)} on {day}" for day, letters in sorted(days.items()))


def _ceilings(ceilings: dict[str, float]) -> str:
    """`rgw 0.56, 0.80, 1.23 GB/s`, and so on; the names are `rgw, 8 connections`."""
    rates: dict[str, list[str]] = {}
    for name, rate in ceilings.items():
        rates.setdefault(name.partition(",")[0], []).append(f"{rate:.2f}")
    return "; ".join(f"{server} {', '.join(found)} GB/s" for server, found in rates.items())


def _goals(title: str, goals: Iterable[Goal], record: Record) -> str:
    rows = [f"### {title}\n", "| | goal | | gridfs | reference | ratio | |", "|---|---|---|---:|---:|---:|---|"]
    for verdict in (judge(goal, record) for goal in goals):
        goal, limit = verdict.goal, f"{verdict.goal.bound} {verdict.goal.limit:,g} {verdict.goal.unit}"
        is_ratio = goal.unit == "x"
        shown_values = (verdict.ours, *((verdict.theirs, verdict.ratio) if is_ratio else (None, None)))
        figures = " | ".join(_maybe(value) for value in shown_values)
        rows.append(f"| ({goal.workload}) | {goal.text} | {limit} | {figures} | {_judgement(verdict)} |")
    return "\n".join(rows) + "\n"


def _maybe(value: float | None) -> str:
    return "" if value is None else shown(value)


def _judgement(verdict: Verdict) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[verdict.met]


def _lost(record: Record) -> str:
    """Where a rival's median is better than gridfs's."""
    rows = []
    for key, ours in sorted(record.figures.items()):
        if key.subject != "gridfs" or key.workload == "k":
            continue
        for rival in (*RIVALS, *LITDATA, BOTO3, "rclone copy", "aws s3 sync"):
            theirs = record.figures.get(key._replace(subject=rival))
            if theirs is None:
                continue
            better = theirs.median < ours.median if ours.unit in LESS_IS_BETTER else theirs.median > ours.median
            if better:
                what = f"({key.workload}, {key.setting}) {key.metric}"
                rows.append(f"- {what}: {rival} {_with_unit(theirs)}, gridfs {_with_unit(ours)}")
    found = "\n".join(rows) if rows else "Nowhere in this run."
    return f"## Where a rival wins\n\n{found}\n"


def _with_unit(figure: Figure) -> str:
    return f"{shown(figure.median)} {figure.unit}".rstrip()


def _tables(record: Record, letter: str) -> str:
    """One table for each setting: a row for each subject, a column for each metric that any of them has."""
    chosen = {key: figure for key, figure in record.figures.items() if key.workload == letter}
    parts = []
    for setting in [name for name in SETTINGS if any(key.setting == name for key in chosen)]:
        rows = {key: figure for key, figure in chosen.items() if key.setting == setting}
        metrics = list(dict.fromkeys(key.metric for key in rows))
        metrics = [metric for metric in metrics if not metric.endswith((" p90", ", bytes"))]
        units = {key.metric: figure.unit for key, figure in rows.items()}
        subjects = _ordered({key.subject for key in rows})
        lines = ["| | " + " | ".join(f"{metric}{_unit(units[metric])}" for metric in metrics) + " |"]
        lines.append("|---|" + "---:|" * len(metrics))
        for subject in subjects:
            cells = [_cell(rows.get(Key(letter, setting, subject, metric))) for metric in metrics]
            lines.append(f"| {subject} | " + " | ".join(cells) + " |")
        parts.append(f"{SETTINGS[setting][0].upper()}{SETTINGS[setting][1:]}:\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _unit(unit: str) -> str:
    return f", {unit}" if unit else ""


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if len(figure.values) == 1 or figure.low == figure.high:
        return shown(figure.median)
    return f"**{shown(figure.median)}** ({shown(figure.low)}..{shown(figure.high)})"


def _ordered(subjects: Iterable[str]) -> list[str]:
    """gridfs first, then rivals, then limits."""
    last = (LOCAL, "obstore, no mount", "obstore, parts of 8 MiB", "obstore, one connection")
    return sorted(subjects, key=lambda name: (not name.startswith("gridfs"), name in last, name))


def _memory(record: Record) -> str:
    chosen = {key: figure for key, figure in record.figures.items() if key.workload == "k"}
    letters = [workload.letter for workload in WORKLOADS if any(key.setting == workload.letter for key in chosen)]
    lines = ["| | " + " | ".join(f"({letter})" for letter in letters) + " |", "|---|" + "---:|" * len(letters)]
    for subject in _ordered({key.subject for key in chosen}):
        peaks = [chosen.get(Key("k", letter, subject, "peak anonymous memory")) for letter in letters]
        lines.append(f"| {subject} | " + " | ".join("" if peak is None else shown(peak.high) for peak in peaks) + " |")
    return "\n".join(lines) + "\n"


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    rows = [f"- ({one.workload}, {one.setting}) {one.subject}: {one.message}" for one in failures]
    return "## What failed\n\nIn the words of what failed; its figures are missing above.\n\n" + "\n".join(rows) + "\n"


def write_plots(record: Record, directory: Path) -> list[tuple[str, str]]:
    """An SVG file for each workload that has something to show: latencies as CDF, rates as bars."""
    written = []
    for workload in WORKLOADS:
        charts = [*_latency_charts(record, workload.letter), *_rate_charts(record, workload.letter)]
        if workload.letter == "c":
            charts += _rate_charts(record, "d")
        if charts:
            name = f"{workload.letter}.svg"
            (directory / name).write_text(svg.document(charts), encoding="utf-8")
            written.append((workload.letter, f"{directory.name}/{name}"))
    return written


def _latency_charts(record: Record, letter: str) -> list[svg.Chart]:
    kinds = dict.fromkeys((key.setting, key.metric) for key in record.distributions if key.workload == letter)
    return [
        svg.cumulative(
            f"({letter}) {metric}: {SETTINGS[setting]}",
            {
                subject: record.distributions[Key(letter, setting, subject, metric)]
                for subject in _ordered(
                    key.subject for key in record.distributions if key[:2] == (letter, setting) and key.metric == metric
                )
            },
        )
        for setting, metric in kinds
    ]


def _rate_charts(record: Record, letter: str) -> list[svg.Chart]:
    kinds = dict.fromkeys(
        (key.setting, key.metric, figure.unit)
        for key, figure in record.figures.items()
        if key.workload == letter and figure.unit.endswith("/s") and not key.metric.endswith(", bytes")
    )
    charts = []
    for setting, metric, unit in kinds:
        found = {
            key.subject: figure
            for key, figure in record.figures.items()
            if key[:2] == (letter, setting) and key.metric == metric
        }
        order = _ordered(found)
        charts.append(
            svg.bars(
                f"({letter}) {metric}: {SETTINGS[setting]}",
                unit,
                {subject: found[subject].median for subject in order},
                {subject: (found[subject].low, found[subject].high) for subject in order},
            )
        )
    return charts
