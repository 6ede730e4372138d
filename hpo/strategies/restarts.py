"""Descents at once, from different starts and with different super-parameters; the losers are stopped.

With `restarts: 1` this is one descent, as `descent.py` has it. With R of them, member 0 is that descent too. The others
draw, log-uniform from a quarter to four times (Fu et al. 2016 choose super-parameters by random search):

- its `rate`, of what is given;
- with moments (layered, adam) 1 − β, of both;
- its start: one factor for all values of a hyperparameter, of its default; on a linear scale as many tenths of the
  range away as it would be factors of e. A draw for each value would leave the mean of thousands where it was.

The draws are a Latin hypercube (McKay, Beckman, Conover 1979): of each of these figures R − 1 equal parts of the range
have a member each, so that a few members are enough for one with a much higher rate and one with a much lower one.

Then by successive halving (Jamieson, Talwalkar 2016): rung k = 0, 1, … gives every member that is left
rung·halvingᵏ more trials, dealt in turn, and the best ⌊n/halving⌋ of n, by their lowest validation loss so far, go
on. A rung costs R·rung trials or somewhat less, and there are about log(R)/log(halving); the one that is left has the
rest of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies import limits
from hpo.strategies.descent import Descent
from hpo.strategies.directions import WITH_MOMENTS
from hpo.strategies.retreat import units
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array, Proposal, Trial

SPREAD = math.log(4)
"""How far a member may draw from what is given, in factors of e."""

HALVING, RUNG = 2, 3


class Rung(NamedTuple):
    """Trials `first` to `last` − 1, dealt in turn to `members`, each of which has had `before` of its own."""

    first: int
    last: float
    before: int
    members: tuple[int, ...]

    def place(self, number: int) -> tuple[int, int]:
        """Whose trial a number is, and which of its own."""
        turn, position = divmod(number - self.first, len(self.members))
        return self.members[position], self.before + turn


class Restarts:
    """`restarts` descents on the hypergradient named `derivative`; each waits for its own last outcome only.

    `rung`: trials of each before the first are stopped, 3 if not given. `halving`: one in so many goes on, 2 if not
    given. The other options are those of every member, or of member 0 where the others draw.
    Raises BadStudy naming an option that is out of range, or one that a single descent has no use for.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        derivative: str,
        restarts: int = 1,
        rung: int | None = None,
        halving: int | None = None,
        step: str = "layered",
        rate: float = 0.3,
        betas: tuple[float, float] | None = None,
        shrink: float = 0.5,
        prior: float | None = None,
        validation_rows: int = 1,
        nats: bool = False,
    ) -> None:
        limits.whole("restarts", restarts, least=1)
        for name, given in (("rung", rung), ("halving", halving)):
            if given is not None and restarts == 1:
                raise BadStudy(f"{name}: {given!r} belongs to several restarts: set restarts above 1, or leave it out")
        self.rung = RUNG if rung is None else limits.whole("rung", rung, least=1)
        self.halving = HALVING if halving is None else limits.whole("halving", halving, least=2)
        alike = {"step": step, "shrink": shrink, "prior": prior, "validation_rows": validation_rows, "nats": nats}
        first = Descent(space, seed, derivative=derivative, rate=rate, betas=betas, **alike)
        draws = _spread(np.random.default_rng(trial_seed(seed, 0)), restarts - 1, len(space.groups) + 3)
        self._members = [first, *(_drawn(first, away) for away in draws)]
        self._best = [math.inf] * restarts
        self._rung = self._climbed(0, 0, tuple(range(restarts)))
        self._closed: set[int] = set()
        self._waiting: dict[int, Trial] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the first member; with several, what the others drew: `start` is the first trial's values."""
        settings = {**self._members[0].settings, "restarts": len(self._members)}
        if len(self._members) == 1:
            return settings
        drawn = [
            {"rate": m.rate, "betas": list(m.betas), "start": {g.name: g.default for g in m.space.groups}}
            for m in self._members
        ]
        return {**settings, "rung": self.rung, "halving": self.halving, "spread": SPREAD, "members": drawn}

    @property
    def batch(self) -> int:
        """A trial of every member that is left."""
        return len(self._rung.members)

    def ask(self, number: int) -> Proposal | None:
        """The next point of the member whose turn it is; None until it was told its last trial, or the rung ended."""
        if not self._rung.first <= number < self._rung.last:
            return None
        member, own = self._rung.place(number)
        proposal = self._members[member].ask(own)
        return None if proposal is None else replace(proposal, number=number)

    def tell(self, trial: Trial) -> None:
        """Hand the trial on to its member, as soon as it is known whose it is."""
        if trial.outcome is not None:
            self._waiting[trial.number] = trial
        while due := [n for n in self._waiting if self._rung.first <= n < self._rung.last]:
            for number in due:
                self._hand_on(self._waiting.pop(number))
            if len(self._closed) == self._rung.last - self._rung.first:
                self._halve()

    def _hand_on(self, trial: Trial) -> None:
        member, own = self._rung.place(trial.number)
        self._closed.add(trial.number)
        if trial.outcome is not None and trial.outcome.usable:
            self._best[member] = min(self._best[member], trial.outcome.validation_loss)
        self._members[member].tell(replace(trial, proposal=replace(trial.proposal, number=own)))

    def _halve(self) -> None:
        rung, self._closed = self._rung, set()
        ranked = sorted(rung.members, key=self._best.__getitem__)
        going_on = ranked[: max(1, len(ranked) // self.halving)]
        had = (int(rung.last) - rung.first) // len(ranked)
        self._rung = self._climbed(int(rung.last), rung.before + had, tuple(sorted(going_on)))

    def _climbed(self, first: int, before: int, members: tuple[int, ...]) -> Rung:
        """The rung of these members after `before` trials of each: rung·(1 + halving + … ) = before."""
        length = self.rung + (self.halving - 1) * before
        return Rung(first, first + length * len(members) if len(members) > 1 else math.inf, before, members)


def _spread(rng: np.random.Generator, members: int, figures: int) -> Array:
    """A Latin hypercube `[members, figures]` between −SPREAD and SPREAD."""
    parts = rng.permuted(np.tile(np.arange(members), (figures, 1)), axis=1).T
    return SPREAD * (2 * (parts + rng.random(parts.shape)) / max(members, 1) - 1)


def _drawn(given: Descent, away: Array) -> Descent:
    """Another start with other super-parameters, so far away `[figures]`: three of the descent, one a group."""
    space = given.space
    moved = np.repeat(away[3:], [g.size for g in space.groups]) * units(space)
    start = space.unflatten(np.clip(space.flatten(space.defaults()) + moved, *space.bounds()))
    rate, *decays = np.exp(away[:3]) * [given.rate, *_left(given.betas)]
    return Descent(
        Space(tuple(replace(g, default=float(start[g.name][0])) for g in space.groups)),
        0,
        derivative=given.derivative,
        step=given.step,
        rate=float(rate),
        betas=tuple(_left(np.minimum(decays, 1.0)).tolist()) if given.step in WITH_MOMENTS else None,
        shrink=given.shrink,
        prior=given.prior,
        validation_rows=given.validation_rows,
        nats=given.nats,
    )


def _left(betas: tuple[float, float] | Array) -> Array:
    return 1.0 - np.asarray(betas)
