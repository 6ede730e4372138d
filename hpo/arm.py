"""One arm of a running study: what it was promised, what it has spent, and the strategy that decides for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpo import options
from hpo.failures import BadStudy
from hpo.registry import DECIDERS, STRATEGIES, resolve
from hpo.spec import Arm, Budget
from hpo.strategies.strategy import Strategy, arm_seed
from hpo.task import Plan
from hpo.trial import Cost, Proposal, Trial


@dataclass
class ArmRun:
    """Where an arm stands. At most `width` of its trials run at once; `place` is its seed's turn."""

    arm: Arm
    plan: Plan
    strategy: Strategy
    budget: Budget
    width: int = 1
    place: int = 0
    trials: dict[int, Trial] = field(default_factory=dict)
    pending: dict[int, Proposal] = field(default_factory=dict)
    cost: Cost = field(default_factory=lambda: Cost(0))
    best: float = float("inf")
    usable: int = 0
    free: int = 0

    @property
    def label(self) -> str:
        return self.arm.label

    def next_number(self) -> int:
        """The lowest number neither done nor under way; none is ever given back."""
        while self.free in self.trials or self.free in self.pending:
            self.free += 1
        return self.free

    @property
    def spent(self) -> float:
        """Spent so far, in the budget's unit."""
        return float(getattr(self.cost, self.budget.unit))

    @property
    def room(self) -> bool:
        """Whether one more trial may start: its charge is known before it runs, except for seconds."""
        under_way = len(self.pending)
        if under_way >= self.width:
            return False
        if self.budget.unit == "seconds":
            return self.spent < self.budget.amount
        charge = 1.0 if self.budget.unit == "trainings" else self.plan.evaluations
        return self.spent + (under_way + 1) * charge <= self.budget.amount * (1 + 1e-12)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing more may."""
        return not self.pending and not self.room

    def take(self, trial: Trial, ask_seconds: float = 0.0) -> None:
        """Count a closed trial and the time its proposal took, and tell the strategy."""
        outcome = trial.outcome
        assert outcome is not None
        self.pending.pop(trial.number, None)
        self.trials[trial.number] = trial
        spent = outcome.cost
        self.cost = Cost(
            self.cost.trainings + spent.trainings,
            self.cost.gradient_evaluations + spent.gradient_evaluations,
            self.cost.seconds + spent.seconds + ask_seconds,
        )
        if outcome.usable:
            self.usable += 1
            self.best = min(self.best, outcome.validation_loss)
        self.strategy.tell(trial)


def strategy_for(arm: Arm, plan: Plan) -> Strategy:
    """The strategy of an arm with its own options. Raises BadStudy naming the option."""
    given, key = arm.method.options, f"methods.{arm.title}"
    decider = DECIDERS.get(arm.method.name)
    constructor = resolve(STRATEGIES[decider or arm.method.name])
    if decider:  # the other options are the hypergradient's, and were checked with the plan
        given = {k: v for k, v in given.items() if k in options.names(constructor) - {"derivative"}}
    settings = options.checked(constructor, given, key)
    if decider:
        settings["derivative"] = arm.method.name
    try:
        return constructor(plan.space, arm_seed(arm.label), **settings)
    except BadStudy as error:
        raise BadStudy(f"{key}.{error}") from error
