"""What all figures have in common: colours, a quiet layout, numbers of four digits.

The colours differ in hue and in lightness, so that they can be told apart by colour-blind people, and stand out from
white and from near-black alike (contrast 3 : 1 or more, WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

Json = Mapping[str, Any]

PALETTE = ("#2a78d6", "#d9730d", "#16936a", "#c4559a", "#8160cf", "#a27d0a", "#2f93b3", "#8f6b57")
DASHES = ("solid", "dash", "dot", "dashdot")
FAILED, PRUNED, RUNNING, FAINT = "#d23f3f", "#8b919b", "#5f6b7a", "#7d848f"

UNITS = {"trainings": "trainings", "gradient_evaluations": "gradient evaluations", "seconds": "seconds"}
"""Units of a budget, as they are written on an axis."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


class Ink(NamedTuple):
    """How the lines of one method are drawn, the same in every figure."""

    color: str
    dash: str

    @property
    def faint(self) -> str:
        """The colour of its band."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.16)"


def inks(titles: Iterable[str]) -> dict[str, Ink]:
    """Title → colour and dash, in the order given; after every eight titles the colours begin again with other dashes.

    Repeated titles count once.
    """
    unique = list(dict.fromkeys(titles))
    return {
        title: Ink(PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]) for i, title in enumerate(unique)
    }


def figure(
    traces: Sequence[Any], x: Mapping[str, Any], y: Mapping[str, Any], height: int = 360, **layout: Any
) -> go.Figure:
    """A figure of these traces; `x` and `y` are the axes' attributes, `title` as text."""
    axis = {"gridcolor": "#dfe3e8", "zeroline": False, "automargin": True, "ticks": "", "linecolor": "#dfe3e8"}
    return go.Figure(
        data=list(traces),
        layout={
            "template": {},
            "height": height,
            "autosize": True,
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "font": {"family": FONT, "size": 13, "color": "#24292f"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "bgcolor": "rgba(0,0,0,0)"},
            "hoverlabel": {"font": {"family": FONT, "size": 12}, "namelength": -1},
            "xaxis": axis | _axis(x),
            "yaxis": axis | _axis(y),
            **layout,
        },
    )


def _axis(given: Mapping[str, Any]) -> dict[str, Any]:
    """The title as large as the ticks, and clear of them."""
    axis = dict(given)
    if "title" in axis:
        axis["title"] = {"text": axis["title"], "standoff": 10, "font": {"size": 13}}
    return axis


def spread_axis(values: Iterable[float | None], title: str, ratio: float = 8.0) -> dict[str, Any]:
    """An axis for figures: logarithmic where all are positive and the largest is more than `ratio` times the smallest.

    Of three decades or more the powers of ten are ticks, of less also their multiples by 2 and 5.
    """
    seen = [v for v in values if v is not None and math.isfinite(v)]
    if not seen or min(seen) <= 0 or max(seen) <= ratio * min(seen):
        return {"title": title}
    low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)))
    if high - low > 3:
        powers = list(range(low, high + 1, math.ceil((high - low) / 8)))
        ticks, texts = [10.0**p for p in powers], [f"10{str(p).translate(RAISED)}" for p in powers]
    else:
        ticks = [multiple * 10.0**power for power in range(low, high + 1) for multiple in (1, 2, 5)]
        texts = [f"{tick:g}" for tick in ticks]
    return {"title": title, "type": "log", "tickvals": ticks, "ticktext": texts}


def rounded(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    """To so many significant digits; what is not finite becomes None, a gap."""
    return [None if v is None or not math.isfinite(v) else float(f"{v:.{digits}g}") for v in values]


def plain(text: str) -> str:
    """A text as Plotly shows it letter by letter, who takes some of HTML for HTML and %{…} for a figure to put in."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "%&#123;")


def step(x: Sequence[Any], y: Sequence[Any], ink: Ink, name: str, **more: Any) -> go.Scatter:
    """A line that stays until it moves; a dot where there is one point alone. `meta` is its name as it is."""
    mode = "lines" if sum(v is not None for v in y) > 1 else "markers"
    line = {"color": ink.color, "dash": ink.dash, "width": 2.2, "shape": "hv"}
    return go.Scatter(x=x, y=y, mode=mode, name=plain(name), meta=name, legendgroup=name, line=line, **more)


def band(
    x: Sequence[Any], low: Sequence[Any], high: Sequence[Any], ink: Ink, group: str, shape: str = "linear"
) -> list[go.Scatter]:
    """What lies between two lines, in the faint colour; nothing to hover over, nothing in the legend."""
    quiet = {"mode": "lines", "line": {"width": 0, "shape": shape}, "hoverinfo": "skip", "showlegend": False}
    return [
        go.Scatter(x=x, y=low, legendgroup=group, **quiet),
        go.Scatter(x=x, y=high, legendgroup=group, fill="tonexty", fillcolor=ink.faint, **quiet),
    ]
