"""A comparison as text for other programs: Markdown for a README, CSV with one line an arm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo.reports.units import NONE, count, duration, figure
from hpo.reports.verdict import against, cautions

Json = Mapping[str, Any]

ARM = ("study", "data", "title", "label", "method", "solver", "per", "seed", "state", "trials", "best_trial",
       "validation_loss", "test_loss", "test_accuracy")  # fmt: skip


def markdown(compared: Json, all_pairs: bool = False) -> str:
    """The headline, the methods, the pairs of the best one or the control, or all pairs, and what to beware of.

    A | in a name is escaped.
    """
    methods = [
        (
            m["label"], _number(m["mean_rank"], ".2f"), figure(m["median_test_loss"]),
            figure(m["median_validation_loss"]), _number(m["median_test_accuracy"], ".1%"),
            count(m["cost"]["gradient_evaluations"]), duration(m["cost"]["seconds"]),
        )
        for m in compared["methods"]
    ]  # fmt: skip
    pairs = [
        (
            p["a"], p["b"], f"{p['wins']}/{p['ties']}/{p['losses']}", _with(p["median_difference"], p["ci95"], "+.3g"),
            _with(p["median_reduction"], p["reduction_ci95"], ".1%"), _number(p["effect_size"], "+.2f"),
            _number(p["p_value"], ".2g"), _number(p["p_holm"], ".2g"),
        )
        for p in (compared["pairs"] if all_pairs else against(compared))
    ]  # fmt: skip
    loss = "test loss" if len(compared["data"]) == 1 else compared["scale"]
    parts = [
        f"**{compared['study']}**: {compared['verdict'][0]}",
        _table(["method", "mean rank", f"median {loss}", "validation", "accuracy", "gradients", "time"], methods),
    ]
    if len(compared["data"]) > 1:
        parts.append(_by_data(compared))
    if pairs:
        p = "p" if len(compared["data"]) == 1 else "p over data sets"
        heads = ["a", "b", "lower/equal/higher", "median a − b (95 %)", "reduction (95 %)", "effect", p, "p (Holm)"]
        parts.append(_table(heads, pairs))
    if beware := cautions(compared):
        parts.append("\n".join(f"- {said}" for said in beware))
    return "\n\n".join(parts)


def _by_data(compared: Json) -> str:
    """The median test loss of every method on every data set, the lowest in bold."""
    titles, rows = [m["label"] for m in compared["methods"]], []
    for data in compared["data"]:
        medians = {m["label"]: m["median_test_loss"] for m in data["methods"]}
        lowest = min((loss for loss in medians.values() if loss is not None), default=None)
        losses = [(medians.get(title), figure(medians.get(title))) for title in titles]
        rows.append(
            [data["name"], *(f"**{said}**" if loss is not None and loss == lowest else said for loss, said in losses)]
        )
    return _table(["median test loss on", *titles], rows)


def table(compared: Json) -> str:
    """CSV: one line an arm, after a line of names; what is not there is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*ARM, *compared["arms"][0]["cost"]])
    for arm in compared["arms"]:
        writer.writerow([*(arm[key] for key in ARM), *arm["cost"].values()])
    return out.getvalue().rstrip("\n")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruled = "|".join("---" if head in ("method", "a", "b", "median test loss on") else "--:" for head in heads)
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in [heads, *rows]]
    return "\n".join([f"| {lines[0]} |", f"|{ruled}|", *(f"| {line} |" for line in lines[1:])])


def _with(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    ends = "" if interval is None else f" ({interval[0]:{form}} … {interval[1]:{form}})"
    return _number(value, form) + ends


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else f"{value:{form}}"
