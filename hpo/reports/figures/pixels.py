"""The values of the input units where they are: on the image grid, or beside the names of the columns."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from hpo.reports.figures.look import Json, figure

BLUE_RED = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
"""RdBu of ColorBrewer, which colour-blind people can read: blue below the default, red above it."""


def pixels(images: Json, frame: int) -> go.Figure:
    """One meta-iteration's values on the image grid, as log10 about the default; the scale is that of all frames."""
    height, width = images["shape"]
    grid = images["frames"][frame]
    z = [grid[row * width : (row + 1) * width] for row in range(height)]
    says = f"row %{{y}}, column %{{x}}: {images['name']} = 10<sup>%{{z:.2f}}</sup><extra></extra>"
    below = {"orientation": "h", "y": -0.02, "yanchor": "top", "len": 0.8}
    trace = go.Heatmap(z=z, hovertemplate=says, colorbar=_bar(images, "bottom") | below, **_scale(images))
    blank = {"showticklabels": False, "showgrid": False, "constrain": "domain"}
    side = {**blank, "scaleanchor": "x", "autorange": "reversed"}
    return figure([trace], blank, side, 440, margin={"l": 8, "r": 8, "t": 8, "b": 8})


def columns(table: Json) -> go.Figure:
    """The values of a table's columns over meta-iterations, those that moved most, as log10 about the default."""
    says = f"%{{y}}, meta-iteration %{{x}}: {table['name']} = 10<sup>%{{z:.2f}}</sup><extra></extra>"
    where = {"x": table["numbers"], "y": table["names"], "z": table["rows"]}
    trace = go.Heatmap(**where, hovertemplate=says, colorbar=_bar(table, "right"), **_scale(table))
    y = {"autorange": "reversed", "showgrid": False, "type": "category", "dtick": 1, "tickfont": {"size": 11}}
    return figure([trace], {"title": "meta-iteration", "showgrid": False}, y, 120 + 18 * len(table["names"]))


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
