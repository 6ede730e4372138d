"""Search spaces and losses to try strategies on: smooth bowls whose slope is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hpo.space import Group, Piece, Space
from hpo.strategies.strategy import Strategy
from hpo.trial import Outcome, Proposal, Trial


def group(name: str, size: int, low: float, high: float, default: float, log: bool) -> Group:
    return Group(name, "neuron", low, high, default, log, size, (Piece(name, 0, size, (size,)),))


MIXED = Space(
    (
        group("l2", 2, 1e-6, 1.0, 1e-3, True),
        group("learning_rate", 1, 1e-3, 1.0, 0.05, True),
        group("momentum", 1, 0.0, 0.99, 0.0, False),
    )
)


@dataclass(frozen=True)
class Bowl:
    """loss = height × mean of (position − centre)², each coordinate's position running from 0 at low to 1 at high.

    A training that moves its values ends a third of the way to the centre.
    """

    space: Space
    centre: float = 0.25
    height: float = 1.0

    def __call__(self, proposal: Proposal) -> Outcome:
        low, high = self.space.bounds()
        away = (self.space.flatten(proposal.values) - low) / (high - low) - self.centre
        slopes = self.height * 2 * away / away.size / (high - low)
        splits = np.cumsum([g.size for g in self.space.groups])[:-1]
        natural = {
            g.name: part / proposal.values[g.name] if g.log else part
            for g, part in zip(self.space.groups, np.split(slopes, splits), strict=True)
        }
        ends = self.space.unflatten(self.space.flatten(proposal.values) - away * (high - low) / 3)
        loss = self.height * float(np.mean(away**2))
        return Outcome("complete", loss, loss, hypergradient=natural, ends=ends)


def diverged(proposal: Proposal) -> Outcome:
    del proposal
    return Outcome("failed", float("nan"), float("nan"), failure="the loss became infinite")


def without_hypergradient(outcome: Outcome) -> Outcome:
    return replace(outcome, hypergradient=None, failure="the backward pass overflowed")


def with_infinite_slope(outcome: Outcome) -> Outcome:
    assert outcome.hypergradient is not None
    return replace(outcome, hypergradient={k: v * np.inf for k, v in outcome.hypergradient.items()})


def run(strategy: Strategy, evaluate: Callable[[Proposal], Outcome], trials: int) -> list[Trial]:
    """One after another, as with one worker."""
    done = []
    for number in range(trials):
        proposal = strategy.ask(number)
        assert proposal is not None
        assert proposal.number == number
        done.append(Trial(proposal, evaluate(proposal)))
        strategy.tell(done[-1])
    return done


def best(trials: list[Trial]) -> float:
    return min(t.outcome.validation_loss for t in trials if t.outcome is not None and t.outcome.usable)


def same(one: Proposal | None, other: Proposal | None) -> bool:
    """Bit for bit."""
    assert one is not None and other is not None
    return (
        one.number == other.number
        and one.derivative == other.derivative
        and one.values.keys() == other.values.keys()
        and all(np.array_equal(one.values[k], other.values[k]) for k in one.values)
    )
