"""Two kinds of charts as SVG text, by hand: a library would be a dependency of 60 MB for twenty lines of paths.

Colours are distinguishable by the colour-blind (Okabe and Ito 2008) and readable on white and on dark pages, because
each chart paints its own white ground.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
WIDTH, ROW = 720, 22
LEFT, RIGHT, TOP = 64, 32, 34
PLOT_HEIGHT = 240


@dataclass(frozen=True, slots=True)
class Chart:
    """A piece of SVG and its height, so that several can stand below each other."""

    body: str
    height: int


def document(charts: Sequence[Chart]) -> str:
    """One SVG file with *charts* from top to bottom."""
    parts, y = [], 0
    for chart in charts:
        parts.append(f'<g transform="translate(0 {y})">{chart.body}</g>')
        y += chart.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def cumulative(title: str, series: Mapping[str, Sequence[float]]) -> Chart:
    """Latency CDF: for each name the share of its values (microseconds, any order) at or below x, logarithmically."""
    filled = {name: sorted(value for value in values if value > 0) for name, values in series.items()}
    filled = {name: values for name, values in filled.items() if values}
    lowest = min((values[0] for values in filled.values()), default=1.0)
    highest = max((values[-1] for values in filled.values()), default=10.0)
    first = math.floor(math.log10(lowest))
    last = max(first + 1, math.ceil(math.log10(highest)))
    across = WIDTH - LEFT - RIGHT

    def x_of(value: float) -> float:
        return LEFT + across * (math.log10(value) - first) / (last - first)

    def y_of(share: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - share)

    parts = [_text(LEFT, 18, title, weight="bold")]
    for share in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0):
        parts.append(_line(LEFT, y_of(share), WIDTH - RIGHT, y_of(share)))
        parts.append(_text(LEFT - 6, y_of(share) + 4, f"{share:.0%}", anchor="end"))
    for power in range(first, last + 1):
        parts.append(_line(x_of(10.0**power), TOP, x_of(10.0**power), TOP + PLOT_HEIGHT))
        parts.append(_text(x_of(10.0**power), TOP + PLOT_HEIGHT + 16, _shown_time(power), anchor="middle"))
    for (name, values), colour in zip(filled.items(), _colours(), strict=False):
        points = [f"{x_of(values[0]):.1f},{y_of(0):.1f}"]
        step = max(1, len(values) // 300)
        ranks = [*range(0, len(values), step), len(values) - 1]
        points += [f"{x_of(values[rank]):.1f},{y_of((rank + 1) / len(values)):.1f}" for rank in ranks]
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{" ".join(points)}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    legend, legend_height = _legend(list(filled), TOP + PLOT_HEIGHT + 38)
    return Chart("".join(parts) + legend, TOP + PLOT_HEIGHT + 38 + legend_height)


def bars(
    title: str, unit: str, values: Mapping[str, float], spreads: Mapping[str, tuple[float, float]] | None = None
) -> Chart:
    """Horizontal bars from zero, each with its figure, and a whisker from the lowest to the highest of *spreads*."""
    spreads = spreads or {}
    highest = max([*values.values(), *(high for _, high in spreads.values())], default=1.0) or 1.0
    label_width = min(260, 8 + max((len(name) for name in values), default=0) * 7)
    across = WIDTH - label_width - 120
    parts = [_text(8, 18, title, weight="bold")]
    for row, ((name, value), colour) in enumerate(zip(values.items(), _colours(), strict=False)):
        y = TOP + row * ROW
        parts.append(_text(label_width, y + 13, name, anchor="end"))
        width = across * value / highest
        parts.append(
            f'<rect x="{label_width + 6}" y="{y + 2}" width="{width:.1f}" height="{ROW - 7}" fill="{colour}"/>'
        )
        end = width
        if name in spreads:
            low, high = (label_width + 6 + across * bound / highest for bound in spreads[name])
            parts.append(f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="#444444" stroke-width="1.5"/>')
            end = max(end, high - label_width - 6)
        parts.append(_text(label_width + 12 + end, y + 13, f"{figure(value)} {unit}"))
    return Chart("".join(parts), TOP + len(values) * ROW + 14)


def figure(value: float) -> str:
    """*value* with three significant digits and thousands separated: `0.63`, `12.4`, `3,480`."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}" if digits < 5 else f"{value:.2g}"


def _shown_time(power: int) -> str:
    """Ten to the *power* microseconds: `100 us`, `1 ms`, `10 s`."""
    for unit, exponent in (("s", 6), ("ms", 3)):
        if power >= exponent:
            return f"{10 ** (power - exponent)} {unit}"
    return f"{10.0**power:g} us"


def _colours() -> Sequence[str]:
    return COLOURS * 4


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text {place} fill="#222222">{escape(text)}</text>'


def _legend(names: Sequence[str], y: int) -> tuple[str, int]:
    """Names with their colours in rows of three, and the height they take."""
    parts = []
    for number, (name, colour) in enumerate(zip(names, _colours(), strict=False)):
        x, row_y = LEFT + (number % 3) * 210, y + (number // 3) * 18
        parts.append(f'<rect x="{x}" y="{row_y - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(_text(x + 18, row_y, name))
    return "".join(parts), -(-len(names) // 3) * 18 + 8
