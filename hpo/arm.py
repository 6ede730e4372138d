"""One arm of a running study: what it was promised, what it has spent, and the strategy that decides for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import takewhile

import numpy as np

from hpo import options
from hpo.failures import BadStudy
from hpo.registry import DECIDERS, STRATEGIES, TOLD, resolve
from hpo.spec import Arm, Budget
from hpo.storage.claims import SLACK
from hpo.storage.records import Standing
from hpo.strategies.strategy import Strategy, arm_seed
from hpo.task import Curve, Plan
from hpo.trial import Cost, Proposal, Trial

NO_CURVE = np.zeros((0, 3))


@dataclass
class ArmRun:
    """Where an arm stands, as this run knows it. `place` is its seed's turn, `slots` its share of all there are.

    `places`: how many trials this run's workers can have under way, those trained together in one included.
    `mine`: trials under way in this run; `elsewhere`: in others, or in none since theirs died. `known`: every trial
    below this number was told to the strategy. `cost`: of the closed ones, the time to ask included. `rivals`: what a
    pruner compares with, the curves of its own closed trials up to the first loss that is not finite.
    """

    arm: Arm
    plan: Plan
    strategy: Strategy
    budget: Budget
    slots: int = 1
    places: int = 1
    place: int = 0
    mine: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    known: int = 0
    closed: int = 0
    cost: Cost = field(default_factory=lambda: Cost(0))
    best: float = float("inf")
    usable: int = 0
    rivals: dict[int, Curve] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.arm.label

    @property
    def running(self) -> int:
        """How many of its trials run anywhere."""
        return len(self.mine) + len(self.elsewhere)

    @property
    def spent(self) -> float:
        """Spent so far, in the budget's unit."""
        return float(getattr(self.cost, self.budget.unit))

    @property
    def charge(self) -> float:
        """What a trial is charged, in the budget's unit; 0 for seconds, which are not known before."""
        return {"trainings": 1.0, "gradient_evaluations": self.plan.evaluations, "seconds": 0.0}[self.budget.unit]

    @property
    def affordable(self) -> bool:
        """Whether the budget has room for what runs and one more."""
        if not self.charge:
            return self.spent < self.budget.amount
        return self.spent + (self.running + 1) * self.charge <= self.budget.amount * SLACK

    @property
    def width(self) -> int:
        """How many of its trials may run at once: its share of the slots, or what its strategy asks for at once."""
        batch = self.strategy.batch
        return max(self.slots, len(self.elsewhere) + self.places if batch is None else min(batch, self.places))

    @property
    def room(self) -> bool:
        """Whether one more trial may start."""
        return self.running < self.width and self.affordable

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing more may."""
        return not self.running and not self.affordable

    def agrees(self, standing: Standing) -> bool:
        """Whether nothing happened to the arm but what this run did."""
        return (standing.next_number, standing.running) == (self.known, self.running)

    def begun(self, proposal: Proposal) -> None:
        """This run claimed a trial: a new one, or one that ran nowhere."""
        self.elsewhere.discard(proposal.number)
        self.mine.add(proposal.number)
        self.known = max(self.known, proposal.number + 1)

    def learn(self, trial: Trial) -> None:
        """A trial as the ledger has it: tell the strategy, and count what is new."""
        self.known = max(self.known, trial.number + 1)
        if trial.number in self.mine:
            return
        if trial.outcome is None:
            self.elsewhere.add(trial.number)
            self.strategy.tell(trial)
        else:
            self.take(trial)

    def take(self, trial: Trial, ask_seconds: float = 0.0) -> None:
        """Count a closed trial and the time its proposal took, and tell the strategy what it may learn from."""
        outcome = trial.outcome
        assert outcome is not None
        self.mine.discard(trial.number)
        self.elsewhere.discard(trial.number)
        self.closed += 1
        spent = outcome.cost
        self.cost = Cost(
            self.cost.trainings + spent.trainings,
            self.cost.gradient_evaluations + spent.gradient_evaluations,
            self.cost.seconds + spent.seconds + ask_seconds,
        )
        if outcome.usable and trial.origin is None:
            self.usable += 1
            self.best = min(self.best, outcome.validation_loss)
        if self.arm.method.pruner is not None and trial.origin is None and len(outcome.curve):
            self.rivals[trial.number] = tuple(takewhile(math.isfinite, outcome.curve[:, 2].tolist()))
        curve = outcome.curve if outcome.state == "pruned" else NO_CURVE
        self.strategy.tell(replace(trial, outcome=replace(outcome, weights=None, curve=curve, report={})))


def strategy_for(arm: Arm, plan: Plan) -> Strategy:
    """The strategy of an arm with its own options. Raises BadStudy naming the option."""
    given, key = arm.method.options, f"methods.{arm.title}"
    decider = DECIDERS.get(arm.method.name)
    constructor = resolve(STRATEGIES[decider or arm.method.name])
    if decider:  # the other options are the hypergradient's, and were checked with the plan
        given = {k: v for k, v in given.items() if k in options.names(constructor) - TOLD}
    settings = options.checked(constructor, given, key)
    if decider:
        told = {"derivative": arm.method.name, "validation_rows": plan.rows[1], "nats": plan.nats}
        settings |= {name: value for name, value in told.items() if name in options.names(constructor)}
    try:
        return constructor(plan.space, arm_seed(arm.label), **settings)
    except BadStudy as error:
        raise BadStudy(f"{key}.{error}") from error
