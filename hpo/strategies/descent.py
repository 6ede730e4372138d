"""Descent on hypergradients, on the coordinates of the space.

With g the slope of the validation loss along z/u (z the logarithm of the value, where the space is logarithmic) and
every operation entry by entry,

    z ← clip(z − s·rate·u·d, low, high)

where `directions` says what d is for each kind of step.

u is the length of one coordinate: 1 (a factor of e) on a logarithmic scale, a tenth of the range on a linear one, so
that `rate` 0.3 changes a value alone by about a third, or moves a momentum by 3 % of its range, in a trial; with
`plain`, for a slope of 1 along z/u. Of a layer the mean moves so far, and the units beside it twice as far in the root
mean square, and at most four times.

z is the point of the last *good* trial: one with a finite hypergradient and a finite loss, at most 1.2 times the lowest
so far and no higher than the first such (a network that learns nothing has a loss of log C nats with C classes; on a
hard task that is not 1.2 times the lowest). The length s starts at 1. A bad trial multiplies it by `shrink`, and a
shorter step is taken from the same point, along slopes in which those of the bad trial, where it has any, count like
the others; every good trial after that gives back a factor of 1.2, so that four good trials undo one halving. A
learning rate that the bad trial had raised may from then on go only half as far: raising rates helps up to the edge of
stability and ruins the training beyond it, of which no slope tells beforehand, so the edge is found by halving. Until a
trial has been good, each bad one lowers the learning rates by a unit, and everything else once they are at their
bounds. All this holds for every kind of step.

Thousands of strengths can be fitted to the rows they are validated on. A `layered` step therefore descends

    validation loss + Σ (z − z̄)² / (2 N τ² u²)        z̄ the mean over the layer, N validation rows
    τ² = prior² · min(1, max(0.01, 2 N L₀ / D))       L₀ the first loss, D values with others in their layer

the negative logarithm, per row, of what is likely when the values of a layer lie about their mean with a standard
deviation of τ (for a loss in nats: MacKay 1992 does so for weights): the fewer the rows, the more they must agree to
pull a unit away from its layer. Rows that are fitted already have nothing to say, however many they are: where all of
them together have less than a nat of loss to lose for every two values, τ is narrower. (A regression has its loss in
other units: there τ is the prior.)

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
from hpo.strategies import directions, limits
from hpo.strategies.directions import DEVIATION, EPSILON, FARTHEST, LAYERED, STEPS, WITH_MOMENTS, Moments
from hpo.strategies.retreat import LINEAR_UNITS, calmer, rates, units
from hpo.trial import Array, Proposal, Trial

DECAYS = (0.8, 0.99)
RECOVERY = 1.2
LONGEST = 10.0
WORSE = 1.2
PRIOR = 3.0
VALUES_A_NAT, NARROWEST = 2.0, 0.01


class Position(NamedTuple):
    """Where a descent stands after some trials: coordinates and slopes along z/u there, `[D]` each, and their moments.

    `high`: how far each coordinate may go. `first` and `lowest`: losses of the first trial with slopes, and the best.
    """

    coordinates: Array
    slopes: Array
    moments: Moments
    high: Array
    length: float = 1.0
    first: float = np.inf
    lowest: float = np.inf


class Descent:
    """Descent on the hypergradient named `derivative`; sequential: a trial is proposed when all before it are told.

    `step`: layered, adam, sign or plain. `rate`: the usual step in a coordinate, in units of u. `betas`: decay of the
    two moments, [0.8, 0.99] if not given. `shrink`: what a bad trial multiplies the step by. `prior`: τ, for a layered
    step, 3 if not given. The study tells of `validation_rows`, N, and whether losses are in `nats`.
    Raises BadStudy naming an option that is out of range, `betas` for a step without moments, or `prior` for another
    step than layered.
    Source: D. Maclaurin et al. 2015 (Adam, plain) and J. Fu et al. 2016 (DrMAD: sign, at a fixed rate) descend
    likewise; the safeguards are this project's.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        derivative: str,
        step: str = "layered",
        rate: float = 0.3,
        betas: tuple[float, float] | None = None,
        shrink: float = 0.5,
        prior: float | None = None,
        validation_rows: int = 1,
        nats: bool = False,
    ) -> None:
        del seed  # nothing is drawn
        self.space = space
        self.derivative = derivative
        self.step = limits.choice("step", step, STEPS)
        self.rate = limits.number("rate", rate, above=0)
        if betas is not None and self.step not in WITH_MOMENTS:
            raise BadStudy(f"betas: {betas!r} belongs to step layered or adam, not to {self.step}: leave it out")
        self.betas = DECAYS if betas is None else _decays(betas)
        self.shrink = limits.number("shrink", shrink, above=0, below=1)
        if prior is not None and self.step != LAYERED:
            raise BadStudy(f"prior: {prior!r} belongs to step layered, not to {self.step}: leave it out")
        given = PRIOR if prior is None else limits.number("prior", prior, above=0)
        self.prior = given if self.step == LAYERED else None
        self.validation_rows, self.nats = validation_rows, nats
        self._low, self._high = space.bounds()
        self._unit, self._rates = units(space), rates(space)
        self._layers = directions.layers(space)
        sizes = np.bincount(self._layers)
        self._in_company = max(1, int(sizes[sizes > 1].sum()))
        start, moments = space.flatten(space.defaults()), directions.none(self.step, space.size)
        self._position = Position(start, np.zeros(space.size), moments, self._high)
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
            "prior": self.prior,
            "validation_rows": self.validation_rows,
            "nats": {"given": self.nats, "values": VALUES_A_NAT, "narrowest": NARROWEST},
            "recovery": RECOVERY,
            "epsilon": EPSILON,
            "longest": LONGEST,
            "worse": {"lowest": WORSE, "first": 1.0},
            "linear_units": LINEAR_UNITS,
            "deviation": DEVIATION,
            "farthest": FARTHEST,
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
            worse = trial.outcome.validation_loss > min(self._position.first, WORSE * self._position.lowest)
            self._position = self._drawn_back(ahead) if worse else ahead
        elif self._position.moments.seen:
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
            coordinates=last.coordinates,
            high=high,
            length=last.length * self.shrink,
            lowest=last.lowest,
        )

    def _slopes(self, trial: Trial) -> Array | None:
        """g `[D]`, the hypergradient along z/u and the pull of the prior; None if the trial is bad."""
        outcome = trial.outcome
        if outcome is None or not outcome.usable or outcome.hypergradient is None:
            return None
        with np.errstate(all="ignore"):  # what overflows here is what the next line looks for
            slopes = self.space.slopes(trial.proposal.values, outcome.hypergradient) * self._unit
            if self.prior is not None:
                here = self.space.flatten(trial.proposal.values) / self._unit
                slopes += self._tightness(outcome.validation_loss) * directions.deviations(here, self._layers)
            return slopes if np.isfinite(slopes @ slopes) else None

    def _tightness(self, loss: float) -> float:
        """1 / (N τ²); the first trial's own loss is L₀."""
        assert self.prior is not None
        share = 1.0
        if self.nats:
            first = self._position.first if self._position.moments.seen else loss
            nats = VALUES_A_NAT * self.validation_rows * first / self._in_company
            share = min(1.0, max(NARROWEST, nats))
        return float(1 / (self.validation_rows * self.prior**2 * share))

    def _stepped(self, here: Array, slopes: Array, loss: float) -> Position:
        last, moments = self._position, self._position.moments
        if moments.seen:
            longest = LONGEST * np.sqrt(moments.power / (1 - self.betas[1] ** moments.seen))
            slopes = slopes * min(1.0, longest / max(float(np.linalg.norm(slopes)), EPSILON)) if longest else slopes
        return Position(
            here,
            slopes,
            directions.seen(moments, self.step, self._layers, slopes, self.betas),
            last.high,
            min(1.0, last.length * RECOVERY),
            last.first if moments.seen else loss,
            min(last.lowest, loss),
        )

    def _move(self) -> Array:
        position = self._position
        along = directions.direction(position.moments, self.step, position.slopes, self.betas)
        return position.length * self.rate * self._unit * along


def _decays(betas: object) -> tuple[float, float]:
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise BadStudy(f"betas: {betas!r} must be two numbers, as [0.8, 0.99]")
    first, second = (limits.number("betas", beta, least=0, below=1) for beta in betas)
    return first, second
