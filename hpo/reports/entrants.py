"""The arms of one or several studies as they enter a comparison: the one place where it reads the ledger.

Arms are paired by (data, seed); which studies share their data, and which a method, says `hpo.reports.sameness`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hpo.reports import sameness
from hpo.reports.anytime import Steps, steps
from hpo.reports.arms import Json, best, cost_of, finite, identity, state_of, total
from hpo.reports.sameness import Block
from hpo.storage.ledger import Ledger
from hpo.storage.records import ArmRecord, TrialRecord

UNITS = ("trainings", "gradient_evaluations", "seconds")


class Entrant(NamedTuple):
    """One arm. `title` and `data` are unique to a method and a data set over all studies compared.

    `test`: the loss it is judged by, NaN without a usable trial; `defaults`: that of its trial at the defaults, NaN if
    it has none; `incumbents`: by unit of spending; `entry`: what the comparison tells of it.
    """

    title: str
    data: str
    seed: int
    study: str
    test: float
    defaults: float
    incumbents: dict[str, Steps]
    entry: Json

    @property
    def block(self) -> Block:
        return self.data, self.seed


class _Read(NamedTuple):
    study: str
    data: str
    arm: ArmRecord
    trials: list[TrialRecord]
    running: bool


def read(ledger: Ledger, names: Sequence[str]) -> list[Entrant]:
    """The arms of these studies in their order. Raises BadInput, with the nearest name, for one there is not."""
    records = {name: ledger.study(name) for name in names}
    data = sameness.data(records)
    enlisted = {name: ledger.arms(name) for name in records}
    titles = sameness.titles(records, enlisted, data)
    arms: list[_Read] = []
    for name, record in records.items():
        trials = ledger.figures(name)
        arms += [_Read(name, data[name], arm, trials[arm.label], record.running) for arm in enlisted[name]]
    return [_entrant(r, titles[r.study, r.arm.title]) for r in arms]


def _entrant(r: _Read, title: str) -> Entrant:
    chosen = best(r.trials)
    closed = [t for t in r.trials if t.state != "running"]
    usable = [t.state == "complete" and t.origin is None for t in closed]
    validation = np.where(usable, np.array([t.validation_loss for t in closed], dtype=float), np.nan)
    test = np.array([t.test_loss for t in closed], dtype=float)
    cost: dict[str, list[Any]] = {
        "trainings": [t.cost.trainings for t in closed],
        "gradient_evaluations": [t.cost.gradient_evaluations for t in closed],
        "seconds": [t.cost.seconds + t.ask_seconds for t in closed],
    }
    entry = {
        **identity(r.arm),
        "title": title,
        "study": r.study,
        "data": r.data,
        "state": state_of(r.arm, r.trials, r.running),
        "trials": len(closed),
        "best_trial": None if chosen is None else chosen.number,
        "validation_loss": None if chosen is None else finite(chosen.validation_loss),
        "test_loss": None if chosen is None else finite(chosen.test_loss),
        "test_accuracy": None if chosen is None else finite(chosen.test_accuracy),
        "cost": cost_of(total(r.trials)),
    }
    return Entrant(
        title=title,
        data=r.data,
        seed=r.arm.seed,
        study=r.study,
        test=math.nan if chosen is None else chosen.test_loss,
        defaults=_at_defaults(r.arm, r.trials),
        incumbents={unit: steps(np.array(cost[unit], dtype=float), validation, test) for unit in UNITS},
        entry=entry,
    )


def _at_defaults(arm: ArmRecord, trials: Sequence[TrialRecord]) -> float:
    """The test loss of trial 0, if it is its own and had the default values; else NaN."""
    if not arm.space or not trials or trials[0].state != "complete" or trials[0].origin is not None:
        return math.nan
    lowest_and_highest = [trials[0].summary.get(group["name"], [None])[::2] for group in arm.space]
    at_defaults = all(
        value is not None and math.isclose(value, group["default"], rel_tol=1e-9)
        for group, ends in zip(arm.space, lowest_and_highest, strict=True)
        for value in ends
    )
    return trials[0].test_loss if at_defaults else math.nan
