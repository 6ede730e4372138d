"""Best so far, and the mean rank, over what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import plotly.graph_objects as go

from hpo.reports.figures.look import UNITS, Ink, Json, band, figure, plain, rounded, spread_axis, step

PARTS = {"test": "test loss", "validation": "validation loss"}


def best_so_far(compared: Json, unit: str, part: str, ink: Mapping[str, Ink]) -> go.Figure | None:
    """The incumbent's loss on `part` over `unit` spent: median and middle half over (data, seed); None without any.

    The incumbent is the trial with the lowest validation loss so far, whichever part it is judged on.
    """
    traces: list[Any] = []
    seen: list[float | None] = []
    for title, by_unit in compared["curves"].items():
        drawn = by_unit[unit]
        spread = {key: rounded(drawn[part][key]) for key in ("low", "median", "high")}
        if all(v is None for v in spread["median"]):
            continue
        at = rounded(drawn["at"])
        seen += chain.from_iterable(spread.values())
        there = [i for i, v in enumerate(spread["median"]) if v is not None]
        begins = slice(there[0], there[-1] + 1)
        traces += band(at[begins], spread["low"][begins], spread["high"][begins], ink[title], title, "hv")
        traces.append(step(at[begins], spread["median"][begins], ink[title], title, hovertemplate=_says(title)))
    if not traces:
        return None
    what = PARTS[part] if compared["scale"] == "test_loss" else f"{PARTS[part]} (1: at the defaults)"
    y = spread_axis(seen, f"{what} of the best so far", ratio=5)
    return figure(traces, {"title": _spent(unit), "rangemode": "tozero"}, y, 400, hovermode="closest")


def ranks(compared: Json, unit: str, ink: Mapping[str, Ink]) -> go.Figure | None:
    """Mean rank of the incumbents' test loss over `unit` spent, 1 on top; None where there is none."""
    drawn = compared["ranks"][unit]
    traces = [
        step(rounded(drawn["at"]), rounded(mean), ink[title], title, hovertemplate=_says(title))
        for title, mean in drawn["methods"].items()
        if any(v is not None for v in mean)
    ]
    if len(traces) < 2:
        return None
    y = {"title": "mean rank, 1 is best", "autorange": "reversed"}
    return figure(traces, {"title": _spent(unit), "rangemode": "tozero"}, y, 340)


def _spent(unit: str) -> str:
    return f"{UNITS[unit]} spent by an arm"


def _says(title: str) -> str:
    return f"{plain(title)}<br>%{{x:.4~s}} spent: %{{y:.4g}}<extra></extra>"
