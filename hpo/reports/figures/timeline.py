"""Who trained what, and when."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from hpo.reports.figures.look import FAILED, PRUNED, RUNNING, Ink, Json, figure, plain

STATES = {"failed": FAILED, "pruned": PRUNED, "running": RUNNING}


def timeline(timeline: Json, ink: Mapping[str, Ink]) -> go.Figure | None:
    """A row for each training a run had at once, a bar from where a trial was opened to where it was closed, or None.

    Complete trials have their method's colour, the others that of their state. Neighbours of one method that would be
    less than a pixel apart come as one bar (`count` of them).
    """
    marks = timeline["marks"]
    if not marks:
        return None
    rows = timeline["rows"]
    traces = []
    for key in [*ink, *STATES]:
        own = [m for m in marks if key == (m["state"] if m["state"] in STATES else m["title"])]
        if not own:
            continue
        state = own[0]["state"]
        traces.append(
            go.Bar(
                name=plain(key),
                meta=key,
                orientation="h",
                base=[m["from"] for m in own],
                x=[m["to"] - m["from"] for m in own],
                y=[m["row"] for m in own],
                marker={
                    "color": STATES[state] if state in STATES else ink[key].color,
                    "pattern": {
                        "shape": _pattern(state, ink[key].dash if state not in STATES else "solid"),
                        "solidity": 0.4,
                    },
                    "line": {"width": 0},
                },
                customdata=[plain(_says(m)) for m in own],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    y = {
        "tickvals": list(range(len(rows))) if len(rows) <= 24 else [],
        "ticktext": list(map(plain, rows)) if len(rows) <= 24 else [],
        "range": [len(rows) - 0.5, -0.5],
        "title": "" if len(rows) <= 24 else f"{len(rows)} rows of runs",
        "showgrid": False,
    }
    height = 110 + min(18 if len(rows) > 8 else 30, 480 // max(1, len(rows))) * len(rows)
    x = {"title": f"{timeline['unit']} since the first trial", "range": [0, max(m["to"] for m in marks)]}
    return figure(traces, x, y, max(height, 160), barmode="overlay", bargap=0.25)


def _pattern(state: str, dash: str) -> str:
    """Hatched while it runs; dotted where the method's colour is another's too."""
    return "/" if state == "running" else "" if dash == "solid" else "."


def _says(mark: Json) -> str:
    if mark["count"] > 1:
        return f"{mark['count']} trials of {mark['title']}, from trial {mark['number']} of {mark['arm']}"
    return f"trial {mark['number']} of {mark['arm']}: {mark['state']}"
