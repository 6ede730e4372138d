"""Random search: independent draws, the very ones of Optuna's sampler, without its study.

There every value of a trial is stored by itself, at a cost that grows with the square of their number: a thousand are
slow and a hundred thousand out of reach. Here a million take a fifth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.space import Group, Space
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array, Proposal, Trial


class Random:
    """Independent draws, uniform in the coordinate searched in (Bergstra, Bengio 2012); trial 0 is the defaults."""

    batch: int | None = None
    settings: Mapping[str, Any] = {"generator": "MT19937"}

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.seed = seed

    def ask(self, number: int) -> Proposal:
        """A draw from (seed, number) alone."""
        if number == 0:
            return Proposal(0, self.space.defaults())
        generator = np.random.RandomState(trial_seed(self.seed, number))
        return Proposal(number, {group.name: _drawn(group, generator) for group in self.space.groups})

    def tell(self, trial: Trial) -> None:
        """Nothing is learnt."""


def _drawn(group: Group, generator: np.random.RandomState) -> Array:
    if not group.log:
        return np.clip(generator.uniform(group.low, group.high, group.size), group.low, group.high)
    drawn = generator.uniform(math.log(group.low), math.log(group.high), group.size)
    values = np.array([math.exp(x) for x in drawn])  # numpy's own exponential differs in the last digit
    return np.clip(values, group.low, np.nextafter(group.high, 0.0))
