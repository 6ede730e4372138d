"""What travels between the rooms: proposals out, outcomes back.

A strategy makes a `Proposal`, an executor turns it into an `Outcome`, the ledger keeps both as a `Trial`.
All are plain frozen values that cross process borders; arrays are numpy, float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = Mapping[str, Array]
"""One vector `[K]` per hyperparameter, by name, in natural units (a learning rate, not its logarithm)."""

TrialState = Literal["running", "complete", "failed", "pruned"]


@dataclass(frozen=True)
class Proposal:
    """Where to look next, and which derivative is wanted (`None` or the name of a hypergradient)."""

    number: int
    values: Values
    derivative: str | None = None


@dataclass(frozen=True)
class Cost:
    """What a trial used. A gradient evaluation is one gradient of the training loss on one training batch."""

    trainings: int = 1
    gradient_evaluations: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a training gave. A pruned one was stopped on the way: its validation loss is the last of its curve.

    `curve` is `[P, 3]`: step, training loss and validation loss, each on at most 1,000 rows of its part.
    `hypergradient` is d(validation loss)/d(value) in natural units, one vector `[K]` per name.
    `ends`: the values at the end of the training, in natural units, from a method that moves them on the way.
    `failure` says why a trial failed or was pruned, or why a complete trial has no hypergradient.
    `report` are figures by name: of the training (`movement`, ‖w_T − w_0‖/‖w_0‖), of its solver about its last state,
    of the hypergradient's method about its pass.
    `weights` travel only when this trial beats the incumbent the evaluation was told of.
    """

    state: Literal["complete", "failed", "pruned"]
    validation_loss: float
    test_loss: float
    test_accuracy: float | None = None
    curve: Array = field(default_factory=lambda: np.zeros((0, 3)))
    cost: Cost = field(default_factory=Cost)
    hypergradient: Values | None = None
    ends: Values | None = None
    failure: str | None = None
    weights: Mapping[str, NDArray[np.generic]] | None = None
    report: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether the trial finished with a finite validation loss."""
        return self.state == "complete" and bool(np.isfinite(self.validation_loss))


@dataclass(frozen=True)
class Trial:
    """A proposal and what became of it; `outcome` is None while it runs.

    `origin`: where it was imported from; such a trial teaches a strategy, costs nothing and is never chosen.
    """

    proposal: Proposal
    outcome: Outcome | None = None
    origin: str | None = None

    @property
    def number(self) -> int:
        return self.proposal.number

    @property
    def state(self) -> TrialState:
        return "running" if self.outcome is None else self.outcome.state
