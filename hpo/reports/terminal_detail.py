"""`hpo show NAME ARM` and `hpo show NAME ARM TRIAL` for a terminal, from the JSON of `detail`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo.reports.tables import lines, row, table
from hpo.reports.terminal import Json, trials_table
from hpo.reports.units import NONE, count, duration, figure, noun

SHORT = 12
"""Trials of an arm that are all shown; of more the first, the best and the last few."""

FIRST, LAST = 3, 5

BLOCKS = "▁▂▃▄▅▆▇█"
WIDE = 60
"""Characters of a spark line."""


def arm(console: Console, shown: Json) -> None:
    """What the arm is, what it cost, its losses as a line, its trials."""
    trials = shown["trials"]
    console.print(Text(f"{shown['study']}  {shown['label']}: {shown['state']}", style="bold"))
    console.print(*lines(_settings(shown)), sep="\n")
    if not trials:
        console.print(Text("No trials yet."))
        return
    losses = [t["validation_loss"] for t in trials if t["state"] != "running"]
    if any(loss is not None for loss in losses):
        console.print(Text(f"validation loss, trial by trial:  {spark(losses)}"))
    kept = _few(trials, shown["best_trial"])
    console.print(trials_table(kept))
    if len(kept) < len(trials):
        left = len(trials) - len(kept)
        console.print(Text(f"{left} of {len(trials)} trials are left out: --json has them all."))
    if shown["best_trial"] is not None:
        one = shlex.join([shown["study"], shown["label"], str(shown["best_trial"])])
        console.print(Text(f"Next:  hpo show {one}"), soft_wrap=True)


def trial(console: Console, shown: Json) -> None:
    """Figures, cost, place, values by layer and by name, hypergradient by layer."""
    console.print(
        Text(f"{shown['study']}  {shown['label']}  trial {shown['number']}: {shown['state']}", style="bold"),
        *lines(_figures(shown)),
        sep="\n",
    )
    for name, group in shown["values"].items():
        norms = [p["norm"] for p in shown["hypergradient"][name]["pieces"]] if shown["hypergradient"] else None
        title = f"\n{name}, per {group['per']}: {group['size']} from {group['low']:g} to {group['high']:g}"
        console.print(Text(title, style="bold"))
        console.print(_pieces(group["pieces"], norms))
        if _spread_out(group):
            ends = table("largest", ">", "smallest", ">")
            for high, low in zip(group["largest"], group["smallest"], strict=True):
                row(ends, high["name"], _short(high["value"]), low["name"], _short(low["value"]))
            console.print(ends)


def _spread_out(group: Json) -> bool:
    """Whether its values differ: of equal ones none is the largest."""
    ends = [end["value"] for end in (*group["largest"], *group["smallest"])]
    return len(set(ends)) > 1


def spark(losses: Sequence[float | None]) -> str:
    """The losses as blocks, the shortest is the lowest; × is not finite. Of many neighbours the lowest is drawn."""
    if len(losses) > WIDE:
        cuts = [i * len(losses) // WIDE for i in range(WIDE + 1)]
        parts = [[x for x in losses[a:b] if x is not None] for a, b in pairwise(cuts)]
        losses = [min(part, default=None) for part in parts]
    known = [x for x in losses if x is not None]
    low, wide = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    top = len(BLOCKS) - 1
    return "".join("×" if x is None else BLOCKS[round(top * (x - low) / wide) if wide else 0] for x in losses)


def _few(trials: Sequence[Json], best: int | None) -> list[Json]:
    if len(trials) <= SHORT:
        return list(trials)
    last = len(trials) - LAST
    return [t for i, t in enumerate(trials) if i < FIRST or i >= last or t["number"] == best]


def _settings(shown: Json) -> list[str]:
    cost = shown["cost"]
    spent = ", ".join(f"{count(cost[unit])} {noun(cost[unit], unit)}" for unit in ("trainings", "gradient_evaluations"))
    space = ", ".join(f"{g['name']}: {g['size']} ({g['per']})" for g in shown["space"])
    settings = ", ".join(f"{name}: {_setting(value)}" for name, value in shown["settings"].items())
    known = [f"{shown['method']} with {shown['solver']}, seed {shown['seed']}; {space or 'not described yet'}"]
    return [*known, *([settings] if settings else []), f"spent: {spent}, {duration(cost['seconds'])}"]


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_setting(v)}" for k, v in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figures(shown: Json) -> list[str]:
    accuracy = shown["test_accuracy"]
    told = [f"validation {figure(shown['validation_loss'])}", f"test {figure(shown['test_loss'])}"]
    told += [] if accuracy is None else [f"test accuracy {accuracy:.1%}"]
    ran = "" if shown["ran"] is None else f" on {shown['ran']['host']} (worker {shown['ran']['worker']})"
    spent = shown["gradient_evaluations"]
    found = [
        ", ".join(told),
        f"{count(spent)} {noun(spent, 'gradient_evaluations')} in {duration(shown['seconds'])}, "
        f"{duration(shown['ask_seconds'])} to propose",
        f"{shown['opened'][:19].replace('T', ' ')} UTC to {(shown['closed'] or 'now')[11:19] or 'now'}{ran}",
    ]
    if shown["origin"]:
        found.append(f"imported from {shown['origin']}")
    if shown["failure"]:
        found.append(shown["failure"])
    if shown["report"]:
        found.append(", ".join(f"{name} {_short(value)}" for name, value in shown["report"].items()))
    curve = [validation for _, _, validation in shown["curve"]]
    return [*found, f"validation loss while it trained:  {spark(curve)}"] if curve else found


def _pieces(pieces: Sequence[Json], norms: Sequence[float | None] | None) -> Any:
    heads = ["weight", "values>", "min>", "quarter>", "median>", "quarter>", "max>"]
    made = table(*heads, *(["‖hyper-\ngradient‖>"] if norms else []))
    for i, p in enumerate(pieces):
        spread = [_short(p[key]) for key in ("min", "q1", "median", "q3", "max")]
        row(made, p["where"], p["count"], *spread, *([_short(norms[i])] if norms else []))
    return made


def _short(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"
