"""How the trainings of the selected trials went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from hpo.reports.figures.look import Ink, Json, figure, plain, spread_axis


def learning_curves(selected: Sequence[Json], ink: Mapping[str, Ink]) -> go.Figure | None:
    """Validation loss (solid) and training loss (dotted) over the steps of each given trial; None without a curve."""
    traces: list[Any] = []
    seen: list[float | None] = []
    named: set[str] = set()
    for one in selected:
        if not one["steps"]:
            continue
        title = one["title"]
        for part, dash in (("validation", "solid"), ("training", "dot")):
            seen += one[part]
            whose = f"trial {one['trial']} of {one['arm']} of {one['study']}"
            says = f"{plain(whose)}, {part}<br>step %{{x}}: %{{y:.4g}}<extra></extra>"
            traces.append(
                go.Scatter(
                    x=one["steps"],
                    y=one[part],
                    mode="lines" if len(one["steps"]) > 1 else "markers",
                    name=plain(title),
                    meta=title,
                    legendgroup=title,
                    opacity=0.85,
                    showlegend=title not in named,
                    line={"color": ink[title].color, "dash": dash, "width": 1.6},
                    hovertemplate=says,
                )
            )
            named.add(title)
    if not traces:
        return None
    return figure(
        traces, {"title": "steps of the training"}, spread_axis(seen, "loss on up to 1,000 rows", ratio=5), 380
    )
