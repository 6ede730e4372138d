"""What `hpo list`, `show` and `compare` answer, as plain JSON values read from the ledger.

A number that is not finite is null. `show` and `compare` have the keys of the command line's contract and a few more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hpo.reports import comparison
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord
from hpo.trial import Cost
from solvers.ranges import GRAINS

Json = dict[str, Any]


def studies(ledger: Ledger) -> list[Json]:
    """One entry per study, oldest first; `trials` counts those that ended."""
    return [
        {
            "study": s.name,
            "created": s.created.isoformat(timespec="seconds"),
            "arms": sum(s.arms.values()),
            "trials": s.trials,
            "state": _study_state(s.arms, s.running),
            "best_validation_loss": _finite(s.best_validation_loss),
        }
        for s in ledger.studies()
    ]


def show(ledger: Ledger, name: str) -> Json:
    """One study, its arms, their trials. Raises BadInput if there is no such study."""
    record = ledger.study(name)
    running = record.running
    arms = ledger.arms(name)
    trials = ledger.figures(name)
    return {
        "study": name,
        "created": record.created.isoformat(timespec="seconds"),
        "versions": record.versions,
        "spec": record.spec.canonical(),
        "arms": [
            {
                **_identity(arm),
                "state": _arm_state(arm, trials[arm.label], running),
                "settings": arm.settings,
                "cost": _cost(total(trials[arm.label])),
                "trials": [_trial(arm, trial) for trial in trials[arm.label]],
            }
            for arm in arms
        ],
    }


def compare(ledger: Ledger, name: str) -> Json:
    """The arms of a study by their selected trials, its methods by rank, every two methods paired by seed.

    Raises BadInput if there is no such study.
    """
    record = ledger.study(name)
    running = record.running
    arms = ledger.arms(name)
    trials = ledger.figures(name)
    selected = {arm.label: best(trials[arm.label]) for arm in arms}
    entries = [
        {**_arm(arm, trials[arm.label], selected[arm.label]), "state": _arm_state(arm, trials[arm.label], running)}
        for arm in arms
    ]
    losses = _by_method(arms, selected)
    ranks = dict(zip(losses, comparison.mean_ranks(np.array(list(losses.values()))), strict=True))
    order = sorted(losses, key=lambda title: ranks[title])
    return {
        "study": name,
        "metric": "test_loss",
        "arms": entries,
        "methods": [_method(title, ranks[title], [e for e in entries if e["title"] == title]) for title in order],
        "pairs": _pairs({title: losses[title] for title in order}),
    }


def best(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial an arm hands over: complete and its own, with the lowest finite validation loss."""
    own = [t.state == "complete" and t.origin is None for t in trials]
    chosen = comparison.select(own, [t.validation_loss for t in trials])
    return None if chosen is None else trials[chosen]


def total(trials: Sequence[TrialRecord]) -> Cost:
    """What the closed trials of an arm cost; the seconds include those the method took to ask."""
    closed = [t for t in trials if t.state != "running"]
    return Cost(
        trainings=sum(t.cost.trainings for t in closed),
        gradient_evaluations=sum(t.cost.gradient_evaluations for t in closed),
        seconds=sum(t.cost.seconds + t.ask_seconds for t in closed),
    )


def _by_method(arms: Sequence[ArmRecord], selected: Mapping[str, TrialRecord | None]) -> dict[str, comparison.Array]:
    """Title → the selected trials' test losses `[seeds]`, NaN where there is none."""
    seeds = sorted({arm.seed for arm in arms})
    losses = {arm.title: np.full(len(seeds), np.nan) for arm in arms}
    for arm in arms:
        chosen = selected[arm.label]
        if chosen is not None:
            losses[arm.title][seeds.index(arm.seed)] = chosen.test_loss
    return losses


def _pairs(losses: Mapping[str, comparison.Array]) -> list[Json]:
    """Every two methods, the better ranked one first."""
    titles = list(combinations(losses, 2))
    pairs = [comparison.compare(losses[a], losses[b]) for a, b in titles]
    adjusted = comparison.holm([pair.p_value for pair in pairs])
    return [
        {"a": a, "b": b, **pair._asdict(), "ci95": None if pair.ci95 is None else list(pair.ci95), "p_holm": p}
        for (a, b), pair, p in zip(titles, pairs, adjusted, strict=True)
    ]


def _method(title: str, rank: float, entries: Sequence[Json]) -> Json:
    """Medians over the seeds that have a figure; the cost is an arm's, on average."""
    tests = [e["test_loss"] for e in entries if e["test_loss"] is not None]
    costs = [e["cost"] for e in entries]
    return {
        "label": title,
        "mean_rank": _finite(float(rank)),
        "median_test_loss": _median(entries, "test_loss"),
        "test_loss_range": [min(tests), max(tests)] if tests else None,
        "median_validation_loss": _median(entries, "validation_loss"),
        "median_test_accuracy": _median(entries, "test_accuracy"),
        "seeds": len(entries),
        "usable": sum(e["best_trial"] is not None for e in entries),
        "cost": {unit: float(np.mean([cost[unit] for cost in costs])) for unit in costs[0]},
    }


def _median(entries: Sequence[Json], key: str) -> float | None:
    given = [e[key] for e in entries if e[key] is not None]
    return float(np.median(given)) if given else None


def _identity(arm: ArmRecord) -> Json:
    """`per` is the method's own wish, else the finest grain of its space."""
    grains = [group["per"] for group in arm.space]
    finest = max(grains, key=GRAINS.index, default=None)
    return {
        "label": arm.label,
        "title": arm.title,
        "method": arm.method,
        "solver": arm.solver,
        "per": arm.per or finest,
        "seed": arm.seed,
    }


def _arm(arm: ArmRecord, trials: Sequence[TrialRecord], chosen: TrialRecord | None) -> Json:
    return {
        **_identity(arm),
        "trials": sum(t.state != "running" for t in trials),
        "best_trial": None if chosen is None else chosen.number,
        "validation_loss": None if chosen is None else _finite(chosen.validation_loss),
        "test_loss": None if chosen is None else _finite(chosen.test_loss),
        "test_accuracy": None if chosen is None else _finite(chosen.test_accuracy),
        "cost": _cost(total(trials)),
    }


def _trial(arm: ArmRecord, trial: TrialRecord) -> Json:
    grains = {group["name"]: group["per"] for group in arm.space}
    return {
        "number": trial.number,
        "state": trial.state,
        "validation_loss": _finite(trial.validation_loss),
        "test_loss": _finite(trial.test_loss),
        "test_accuracy": _finite(trial.test_accuracy),
        "seconds": trial.cost.seconds,
        "ask_seconds": trial.ask_seconds,
        "trainings": trial.cost.trainings,
        "gradient_evaluations": trial.cost.gradient_evaluations,
        "derivative": trial.derivative,
        "origin": trial.origin,
        "failure": trial.failure,
        "report": {name: _finite(figure) for name, figure in trial.report.items()},
        "hyper": {
            name: {"per": grains.get(name), "min": low, "median": median, "max": high}
            for name, (low, median, high) in trial.summary.items()
        },
    }


def _cost(cost: Cost) -> Json:
    return {
        "trainings": cost.trainings,
        "gradient_evaluations": cost.gradient_evaluations,
        "seconds": cost.seconds,
    }


def _study_state(arms: Mapping[str, int], running: bool) -> str:
    if running:
        return "running"
    if arms.get("open"):
        return "stopped"
    return "failed" if arms.get("failed") else "complete"


def _arm_state(arm: ArmRecord, trials: Sequence[TrialRecord], running: bool) -> str:
    """`complete`, `failed`; of an arm still open: `waiting` before its first trial, else `running` or `stopped`."""
    if arm.state != "open":
        return arm.state
    if not trials:
        return "waiting"
    return "running" if running else "stopped"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
