"""What a hypergradient method did to its values, meta-iteration by meta-iteration (each one is a trial)."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from hpo.reports.figures.look import FAINT, PALETTE, Ink, Json, band, figure, plain, spread_axis

FAN = (("0", "1"), ("0.05", "0.95"), ("0.25", "0.75"))
"""Pairs of quantiles between which the fan is shaded, from the outermost."""

META = "meta-iteration"


def fan(panel: Json, group: Json) -> go.Figure:
    """Quantiles of the K values of one hyperparameter over meta-iterations, its default and its selected trial."""
    at, quantiles = panel["numbers"], group["quantiles"]
    ink = Ink(PALETTE[0], "solid")
    traces: list[Any] = []
    if group["size"] > 1:
        for low, high in FAN:
            traces += band(at, quantiles[low], quantiles[high], ink, "fan")
    says = f"{META} %{{x}}: median %{{y:.3g}}<extra></extra>"
    traces.append(_line(at, quantiles["0.5"], ink, "median" if group["size"] > 1 else group["name"], says))
    every = [v for q in quantiles.values() for v in q]
    drawn = figure(traces, {"title": META}, _values_axis(group, every), 320, showlegend=False)
    return _marked(drawn, panel, group["default"])


def layers(panel: Json, group: Json) -> go.Figure | None:
    """The median of the values in each layer, with their middle half; None where the values lie in one layer alone."""
    found = group["layers"]
    if len(found) < 2:
        return None
    traces: list[Any] = []
    every: list[float | None] = []
    for i, layer in enumerate(found):
        ink = Ink(PALETTE[i % len(PALETTE)], ("solid", "dash", "dot")[i // len(PALETTE) % 3])
        if layer["size"] > 1:
            traces += band(panel["numbers"], layer["low"], layer["high"], ink, layer["name"])
        says = f"{plain(layer['name'])}, {META} %{{x}}: %{{y:.3g}}<extra></extra>"
        traces.append(_line(panel["numbers"], layer["median"], ink, layer["name"], says))
        every += [*layer["low"], *layer["high"]]
    drawn = figure(traces, {"title": META}, _values_axis(group, every), 340)
    return _marked(drawn, panel, group["default"])


def norms(panel: Json) -> go.Figure | None:
    """The hypergradient's norm over meta-iterations, a line for each hyperparameter; None where none was recorded."""
    traces: list[Any] = []
    every: list[float | None] = []
    for i, group in enumerate(panel["groups"]):
        if any(v is not None for v in group["norm"]):
            name = group["name"].replace("_", " ")
            says = f"{name}, {META} %{{x}}: %{{y:.3g}}<extra></extra>"
            traces.append(_line(panel["numbers"], group["norm"], Ink(PALETTE[i % len(PALETTE)], "solid"), name, says))
            every += group["norm"]
    if not traces:
        return None
    y = spread_axis(every, "hypergradient norm")
    return _marked(figure(traces, {"title": META}, y, 300), panel, None)


def validation(panel: Json) -> go.Figure | None:
    """Validation and test loss over meta-iterations: whether the descent descends, and what that is worth on test."""
    if not any(v is not None for v in panel["validation"]):
        return None
    traces = [
        _line(panel["numbers"], panel[part], Ink(color, dash), f"{part} loss", f"{part} loss %{{y:.4g}}<extra></extra>")
        for part, color, dash in (("validation", PALETTE[0], "solid"), ("test", PALETTE[1], "dash"))
    ]
    y = spread_axis([*panel["validation"], *panel["test"]], "loss", ratio=5)
    return _marked(figure(traces, {"title": META}, y, 300), panel, None)


def agreement(panel: Json) -> go.Figure | None:
    """The cosine between the hypergradient and the exact one, where trials report it."""
    found = panel["agreement"]
    if not found:
        return None
    traces = [
        _line(
            panel["numbers"],
            cosine,
            Ink(PALETTE[i % len(PALETTE)], "solid"),
            name,
            f"{plain(name)} %{{y:.3f}}<extra></extra>",
        )
        for i, (name, cosine) in enumerate(found.items())
    ]
    return _marked(figure(traces, {"title": META}, {"title": "cosine to the exact hypergradient"}, 280), panel, None)


def _values_axis(group: Json, values: list[float | None]) -> dict[str, Any]:
    title = f"{group['name'].replace('_', ' ')}, per {group['per']}"
    return spread_axis(values, title, ratio=4) if group["log"] else {"title": title}


def _line(x: Any, y: Any, ink: Ink, name: str, says: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, mode="lines" if len(x) > 1 else "markers", name=plain(name), meta=name, legendgroup=name,
        hovertemplate=says,
        line={"color": ink.color, "dash": ink.dash, "width": 2},
    )  # fmt: skip


def _marked(drawn: go.Figure, panel: Json, default: float | None) -> go.Figure:
    """With a dotted line at the selected trial and one at the default."""
    if default is not None:
        drawn.add_hline(y=default, line={"color": FAINT, "width": 1, "dash": "dot"})
    if panel["trial"] is not None:
        drawn.add_vline(x=panel["trial"], line={"color": FAINT, "width": 1, "dash": "dot"})
    return drawn
