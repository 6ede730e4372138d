"""A comparison for a terminal: from the JSON of `compared` to what rich prints.

terminal_comparison.show(rich.console.Console(), compared.compare(ledger, "digits-per-neuron"))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.reports import chart, tables, verdict
from hpo.reports.units import NONE, count, duration, figure

Json = Mapping[str, Any]

UNIT = "gradient_evaluations"
BEST = 4
"""How many methods have a column where each data set has a row."""


def show(console: Console, compared: Json, all_pairs: bool = False) -> None:
    """One row per method, best mean rank first; the best ones over what was spent; what may be concluded."""
    console.print(Text(compared["study"], style="bold"), _methods(compared), sep="\n")
    console.print(*tables.lines([_legend(compared), *_chart(compared, console.width)]), sep="\n")
    if len(compared["data"]) > 1:
        console.print(_data(compared), Text(""), sep="\n")
    if all_pairs:
        console.print(Text(""), _pairs(compared), Text(""), sep="\n")
    console.print(*tables.lines(compared["verdict"]), sep="\n")
    if not all_pairs and compared["control"] is None and len(compared["methods"]) > 2:
        console.print(Text("--all-pairs prints what every two methods have against each other."))


def _methods(compared: Json) -> Table:
    over = "over seeds" if len(compared["data"]) == 1 else "over pairs"
    loss = "test\nloss>" if len(compared["data"]) == 1 else "test\nshare>"
    table = tables.table(
        "method", "rank>", loss, f"{over},\nfrom…to>", "valid.\nloss>", "accu-\nracy>",
        "train-\nings>", "grad.\nevals>", "time>",
    )  # fmt: skip
    for m in compared["methods"]:
        accuracy, cost = m["median_test_accuracy"], m["cost"]
        tables.row(
            table,
            m["label"],
            NONE if m["mean_rank"] is None else f"{m['mean_rank']:.2f}",
            figure(m["median_test_loss"]),
            NONE if m["test_loss_range"] is None else "…".join(map(figure, m["test_loss_range"])),
            figure(m["median_validation_loss"]),
            NONE if accuracy is None else f"{accuracy:.1%}",
            count(cost["trainings"]),
            count(cost["gradient_evaluations"]),
            duration(cost["seconds"]),
        )
    return table


def _data(compared: Json) -> Table:
    """The median test loss of the best ranked methods on every data set; the lowest of all methods has a star."""
    titles = [m["label"] for m in compared["methods"]][:BEST]
    table = tables.table("median test loss on", "seeds>", *(f"{title}>" for title in titles))
    for data in compared["data"]:
        medians = {m["label"]: m["median_test_loss"] for m in data["methods"]}
        lowest = min((loss for loss in medians.values() if loss is not None), default=None)
        losses = [medians.get(title) for title in titles]
        cells = [figure(loss) + ("*" if loss is not None and loss == lowest else " ") for loss in losses]
        tables.row(table, data["name"], len(data["seeds"]), *cells)
    return table


def _pairs(compared: Json) -> Table:
    """The medians over all pairs of data and seed; p is that of the data sets where there are several."""
    p_value = "p" if len(compared["data"]) == 1 else "p over\ndata sets"
    table = tables.table(
        "a", "b", "lower on>", "equal>", "median\na − b>", "reduction,\n95 %>", "effect>", f"{p_value}>", "Holm>"
    )
    for p in compared["pairs"]:
        share = NONE if p["median_reduction"] is None else f"{p['median_reduction']:.1%}"
        if p["reduction_ci95"] is not None:
            share += f"\n{p['reduction_ci95'][0]:.1%}…{p['reduction_ci95'][1]:.1%}"
        tables.row(
            table,
            p["a"],
            p["b"],
            f"{p['wins']} of {p['n']}",
            p["ties"],
            NONE if p["median_difference"] is None else f"{p['median_difference']:+.3g}",
            share,
            NONE if p["effect_size"] is None else f"{p['effect_size']:+.2f}",
            *(NONE if p[key] is None else f"{p[key]:.2g}" for key in ("p_value", "p_holm")),
        )
    return table


def _legend(compared: Json) -> str:
    where = verdict.of_pairs(compared, compared["complete"])
    scale = "" if len(compared["data"]) == 1 else f" A loss is a {compared['scale']} on the same data and seed."
    return (
        f"Rank: mean over {where}, by the test loss of the trial with the lowest validation loss. Losses and accuracy: "
        f"medians.{scale} Cost: mean of an arm."
    )


def _chart(compared: Json, width: int) -> list[str]:
    curves = {title: units[UNIT]["test"]["median"] for title, units in compared["curves"].items()}
    at = compared["ranks"][UNIT]["at"]
    drawn = chart.chart(at, curves, min(width, 100))
    if not drawn:
        return []
    return ["", f"Median test loss of the best trial so far, over gradient evaluations: {chart.legend(list(curves))}",
            *drawn, ""]  # fmt: skip
