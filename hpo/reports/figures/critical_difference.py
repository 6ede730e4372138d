"""Demšar's diagram (2006), upright: methods by mean rank, and lines beside those that are not told apart."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from hpo.reports.figures.look import FAINT, Ink, Json, figure, plain


def critical_difference(compared: Json, ink: Mapping[str, Ink]) -> go.Figure | None:
    """A dot for each method's mean rank; the grey lines join methods whose ranks differ by less than the difference.

    None where the comparison gives no critical difference: its note says why.
    """
    found = compared["critical_difference"]
    if found["difference"] is None:
        return None
    mean = sorted(found["ranks"].items(), key=lambda item: item[1])
    place = {title: i for i, (title, _) in enumerate(mean)}
    ranks = [rank for _, rank in mean]
    dots = go.Scatter(
        x=ranks,
        y=list(place.values()),
        mode="markers",
        marker={"size": 12, "color": [ink[title].color for title in place]},
        text=[f"{plain(title)}: mean rank {rank:.2f}" for title, rank in zip(place, ranks, strict=True)],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    groups = [sorted(place[t] for t in group) for group in found["groups"]]
    top, difference = min(ranks), found["difference"]
    beyond = max(*ranks, top + difference) + 0.15
    bars = [
        go.Scatter(
            x=[beyond + 0.12 * i] * 2, y=[group[0] - 0.22, group[-1] + 0.22], mode="lines",
            line={"color": FAINT, "width": 5}, hoverinfo="skip", showlegend=False,
        )
        for i, group in enumerate(groups)
    ]  # fmt: skip
    ruler = go.Scatter(
        x=[top, top + difference], y=[-0.8, -0.8], mode="lines+markers", showlegend=False,
        line={"color": FAINT, "width": 2}, marker={"symbol": "line-ns-open", "size": 9, "color": FAINT},
        hovertemplate=f"critical difference {difference:.2f}<extra></extra>",
    )  # fmt: skip
    y = {
        "tickvals": list(place.values()), "ticktext": list(map(plain, place)), "range": [len(mean) - 0.5, -1.5],
        "showgrid": False,
    }  # fmt: skip
    x = {"title": "mean rank, 1 is best", "range": [top - 0.15, beyond + 0.12 * len(groups)]}
    drawn = figure([*bars, ruler, dots], x, y, 130 + 30 * len(mean))
    drawn.add_annotation(
        x=top, y=-1.1, text=f"critical difference {difference:.2f}", showarrow=False, xanchor="left", font={"size": 12}
    )
    return drawn
