"""Tables for a terminal of 80 columns or more, or for a file: from the JSON of `listing` to what rich prints.

terminal.show(rich.console.Console(), listing.show(ledger, "digits-per-neuron"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.reports import tables
from hpo.reports.units import NONE, count, duration, figure, noun, seeds, size

Json = Mapping[str, Any]


def studies(console: Console, entries: Sequence[Json]) -> None:
    """`hpo list`."""
    if not entries:
        console.print(Text("No studies yet: hpo run FILE starts one."))
        return
    table = tables.table("study", "created", "arms>", "trials>", "state", "best\nvalidation>")
    for e in entries:
        created = e["created"][:16].replace("T", " ")
        tables.row(table, e["study"], created, e["arms"], e["trials"], e["state"], figure(e["best_validation_loss"]))
    console.print(table)


def show(console: Console, shown: Json) -> None:
    """`hpo show`: the study in three lines, its arms, every arm's trials, and what the best of them told."""
    created = shown["created"][:16].replace("T", " ")
    console.print(
        Text(f"{shown['study']}, created {created} UTC", style="bold"), *tables.lines(_head(shown["spec"])), sep="\n"
    )
    console.print(_arms(shown["arms"]))
    for arm in shown["arms"]:
        if arm["trials"]:
            console.print(
                Text(f"\n{arm['label']}: {arm['state']}", style="bold"), trials_table(arm["trials"]), sep="\n"
            )
            console.print(*tables.lines(_told(arm["trials"])), sep="\n")


def check(console: Console, checked: Json) -> None:
    """`hpo check`: what the study will run. Seeds change nothing of it, so an arm stands there once."""
    console.print(Text(f"{checked['study']} can be run", style="bold"), *tables.lines(_head(checked["spec"])), sep="\n")
    table = tables.table(
        "arm", "training\nrows>", "validation\nrows>", "test\nrows>", "weights>", "evals per\ntrial>", "values"
    )
    for arm in {arm["title"]: arm for arm in checked["arms"]}.values():
        values = "\n".join(f"{g['name']}: {g['size']} ({g['per']})" for g in arm["space"])
        charge = count(arm["gradient_evaluations_per_trial"])
        tables.row(table, arm["title"], *arm["rows"].values(), arm["parameters"], charge, values)
    console.print(table)
    console.print(*tables.lines(expectations(checked)), sep="\n")


def expectations(checked: Json) -> list[str]:
    """What each method is expected to take, a sentence each, and the whole study."""
    methods: dict[str, list[Json]] = {}
    for arm in checked["arms"]:
        methods.setdefault(arm["title"], []).append(arm)
    lines = [_expectation(title, arms) for title, arms in methods.items()]
    workers = checked["spec"]["resources"]["workers"]
    shared = "one worker" if workers == 1 else f"{workers} workers"
    return [
        *lines,
        f"The whole study: about {duration(checked['seconds'])} of work for {shared}, as a few steps of the training "
        "on this machine foretell. Proposals are not counted, nor activations and torch itself in the memory.",
    ]


def _expectation(title: str, arms: Sequence[Json]) -> str:
    one = arms[0]
    trials = "1 trial" if one["trials"] == 1 else f"{one['trials']} trials"
    whole = f", as if {one['pruner']} stopped none" if one["pruner"] else ""
    return (
        f"{title}: about {duration(one['seconds_per_trial'])} and {size(one['memory_bytes'])} a trial, "
        f"{duration(sum(arm['seconds'] for arm in arms))} in all ({trials}, {seeds(len(arms))}{whole})"
    )


def _head(spec: Json) -> list[str]:
    problem, training = spec["problem"], spec["training"]
    budget = ", ".join(f"{amount:g} {noun(amount, unit)}" for unit, amount in spec["budget"].items() if amount)
    space = ", ".join(f"{name} {'auto' if d == 'auto' else 'per ' + d['per']}" for name, d in spec["space"].items())
    return [
        f"{problem['data']}, {training['steps']} steps of {training['batch_size']}; {space}",
        f"budget of an arm: {budget}; {seeds(len(spec['seeds']))}",
    ]


def _arms(arms: Sequence[Json]) -> Table:
    table = tables.table(
        "arm", "per", "state", "trials>", "best\nvalidation>", "train-\nings>", "grad.\nevals>", "time>"
    )
    for arm in arms:
        losses = [t["validation_loss"] for t in arm["trials"] if t["state"] == "complete"]
        best = min((loss for loss in losses if loss is not None), default=None)
        cost = arm["cost"]
        tables.row(
            table,
            arm["label"],
            arm["per"] or NONE,
            arm["state"],
            len(arm["trials"]),
            figure(best),
            count(cost["trainings"]),
            count(cost["gradient_evaluations"]),
            duration(cost["seconds"]),
        )
    return table


def trials_table(trials: Sequence[Json]) -> Table:
    """One row a trial."""
    table = tables.table("trial>", "state", "validation>", "test>", "grad.\nevals>", "time>", "lowest…median…highest")
    for t in trials:
        hyper = "\n".join(f"{name} {_spread(spread)}" for name, spread in t["hyper"].items())
        losses = figure(t["validation_loss"]), figure(t["test_loss"])
        cost = count(t["gradient_evaluations"]), duration(t["seconds"])
        tables.row(
            table, t["number"], t["state"], *losses, *cost, f"{hyper}\n{t['failure']}" if t["failure"] else hyper
        )
    return table


def _told(trials: Sequence[Json]) -> list[str]:
    """The figures that the best trial's solver and hypergradient told."""
    usable = [t for t in trials if t["state"] == "complete" and t["validation_loss"] is not None and t["report"]]
    if not usable:
        return []
    best = min(usable, key=lambda t: t["validation_loss"])
    figures = ", ".join(f"{name} {NONE if x is None else f'{x:.3g}'}" for name, x in best["report"].items())
    return [f"trial {best['number']}: {figures}"]


def _spread(spread: Json) -> str:
    ends = [NONE if spread[key] is None else f"{spread[key]:.2g}" for key in ("min", "median", "max")]
    return ends[0] if len(set(ends)) == 1 else "…".join(ends)
