"""The figures of a measurement as one SVG file: a CDF of latencies and bars of throughput."""

from __future__ import annotations

from gridfs.bench import svg
from gridfs.bench.run import Measurement


def plot(measurement: Measurement) -> str:
    """SVG text; the series are named as in the table."""
    where = "".join(  # what no XML may hold: control characters, and bytes that are no UTF-8
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in measurement.directory
    )
    latencies = {f"{one.access}, {one.state}": one.ordered_us for one in measurement.latencies}
    files = {
        f"{one.access}, {one.readers} {'reader' if one.readers == 1 else 'readers'}, {one.state}": one.files_per_s
        for one in measurement.rates
        if one.access != "sequential"
    }
    sequential = {f"largest file, {one.state}": one.gb_per_s for one in measurement.rates if one.access == "sequential"}
    return svg.document(
        [
            svg.cumulative(f"Latency at {where}", latencies),
            svg.bars("Whole files", "files/s", files),
            svg.bars("Sequential", "GB/s", sequential),
        ]
    )
