"""For a hypergradient that moves the values while the training runs: each trial starts where the last one ended.

The first starts at the defaults. After a trial without a finite loss the next one starts where that one did, at
learning rates lower by a factor of e, and at lower values of everything once those are at their bounds. So a failure
never costs what was reached before it.

A trial is judged by the training that started from its values and moved them. Values that suit the end of a training
need not suit its start: the best trial is often not the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.space import Space
from hpo.strategies.retreat import LINEAR_UNITS, calmer
from hpo.trial import Proposal, Trial, Values


class Relay:
    """Trials in a row on the hypergradient named `derivative`; one is proposed when the one before it is told."""

    def __init__(self, space: Space, seed: int, *, derivative: str) -> None:
        del seed  # nothing is drawn
        self.space = space
        self.derivative = derivative
        self._told: dict[int, Trial] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"derivative": self.derivative, "linear_units": LINEAR_UNITS}

    @property
    def batch(self) -> int:
        """One: it is a row."""
        return 1

    def ask(self, number: int) -> Proposal | None:
        """The next start; None until the trial before `number` was told."""
        if number == 0:
            return Proposal(0, self.space.defaults(), self.derivative)
        last = self._told.get(number - 1)
        return None if last is None else Proposal(number, self._after(last), self.derivative)

    def tell(self, trial: Trial) -> None:
        """Note the outcome."""
        if trial.outcome is not None:
            self._told[trial.number] = trial

    def _after(self, trial: Trial) -> Values:
        outcome = trial.outcome
        if outcome is not None and outcome.usable and outcome.ends is not None:
            return {g.name: np.clip(outcome.ends[g.name], g.low, g.high) for g in self.space.groups}
        return self.space.unflatten(calmer(self.space, self.space.flatten(trial.proposal.values)))
