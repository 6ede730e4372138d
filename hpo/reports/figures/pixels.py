"""The values of the input units where they are: on the image grid, or beside the names of the columns."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from hpo.reports.figures.look import Json, figure, plain

BLUE_RED = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
"""RdBu of ColorBrewer, which colour-blind people can read: blue below the default, red above it."""

BAR_BELOW = {"orientation": "h", "yanchor": "top"}
BELOW = 60
"""Pixels that an axis and its title take."""

LONG = 24
"""Characters of a column's name; of a longer one both ends are written, and the whole where the pointer is."""


def pixels(images: Json, frame: int) -> go.Figure:
    """One meta-iteration's values on the image grid, as log10 about the default; the scale is that of all frames."""
    height, width = images["shape"]
    grid = images["frames"][frame]
    z = [grid[row * width : (row + 1) * width] for row in range(height)]
    says = f"row %{{y}}, column %{{x}}: {images['name']} = 10<sup>%{{z:.2f}}</sup><extra></extra>"
    below = {"y": -0.02, "len": 0.8} | BAR_BELOW
    trace = go.Heatmap(z=z, hovertemplate=says, colorbar=_bar(images, "bottom") | below, **_scale(images))
    blank = {"showticklabels": False, "showgrid": False, "constrain": "domain"}
    side = {**blank, "scaleanchor": "x", "autorange": "reversed"}
    return figure([trace], blank, side, 440, margin={"l": 8, "r": 8, "t": 8, "b": 8})


def columns(table: Json) -> go.Figure:
    """The values of a table's columns over meta-iterations, those that moved most, as log10 about the default."""
    names, numbers = table["names"], table["numbers"]
    says = f"%{{text}}, meta-iteration %{{x}}: {table['name']} = 10<sup>%{{z:.2f}}</sup><extra></extra>"
    whole = [[plain(name)] * len(numbers) for name in names]
    under = {"y": -BELOW / (18 * len(names)), "len": 0.8} | BAR_BELOW
    trace = go.Heatmap(
        x=numbers, z=table["rows"], text=whole, hovertemplate=says, colorbar=_bar(table, "bottom") | under,
        **_scale(table),
    )  # fmt: skip
    short = [name if len(name) <= LONG else f"{name[:12]}…{name[-11:]}" for name in names]
    y = {
        "autorange": "reversed", "showgrid": False, "tickvals": list(range(len(names))),
        "ticktext": list(map(plain, short)), "tickfont": {"size": 11},
    }  # fmt: skip
    margin = {"l": 8, "r": 12, "t": 12, "b": 2 * BELOW}
    return figure([trace], {"title": "meta-iteration", "showgrid": False}, y, 132 + 18 * len(names), margin=margin)


def _scale(given: Json) -> dict[str, Any]:
    middle, reach = given["middle"], given["reach"]
    return {"colorscale": BLUE_RED, "zmin": middle - reach, "zmax": middle + reach, "zmid": middle}


def _bar(given: Json, side: str) -> dict[str, Any]:
    """Ticks at whole powers of ten where three or more fit, else at the ends and the default."""
    middle, reach = given["middle"], given["reach"]
    whole = [float(t) for t in range(math.ceil(middle - reach), math.floor(middle + reach) + 1)]
    ticks = whole[:: math.ceil(len(whole) / 9)] if len(whole) >= 3 else [middle - reach, middle, middle + reach]
    title = {"text": given["name"].replace("_", " "), "side": side, "font": {"size": 13}}
    text = [f"{10**t:.2g}" for t in ticks]
    return {"title": title, "thickness": 12, "outlinewidth": 0, "tickvals": ticks, "ticktext": text}
