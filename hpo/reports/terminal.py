"""Tables for a terminal of 80 columns or more, or for a file: from the JSON of `listing` to what rich prints.

terminal.compare(rich.console.Console(), listing.compare(ledger, "digits-per-neuron"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.reports.comparison import FEWEST, seeds_needed
from hpo.reports.units import NONE, count, duration, figure, size

Json = Mapping[str, Any]
ENDED = ("complete", "failed")


def studies(console: Console, entries: Sequence[Json]) -> None:
    """`hpo list`."""
    if not entries:
        console.print(Text("No studies yet: hpo run FILE starts one."))
        return
    table = _table("study", "created", "arms>", "trials>", "state", "best\nvalidation>")
    for e in entries:
        created = e["created"][:16].replace("T", " ")
        _row(table, e["study"], created, e["arms"], e["trials"], e["state"], figure(e["best_validation_loss"]))
    console.print(table)


def show(console: Console, shown: Json) -> None:
    """`hpo show`: the study in three lines, its arms, every arm's trials, and what the best of them told."""
    created = shown["created"][:16].replace("T", " ")
    console.print(
        Text(f"{shown['study']}, created {created} UTC", style="bold"), *_lines(_head(shown["spec"])), sep="\n"
    )
    console.print(_arms(shown["arms"]))
    for arm in shown["arms"]:
        if arm["trials"]:
            console.print(Text(f"\n{arm['label']}: {arm['state']}", style="bold"), _trials(arm["trials"]), sep="\n")
            console.print(*_lines(_told(arm["trials"])), sep="\n")


def compare(console: Console, compared: Json) -> None:
    """`hpo compare`: one row per method, best mean rank first, and what may be concluded."""
    table = _table(
        "method", "rank>", "test\nloss>", "over seeds,\nfrom…to>", "valid.\nloss>", "accu-\nracy>",
        "train-\nings>", "grad.\nevals>", "time>",
    )  # fmt: skip
    for m in compared["methods"]:
        accuracy, cost = m["median_test_accuracy"], m["cost"]
        _row(
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
    console.print(Text(compared["study"], style="bold"), table, sep="\n")
    console.print(*_lines([_legend(compared), *_cautions(compared), *verdicts(compared)]), sep="\n")


def check(console: Console, checked: Json) -> None:
    """`hpo check`: what the study will run. Seeds change nothing of it, so an arm stands there once."""
    console.print(Text(f"{checked['study']} can be run", style="bold"), *_lines(_head(checked["spec"])), sep="\n")
    table = _table(
        "arm", "training\nrows>", "validation\nrows>", "test\nrows>", "weights>", "evals per\ntrial>", "values"
    )
    for arm in {arm["title"]: arm for arm in checked["arms"]}.values():
        values = "\n".join(f"{g['name']}: {g['size']} ({g['per']})" for g in arm["space"])
        charge = count(arm["gradient_evaluations_per_trial"])
        _row(table, arm["title"], *arm["rows"].values(), arm["parameters"], charge, values)
    console.print(table)
    console.print(*_lines(expectations(checked)), sep="\n")


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
        f"{duration(sum(arm['seconds'] for arm in arms))} in all ({trials}, {_seeds(len(arms))}{whole})"
    )


def verdicts(compared: Json) -> list[str]:
    """What the pairs say about the best ranked method against each of the others, a sentence each."""
    if len(compared["methods"]) < 2:
        return ["One method: nothing to compare it with."]
    best = compared["methods"][0]["label"]
    against = [p for p in compared["pairs"] if p["a"] == best and p["n"]]
    if not against:
        return ["No finished trials yet: nothing to compare."]
    lines = [_verdict(p) for p in against]
    seeds, methods = min(p["n"] for p in against), len(compared["methods"])
    needed = seeds_needed(len(compared["pairs"]))
    if seeds < needed:
        lines.append(
            f"{_seeds(seeds)} cannot show that a difference is more than chance: over all pairs of {methods} methods "
            f"a signed-rank test needs {needed} or more (seeds: {needed})."
        )
    return lines


def _verdict(pair: Json) -> str:
    ties = f" ({pair['ties']} equal)" if pair["ties"] else ""
    text = f"{pair['a']} against {pair['b']}: lower test loss on {pair['wins']} of {_seeds(pair['n'])}{ties}"
    if pair["median_difference"] is not None:
        text += f", median difference {pair['median_difference']:+.3g}"
    if pair["ci95"] is not None and pair["n"] >= FEWEST:
        text += f" (95 % interval {pair['ci95'][0]:+.3g} … {pair['ci95'][1]:+.3g})"
    if pair["p_value"] is None:
        return text + "."
    meaning = "more than chance" if pair["p_holm"] <= 0.05 else "may be chance"
    return text + f", p = {pair['p_value']:.3g}, {pair['p_holm']:.3g} after Holm's correction: {meaning}."


def _legend(compared: Json) -> str:
    return (
        f"Rank: mean over {_seeds(len({a['seed'] for a in compared['arms']}))}, by the test loss of the trial with the "
        "lowest validation loss. Losses and accuracy: medians over seeds. Cost: mean of an arm."
    )


def _cautions(compared: Json) -> list[str]:
    arms, lines = compared["arms"], []
    unfinished = sum(a["state"] not in ENDED for a in arms)
    if unfinished:
        lines.append(f"{unfinished} of {len(arms)} arms are not finished: these figures will change.")
    for m in compared["methods"]:
        without = [a for a in arms if a["title"] == m["label"] and a["state"] in ENDED and a["best_trial"] is None]
        if without:
            lines += [f"{m['label']} has no usable trial on {len(without)} of {_seeds(m['seeds'])}: ranked last there."]
    return lines


def _head(spec: Json) -> list[str]:
    problem, training = spec["problem"], spec["training"]
    budget = ", ".join(f"{amount:g} {unit.replace('_', ' ')}" for unit, amount in spec["budget"].items() if amount)
    space = ", ".join(f"{name} {'auto' if d == 'auto' else 'per ' + d['per']}" for name, d in spec["space"].items())
    return [
        f"{problem['data']}, {training['steps']} steps of {training['batch_size']}; {space}",
        f"budget of an arm: {budget}; {_seeds(len(spec['seeds']))}",
    ]


def _lines(texts: Sequence[str]) -> list[Text]:
    return [Text(text) for text in texts]


def _arms(arms: Sequence[Json]) -> Table:
    table = _table("arm", "per", "state", "trials>", "best\nvalidation>", "train-\nings>", "grad.\nevals>", "time>")
    for arm in arms:
        losses = [t["validation_loss"] for t in arm["trials"] if t["state"] == "complete"]
        best = min((loss for loss in losses if loss is not None), default=None)
        cost = arm["cost"]
        _row(
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


def _trials(trials: Sequence[Json]) -> Table:
    table = _table("trial>", "state", "validation>", "test>", "grad.\nevals>", "time>", "lowest…median…highest")
    for t in trials:
        hyper = "\n".join(f"{name} {_spread(spread)}" for name, spread in t["hyper"].items())
        losses = figure(t["validation_loss"]), figure(t["test_loss"])
        cost = count(t["gradient_evaluations"]), duration(t["seconds"])
        _row(table, t["number"], t["state"], *losses, *cost, f"{hyper}\n{t['failure']}" if t["failure"] else hyper)
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


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _table(*columns: str) -> Table:
    """Columns by heading; one that ends in '>' is a number, to the right and never broken."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        number = column.endswith(">")
        table.add_column(
            column.removesuffix(">"), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(str(cell)) for cell in cells))
