"""Descent on hypergradients: an outer Adam (Kingma, Ba 2015, Algorithm 1) on the coordinates of the space.

With g the slope of the validation loss in the coordinate z (the logarithm of the value, where the space is
logarithmic), n the number of good trials so far and every operation entry by entry,

    m ← β₁m + (1−β₁)g        v ← β₂v + (1−β₂)g²
    d = m̂ / (√v̂ + ε)         m̂ = m/(1−β₁ⁿ)        v̂ = v/(1−β₂ⁿ)
    z ← clip(z − s·rate·u·d, low, high)

z is the point of the last *good* trial: one with a finite loss and a finite hypergradient. The length s starts at 1.
A bad trial multiplies it by `shrink` and the same step is taken again, shorter, from the same point; every good
trial after that gives back a factor of 1.2, so that four good trials undo one halving and a study that met the edge
of divergence does not run into it again at once. Until a trial has been good, each bad one lowers the learning rates
by a unit, and everything else once they are at their bounds.

u is the length of one coordinate: 1 (a factor of e) on a logarithmic scale, a tenth of the range on a linear one, so
that `rate` 0.3 changes a strength by about a third, or moves a momentum by 3 % of its range, in a trial.

A hypergradient more than ten times as long as the root mean square of those before it is shortened to that: Adam
would otherwise follow a single exploded one for many trials and then stand still under its square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies import limits
from hpo.trial import Array, Proposal, Trial

EPSILON = 1e-12
RECOVERY = 1.2
LONGEST = 10.0
LINEAR_UNITS = 10.0


class Position(NamedTuple):
    """Where a descent stands after some trials; coordinates `[D]`, and the moments `[D]` of the slopes per unit u."""

    coordinates: Array
    mean: Array
    square: Array
    good: int = 0
    length: float = 1.0


class Descent:
    """Outer Adam on the hypergradient named `derivative`; sequential: a trial is proposed when all before it are told.

    `rate`: the usual step in a coordinate, in units of u. `betas`: decay of the two moments. `shrink`: what a bad
    trial multiplies the step by. Raises BadStudy naming an option that is out of range.
    Source: D. Maclaurin et al. 2015 and J. Fu et al. 2016 (DrMAD) descend likewise; the safeguards are this project's.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        derivative: str,
        rate: float = 0.3,
        betas: tuple[float, float] = (0.8, 0.99),
        shrink: float = 0.5,
    ) -> None:
        del seed  # nothing is drawn
        self.space = space
        self.derivative = derivative
        self.rate = limits.number("rate", rate, above=0)
        self.betas = _decays(betas)
        self.shrink = limits.number("shrink", shrink, above=0, below=1)
        self._low, self._high = space.bounds()
        sizes = [g.size for g in space.groups]
        log = np.repeat([g.log for g in space.groups], sizes)
        self._unit = np.where(log, 1.0, (self._high - self._low) / LINEAR_UNITS)
        self._rates = np.repeat([g.name == "learning_rate" for g in space.groups], sizes)
        start = space.flatten(space.defaults())
        self._position = Position(start, np.zeros_like(start), np.zeros_like(start))
        self._next = self._position.coordinates
        self._folded = 0
        self._waiting: dict[int, Trial] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "derivative": self.derivative,
            "rate": self.rate,
            "betas": list(self.betas),
            "shrink": self.shrink,
            "recovery": RECOVERY,
            "epsilon": EPSILON,
            "longest": LONGEST,
            "linear_units": LINEAR_UNITS,
        }

    def ask(self, number: int) -> Proposal | None:
        """The next point; None until every trial before `number` was told."""
        if number != self._folded:
            return None
        values = self.space.defaults() if number == 0 else self.space.unflatten(self._next)
        return Proposal(number, values, self.derivative)

    def tell(self, trial: Trial) -> None:
        """Fold the trial in, as soon as all before it are."""
        if trial.outcome is not None:
            self._waiting[trial.number] = trial
        while self._folded in self._waiting:
            self._fold(self._waiting.pop(self._folded))
            self._folded += 1

    def _fold(self, trial: Trial) -> None:
        here = self.space.flatten(trial.proposal.values)
        slopes = self._slopes(trial)
        if slopes is not None:
            self._position = self._stepped(here, slopes)
        elif self._position.good:
            self._position = self._position._replace(length=self._position.length * self.shrink)
        else:
            self._next = self._calmer(here)
            return
        self._next = np.clip(self._position.coordinates - self._step(), self._low, self._high)

    def _calmer(self, here: Array) -> Array:
        """Learning rates one unit down; where they are as low as they may be, everything."""
        lower = np.clip(here - self._unit, self._low, self._high)
        blamed = np.where(self._rates, lower, here)
        return lower if np.array_equal(blamed, here) else blamed

    def _slopes(self, trial: Trial) -> Array | None:
        """The hypergradient per unit of each coordinate `[D]`; None if the trial is bad."""
        outcome = trial.outcome
        if outcome is None or not outcome.usable or outcome.hypergradient is None:
            return None
        with np.errstate(all="ignore"):  # what overflows here is what the next line looks for
            slopes = self.space.slopes(trial.proposal.values, outcome.hypergradient) * self._unit
            return slopes if np.isfinite(slopes @ slopes) else None

    def _stepped(self, here: Array, slopes: Array) -> Position:
        last, (beta1, beta2) = self._position, self.betas
        if last.square.any():
            longest = LONGEST * np.sqrt(last.square.sum() / (1 - beta2**last.good))
            slopes = slopes * min(1.0, longest / max(float(np.linalg.norm(slopes)), EPSILON))
        return Position(
            here,
            beta1 * last.mean + (1 - beta1) * slopes,
            beta2 * last.square + (1 - beta2) * slopes**2,
            last.good + 1,
            min(1.0, last.length * RECOVERY),
        )

    def _step(self) -> Array:
        position, (beta1, beta2) = self._position, self.betas
        mean = position.mean / (1 - beta1**position.good)
        square = position.square / (1 - beta2**position.good)
        return position.length * self.rate * self._unit * mean / (np.sqrt(square) + EPSILON)


def _decays(betas: object) -> tuple[float, float]:
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise BadStudy(f"betas: {betas!r} must be two numbers, as [0.8, 0.99]")
    first, second = (limits.number("betas", beta, least=0, below=1) for beta in betas)
    return first, second
