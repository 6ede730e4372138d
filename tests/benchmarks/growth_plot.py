"""Small log-log plots side by side, the slope at the upper end beside each line, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

Line = Sequence[tuple[float, float]]

WIDTH, HEIGHT, COLUMNS = 330, 230, 3
LEFT, RIGHT, TOP, BOTTOM = 48, 76, 30, 36
STYLE = """
svg { font: 11px sans-serif; fill: #222 } .ground { fill: #fff } .frame { fill: none; stroke: #999 }
.c0 { color: #1f77b4 } .c1 { color: #c2510c } .c2 { color: #2a8a2a } .c3 { color: #8a4fbf } .title { font-weight: bold }
polyline { fill: none; stroke: currentColor; stroke-width: 1.5 } circle, .label { fill: currentColor }
@media (prefers-color-scheme: dark) {
svg { fill: #ddd } .ground { fill: #111 } .frame { stroke: #777 }
.c0 { color: #6cb4f0 } .c1 { color: #ff9a57 } .c2 { color: #6fcf6f } .c3 { color: #c79bf2 } }
"""


class Panel(NamedTuple):
    """Lines by name over what `across` counts."""

    title: str
    across: str
    lines: Mapping[str, Line]


GROWN = 1.25


def slope(line: Line) -> float:
    """d log y / d log x between the last two points; NaN for fewer.

    Of what y has grown by since the first point, where both are a quarter above it: a constant would hide a square.
    """
    points = [(x, y) for x, y in line if y > 0]
    if len(points) < 2:
        return math.nan
    (before, low), (last, high) = points[-2:]
    start = points[0][1] if min(low, high) > GROWN * points[0][1] else 0.0
    return math.log((high - start) / (low - start)) / math.log(last / before)


def svg(panels: Sequence[Panel]) -> str:
    """The panels in rows of three."""
    rows = -(-len(panels) // COLUMNS)
    size = f"{WIDTH * COLUMNS} {HEIGHT * rows}"
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">', f"<style>{STYLE}</style>"]
    drawn += ['<rect class="ground" width="100%" height="100%"/>']
    for i, panel in enumerate(panels):
        corner = f"{i % COLUMNS * WIDTH} {i // COLUMNS * HEIGHT}"
        drawn += [f'<g transform="translate({corner})">', *_panel(panel), "</g>"]
    return "\n".join([*drawn, "</svg>", ""])


def _panel(panel: Panel) -> Iterable[str]:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    points = [p for line in panel.lines.values() for p in line if p[1] > 0]
    yield f'<text class="title" x="{LEFT}" y="{TOP - 10}">{escape(panel.title)}</text>'
    yield f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{wide}" height="{high}"/>'
    yield f'<text x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(panel.across)}</text>'
    if not points:
        return
    (x0, x1), (y0, y1) = (_ends([p[i] for p in points]) for i in (0, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + wide * (math.log10(x) - x0) / (x1 - x0), TOP + high * (1 - (math.log10(y) - y0) / (y1 - y0))

    for value, end in ((x0, "start"), (x1, "end")):
        x = at(10**value, 10**y0)[0]
        yield f'<text x="{x:.0f}" y="{TOP + high + 14}" text-anchor="{end}">{10**value:,.0f}</text>'
    for value in (y0, y1):
        yield f'<text x="{LEFT - 4}" y="{at(10**x0, 10**value)[1] + 4:.0f}" text-anchor="end">{10**value:.3g}</text>'
    below = math.inf
    lines = [(i % 4, name, [(x, y) for x, y in line if y > 0]) for i, (name, line) in enumerate(panel.lines.items())]
    for i, name, line in sorted((one for one in lines if one[2]), key=lambda one: one[2][-1][1]):
        places = [at(x, y) for x, y in line]
        yield f'<g class="c{i}"><polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in places)
        below = min(places[-1][1] + 4, below - 12)  # labels do not lie on one another
        yield f'<text class="label" x="{LEFT + wide + 5}" y="{below:.1f}">{escape(name)} {_slope(line)}</text></g>'


def _slope(line: Line) -> str:
    return f"{slope(line):.2f}" if len(line) > 1 else ""


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around all of them, as exponents; y within a decade is still seen to be flat."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    return float(low), float(max(high, low + 1))
