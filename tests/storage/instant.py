"""The real loop over trainings that take no time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import studies_small

from hpo import study as loop
from hpo.execution.executor import done
from hpo.execution.serial import Serial
from hpo.preparation import Ready
from hpo.progress import Quiet
from hpo.space import Group, Piece, Space
from hpo.spec import Study
from hpo.storage.desk import Desk
from hpo.storage.ledger import Ledger
from hpo.task import Plan, Task
from hpo.trial import Cost, Outcome, Proposal

RATE = Group("learning_rate", "global", 1e-3, 1.0, 1e-1, True, 1, (Piece("learning_rate", 0, 1, (1,)),))
COST = Cost(1, 2.0, 3.0)


def instant_study(trials: int) -> Study:
    """One arm, random search over the learning rate alone."""
    space = {"learning_rate": {"low": RATE.low, "high": RATE.high, "default": RATE.default}}
    return studies_small.study(space=space, methods=["random"], seeds=1, budget={"trainings": trials})


def rate(value: float) -> Proposal:
    """Trial 0."""
    return Proposal(0, {"learning_rate": np.array([value])})


def outcome(task: Task) -> Outcome:
    """Of the proposal alone."""
    return Outcome("complete", float(task.proposal.values["learning_rate"][0]), 0.0, cost=COST)


class Instant(Serial):
    """An executor that does not train; `told` is called before each trial."""

    def __init__(self, study: Study, told: Callable[[Task, Desk], None]) -> None:
        super().__init__(study.resources)
        self._told = told

    def submit(self, function: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        del function, named
        self._told(*args)
        return done(outcome, args[0])


def run(ledger: Ledger, study: Study, told: Callable[[Task, Desk], None]) -> None:
    """Until every arm has spent its budget."""
    plan = Plan(Space((RATE,)), COST.gradient_evaluations, 0, {}, (1, 1, 1), 1)
    ready = Ready(study, None, Instant(study, told), {arm.label: plan for arm in study.arms()})
    loop.run(ready, ledger, Quiet(), {})
