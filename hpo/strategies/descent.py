"""Descent on hypergradients, on the coordinates of the space.

With g the slope of the validation loss along z/u (z the logarithm of the value, where the space is logarithmic), n the
number of trials with slopes so far and every operation entry by entry,

    z ← clip(z − s·rate·u·d, low, high)

where `step` says what d is:

    adam     d = m̂ / (√v̂ + ε)        m ← β₁m + (1−β₁)g        m̂ = m/(1−β₁ⁿ)     (Kingma, Ba 2015, Algorithm 1)
                                     v ← β₂v + (1−β₂)g²       v̂ = v/(1−β₂ⁿ)
    sign     d = sign(g): 0 where g is 0, else the same length for every coordinate and trial (Fu et al. 2016)
    plain    d = g

u is the length of one coordinate: 1 (a factor of e) on a logarithmic scale, a tenth of the range on a linear one, so
that `rate` 0.3 changes a strength by about a third, or moves a momentum by 3 % of its range, in a trial; with `plain`,
for a slope of 1 along z/u.

z is the point of the last *good* trial: one with a finite hypergradient and a finite loss, at most 1.2 times the lowest
so far. The length s starts at 1. A bad trial multiplies it by `shrink`, and a shorter step is taken from the same
point, along slopes in which those of the bad trial, where it has any, count like the others; every good trial after
that gives back a factor of 1.2, so that four good trials undo one halving. A learning rate that the bad trial had
raised may from then on go only half as far: raising rates helps up to the edge of stability and ruins the training
beyond it, of which no slope tells beforehand, so the edge is found by halving. Until a trial has been good, each bad
one lowers the learning rates by a unit, and everything else once they are at their bounds. All this holds for every
kind of step.

A hypergradient more than ten times as long as the root mean square of those before it (of weight β₂, as v) is
shortened to that: Adam would otherwise follow a single exploded one for many trials and then stand still under its
square, and a plain step would jump to the bounds. A sign has no length, so there this changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies import limits
from hpo.strategies.retreat import LINEAR_UNITS, calmer, rates, units
from hpo.trial import Array, Proposal, Trial

STEPS = ("adam", "sign", "plain")
DECAYS = (0.8, 0.99)
EPSILON = 1e-12
RECOVERY = 1.2
LONGEST = 10.0
WORSE = 1.2


class Position(NamedTuple):
    """Where a descent stands after some trials, `[D]` each: coordinates, slopes along z/u there, and their moments.

    `high`: how far each coordinate may go. `lowest`: the lowest loss so far.
    """

    coordinates: Array
    slopes: Array
    mean: Array
    square: Array
    high: Array
    good: int = 0
    length: float = 1.0
    lowest: float = np.inf


class Descent:
    """Descent on the hypergradient named `derivative`; sequential: a trial is proposed when all before it are told.

    `step`: adam, sign or plain. `rate`: the usual step in a coordinate, in units of u. `betas`: decay of Adam's two
    moments, [0.8, 0.99] if not given. `shrink`: what a bad trial multiplies the step by.
    Raises BadStudy naming an option that is out of range, or `betas` without Adam.
    Source: D. Maclaurin et al. 2015 (Adam, plain) and J. Fu et al. 2016 (DrMAD: sign, at a fixed rate) descend
    likewise; the safeguards are this project's.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        derivative: str,
        step: str = "adam",
        rate: float = 0.3,
        betas: tuple[float, float] | None = None,
        shrink: float = 0.5,
    ) -> None:
        del seed  # nothing is drawn
        self.space = space
        self.derivative = derivative
        self.step = limits.choice("step", step, STEPS)
        self.rate = limits.number("rate", rate, above=0)
        if betas is not None and self.step != "adam":
            raise BadStudy(f"betas: {betas!r} belongs to step adam, not to {self.step}: leave it out")
        self.betas = DECAYS if betas is None else _decays(betas)
        self.shrink = limits.number("shrink", shrink, above=0, below=1)
        self._low, self._high = space.bounds()
        self._unit, self._rates = units(space), rates(space)
        start, still = space.flatten(space.defaults()), np.zeros(space.size)
        self._position = Position(start, still, still, still, self._high)
        self._next = self._position.coordinates
        self._folded = 0
        self._waiting: dict[int, Trial] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "derivative": self.derivative,
            "step": self.step,
            "rate": self.rate,
            "betas": list(self.betas),
            "shrink": self.shrink,
            "recovery": RECOVERY,
            "epsilon": EPSILON,
            "longest": LONGEST,
            "worse": WORSE,
            "linear_units": LINEAR_UNITS,
        }

    @property
    def batch(self) -> int:
        """One: it is a sequence."""
        return 1

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
            assert trial.outcome is not None  # it has slopes
            ahead = self._stepped(here, slopes, trial.outcome.validation_loss)
            worse = trial.outcome.validation_loss > WORSE * self._position.lowest
            self._position = self._drawn_back(ahead) if worse else ahead
        elif self._position.good:
            self._position = self._drawn_back(self._position._replace(coordinates=here))
        else:
            self._next = calmer(self.space, here)
            return
        self._next = np.clip(self._position.coordinates - self._move(), self._low, self._position.high)

    def _drawn_back(self, ahead: Position) -> Position:
        """From a bad trial to the last good point: a shorter step, and the rates that were raised go half that way."""
        last = self._position
        raised = self._rates & (ahead.coordinates > last.coordinates)
        high = np.where(raised, np.minimum(last.high, (last.coordinates + ahead.coordinates) / 2), last.high)
        return ahead._replace(
            coordinates=last.coordinates, high=high, length=last.length * self.shrink, lowest=last.lowest
        )

    def _slopes(self, trial: Trial) -> Array | None:
        """g, the hypergradient along z/u `[D]`; None if the trial is bad."""
        outcome = trial.outcome
        if outcome is None or not outcome.usable or outcome.hypergradient is None:
            return None
        with np.errstate(all="ignore"):  # what overflows here is what the next line looks for
            slopes = self.space.slopes(trial.proposal.values, outcome.hypergradient) * self._unit
            return slopes if np.isfinite(slopes @ slopes) else None

    def _stepped(self, here: Array, slopes: Array, loss: float) -> Position:
        last, (beta1, beta2) = self._position, self.betas
        if last.square.any():
            longest = LONGEST * np.sqrt(last.square.sum() / (1 - beta2**last.good))
            slopes = slopes * min(1.0, longest / max(float(np.linalg.norm(slopes)), EPSILON))
        return Position(
            here,
            slopes,
            beta1 * last.mean + (1 - beta1) * slopes,
            beta2 * last.square + (1 - beta2) * slopes**2,
            last.high,
            last.good + 1,
            min(1.0, last.length * RECOVERY),
            min(last.lowest, loss),
        )

    def _move(self) -> Array:
        return self._position.length * self.rate * self._unit * self._direction()

    def _direction(self) -> Array:
        """d `[D]`."""
        position, (beta1, beta2) = self._position, self.betas
        if self.step == "sign":
            return np.sign(position.slopes)
        if self.step == "plain":
            return position.slopes
        mean = position.mean / (1 - beta1**position.good)
        square = position.square / (1 - beta2**position.good)
        return mean / (np.sqrt(square) + EPSILON)


def _decays(betas: object) -> tuple[float, float]:
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise BadStudy(f"betas: {betas!r} must be two numbers, as [0.8, 0.99]")
    first, second = (limits.number("betas", beta, least=0, below=1) for beta in betas)
    return first, second
