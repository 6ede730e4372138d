"""The incumbent over what was spent: step functions of one arm, medians and quartiles over many. Pure, on arrays.

The incumbent of an arm is its usable trial with the lowest validation loss so far, in the order of the trials' numbers:
so a curve does not depend on how many workers a study had, and its end is the trial the arm hands over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpo.reports.ranking import Array, ranks, worst_last

POINTS = 100
"""Of a grid, at most."""

QUARTILES = (0.25, 0.5, 0.75)


class Steps(NamedTuple):
    """An arm's incumbent: its losses `[S]` from `at` `[S]` on, spent in one unit; `spent`: all the arm has spent."""

    at: Array
    validation: Array
    test: Array
    spent: float


def improvements(validation: Array) -> NDArray[np.intp]:
    """The indices of the trials that became the incumbent; a loss that is not finite never does."""
    losses = np.where(np.isfinite(validation), validation, np.inf)
    before = np.concatenate([[np.inf], np.minimum.accumulate(losses)[:-1]])
    return np.flatnonzero(losses < before)


def steps(costs: Array, validation: Array, test: Array) -> Steps:
    """Of trials in order: what each cost, its validation loss (NaN unless it is usable) and its test loss."""
    spent, better = np.cumsum(costs), improvements(validation)
    return Steps(spent[better], validation[better], test[better], float(spent[-1]) if spent.size else 0.0)


def grid(arms: Sequence[Steps]) -> Array:
    """Where incumbents change, and where the last arm ends; of more than 100 such points, 100 evenly by rank."""
    points = np.unique(np.concatenate([[max((arm.spent for arm in arms), default=0.0)], *(arm.at for arm in arms)]))
    if len(points) <= POINTS:
        return points
    return points[np.rint(np.linspace(0, len(points) - 1, POINTS)).astype(int)]


def sampled(at: Array, values: Array, points: Array) -> Array:
    """A step function at given points, ∞ before its first step; a value of NaN counts as ∞."""
    return np.concatenate([[np.inf], worst_last(values)])[np.searchsorted(at, points, side="right")]


def quantiles(values: Array, shares: Sequence[float]) -> list[Array]:
    """Along the first axis, as NumPy's, but ∞ among the values is no NaN."""
    ordered, found = np.sort(values, axis=0), []
    for share in shares:
        place = share * (len(values) - 1)
        low, part = int(place), place % 1
        found.append(ordered[low] if part == 0 else (1 - part) * ordered[low] + part * ordered[low + 1])
    return found


def median(arms: Sequence[Steps]) -> Steps:
    """The medians of several arms' incumbents, ∞ for an arm that has none yet. `spent`: the most that one has."""
    at = np.unique(np.concatenate([arm.at for arm in arms]))
    validation, test = (
        quantiles(np.array([sampled(arm.at, losses, at) for arm, losses in zip(arms, kind, strict=True)]), [0.5])[0]
        for kind in ([arm.validation for arm in arms], [arm.test for arm in arms])
    )
    return Steps(at, validation, test, max(arm.spent for arm in arms))


def reached(curve: Steps, goal: float) -> float | None:
    """What was spent when the test loss was first at a finite goal or below; None: never."""
    there = np.flatnonzero(curve.test <= goal) if math.isfinite(goal) else []
    return float(curve.at[there[0]]) if len(there) else None


def more_budget(a: Steps, b: Steps) -> float | None:
    """How many times what a took to its final test loss b takes to get there; None: it never does."""
    mine, theirs = reached(a, _final(a)), reached(b, _final(a))
    return theirs / mine if mine and theirs is not None else None


def less_budget(a: Steps, b: Steps) -> float | None:
    """The share of a's spending after which it was at b's final test loss; None: it never was."""
    mine = reached(a, _final(b))
    return mine / a.spent if mine is not None and a.spent else None


def mean_ranks(tests: Array) -> Array:
    """`[methods, blocks, points]` → `[methods, points]`; an arm without an incumbent (∞) ranks last."""
    return ranks(tests).mean(axis=1)


def _final(curve: Steps) -> float:
    return float(curve.test[-1]) if curve.test.size else math.inf
