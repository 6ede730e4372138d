"""Everything a report shows of one or more studies, read from the ledger once, as plain JSON values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import study_file
from hpo.reports import descents, slots
from hpo.reports.compared import compare
from hpo.reports.still import Still
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, StudyRecord, TrialRecord

Json = dict[str, Any]
Trials = Mapping[str, Sequence[TrialRecord]]

CURVES = 24
"""Arms whose learning curves are drawn; of more, those with the median test loss of their method."""

PANELS = 6
"""Hypergradient arms whose values are drawn."""

REASONS = 30
"""Kinds of failure that are listed."""


def gather(ledger: Ledger, names: Sequence[str], control: str | None = None) -> Json:
    """`{"studies", "compared", "timeline", "learning", "failures", "panels"}`. Raises BadInput for an unknown study."""
    ledger = Still(ledger)
    compared = compare(ledger, *names, control=control)
    names = compared["studies"]
    records = {name: ledger.study(name) for name in names}
    arms = {name: ledger.arms(name) for name in names}
    figures = {name: ledger.figures(name) for name in names}
    title = {(a["study"], a["label"]): a["title"] for a in compared["arms"]}
    placed = [
        slots.Placed(name, arm.label, title[name, arm.label], trial)
        for name in names
        for arm in arms[name]
        for trial in figures[name][arm.label]
    ]
    return {
        "studies": [_study(name, records[name], arms[name], figures[name]) for name in names],
        "compared": compared,
        "timeline": slots.timeline(placed, [name for name in names if records[name].parent is not None]),
        "learning": _learning(ledger, compared),
        "failures": _failures(placed),
        "panels": _panels(ledger, compared, arms, figures),
    }


def _study(name: str, record: StudyRecord, arms: Sequence[ArmRecord], trials: Trials) -> Json:
    spec = record.spec.canonical()
    states = [t.state for own in trials.values() for t in own if t.origin is None]
    return {
        "name": name,
        "file": study_file.text(record.spec),
        "data": spec["problem"]["data"],
        "budget": {unit: amount for unit, amount in spec["budget"].items() if amount},
        "seeds": spec["seeds"],
        "versions": record.versions,
        "created": record.created.strftime("%Y-%m-%d %H:%M UTC"),
        "updated": record.updated.strftime("%Y-%m-%d %H:%M UTC"),
        "running": record.running,
        "parent": record.parent,
        "arms": len(arms),
        "unfinished": sum(arm.state == "open" for arm in arms),
        "trials": {state: states.count(state) for state in dict.fromkeys(states)},
    }


def _learning(ledger: Still, compared: Json) -> Json:
    """The curves of the selected trials: `{"of": how many there are, "curves": […]}`."""
    chosen = [a for a in compared["arms"] if a["best_trial"] is not None]
    drawn = chosen if len(chosen) <= CURVES else _medians(compared, chosen)[:CURVES]
    return {"of": len(chosen), "curves": [_curve(ledger, arm) for arm in drawn]}


def _curve(ledger: Still, arm: Json) -> Json:
    [trial] = ledger.selected(arm["study"], arm["label"], [arm["best_trial"]])
    assert trial.outcome is not None  # the selected trial is a complete one
    steps, training, validation = trial.outcome.curve.T.tolist()
    return {
        "study": arm["study"], "arm": arm["label"], "title": arm["title"], "trial": arm["best_trial"],
        "steps": [int(s) for s in steps],
        "training": descents.figures(training), "validation": descents.figures(validation),
    }  # fmt: skip


def _medians(compared: Json, arms: Sequence[Json]) -> list[Json]:
    """Of each method on each data set the arm with the median test loss, best ranked methods first."""
    order = {m["label"]: i for i, m in enumerate(compared["methods"])}
    groups: dict[tuple[str, str], list[Json]] = {}
    for arm in sorted(arms, key=lambda a: order[a["title"]]):
        groups.setdefault((arm["title"], arm["data"]), []).append(arm)
    return [_median(group) for group in groups.values()]


def _median(arms: Sequence[Json]) -> Json:
    known = sorted((a for a in arms if a["test_loss"] is not None), key=lambda a: a["test_loss"])
    return known[(len(known) - 1) // 2] if known else arms[0]


def _panels(
    ledger: Still, compared: Json, arms: Mapping[str, Sequence[ArmRecord]], figures: Mapping[str, Trials]
) -> Json:
    """`{"of": (method, data set) pairs that use hypergradients, "panels": those of the first few}`."""
    led = [
        a for a in compared["arms"]
        if a["best_trial"] is not None and any(t.derivative for t in figures[a["study"]][a["label"]])
    ]  # fmt: skip
    chosen = _medians(compared, led)
    panels: list[Json] = []
    for entry in chosen[:PANELS]:
        arm = next(a for a in arms[entry["study"]] if a.label == entry["label"])
        found = descents.panel(ledger, entry["study"], arm, figures[entry["study"]][entry["label"]])
        assert found is not None  # it has a selected trial
        panels.append(found | {"title": entry["title"], "data": entry["data"]})
    return {"of": len(chosen), "panels": panels}


def _failures(placed: Sequence[slots.Placed]) -> Json:
    """Trials that failed or were pruned, and derivatives that could not be had: reasons that differ in numbers alone
    are one kind. `{"kinds": how many, "rows": [{"study", "title", "state", "reason", "count", "arm", "number"}]}`.
    """
    kinds: dict[tuple[str, str, str], Json] = {}
    for study, arm, title, trial in placed:
        if trial.failure is None or trial.origin is not None:
            continue
        kind = (title, trial.state, re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", trial.failure))
        first = {
            "study": study, "title": title, "state": trial.state, "reason": trial.failure, "count": 0, "arm": arm,
            "number": trial.number,
        }  # fmt: skip
        kinds.setdefault(kind, first)["count"] += 1
    rows = sorted(kinds.values(), key=lambda row: (row["state"] != "failed", -row["count"]))
    return {"kinds": len(rows), "rows": rows[:REASONS]}
