"""Ranks of methods, and how far two mean ranks must lie apart: pure functions on arrays.

Losses are `[methods, blocks]`: a block is one data set with one seed, or one data set. NaN is an arm without a figure:
it counts as worse than any number, and two of them tie.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 6
"""Blocks below which no paired test can reach 0.05: the smallest signed-rank p-value is 2/2ⁿ, 0.0625 for n = 5."""

LEVEL = 0.05


class CriticalDifference(NamedTuple):
    """Friedman's test of k methods on n blocks, and Nemenyi's critical difference of mean ranks (Demšar 2006).

    `ranks`: the mean rank of each method. `groups`: indices of methods not told apart, best first, each group as large
    as can be and of two or more; all in one where Friedman's test finds nothing. `note` stands in place of the numbers.
    """

    n: int
    ranks: Array
    friedman_p: float | None
    difference: float | None
    groups: list[list[int]]
    note: str | None


def worst_last(losses: Array) -> Array:
    """NaN → ∞."""
    return np.where(np.isnan(losses), np.inf, losses)


def ranks(values: Array) -> Array:
    """Ranks along the first axis: 1 for the lowest; equal values share the average of their places."""
    order = values.argsort(axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    places = np.arange(1.0, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1))
    changes = np.ones((len(values) + 1, *values.shape[1:]), dtype=bool)
    changes[1:-1] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(changes[:-1], places, 0), axis=0)
    last = np.minimum.accumulate(np.where(changes[1:], places, np.inf)[::-1], axis=0)[::-1]
    ranked = np.empty(values.shape)
    np.put_along_axis(ranked, order, (first + last) / 2, axis=0)
    return ranked


def mean_ranks(losses: Array) -> Array:
    """Mean over blocks of each method's rank, `[methods, blocks]` → `[methods]`.

    Blocks on which no method has a figure say nothing and are left out; without any block the ranks are NaN.
    """
    seen = losses[:, ~np.isnan(losses).all(axis=0)]
    return ranks(worst_last(seen)).mean(axis=1) if seen.size else np.full(len(losses), np.nan)


def critical_difference(losses: Array) -> CriticalDifference:
    """Which of three or more methods differ at 0.05, by their mean ranks."""
    seen = losses[:, ~np.isnan(losses).all(axis=0)]
    (k, n), means = seen.shape, mean_ranks(losses)
    if k < 3 or n < FEWEST:
        few = f"3 or more methods are needed, not {k}" if k < 3 else f"{FEWEST} or more blocks are needed, not {n}"
        return CriticalDifference(n, means, None, None, [], few)
    p, difference = friedman(ranks(worst_last(seen))), nemenyi(k, n)
    order = [int(i) for i in means.argsort(kind="stable")]
    return CriticalDifference(n, means, p, difference, _groups(means, order, difference if p < LEVEL else k), None)


def friedman(ranked: Array) -> float:
    """The p-value of Friedman's test, by the F statistic of Iman and Davenport (1980); ranks `[k methods, n blocks]`.

    χ² = (k − 1) Σᵢ (Σⱼ dᵢⱼ)² / Σᵢⱼ dᵢⱼ² of the ranks' distances d from (k + 1)/2, which counts ties as what they are
    (Conover 1999, 5.8); F = (n − 1) χ²/(n (k − 1) − χ²) with k − 1 and (k − 1)(n − 1) degrees of freedom. Where all
    blocks agree F is infinite: then p is that of the ranks themselves, 1/k!ⁿ⁻¹ without ties. 1 if all are equal.
    """
    from scipy.special import fdtrc

    k, n = ranked.shape
    distances = ranked - (k + 1) / 2
    spread = float((distances**2).sum())
    if spread == 0:
        return 1.0
    square = (k - 1) * float((distances.sum(axis=1) ** 2).sum()) / spread
    left = n * (k - 1) - square
    if left < 1e-9 * n * k:
        _, equal = np.unique(ranked[:, 0], return_counts=True)
        orders = math.factorial(k) / math.prod(math.factorial(int(times)) for times in equal)
        return orders ** (1.0 - n)
    return float(fdtrc(k - 1, (k - 1) * (n - 1), (n - 1) * square / left))


def nemenyi(k: int, n: int) -> float:
    """q √(k (k + 1)/(6 n)): what two of k mean ranks over n blocks must differ by (Nemenyi 1963).

    √2 q is what the range of k standard normal numbers exceeds with probability 0.05.
    """
    from scipy.special import ndtr

    z = np.linspace(-9, 9, 1801)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        within = k * (density * (ndtr(z + middle) - ndtr(z)) ** (k - 1)).sum()
        low, high = (middle, high) if within < 1 - LEVEL else (low, middle)
    return low / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))


def _groups(means: Array, order: list[int], difference: float) -> list[list[int]]:
    groups: list[list[int]] = []
    reached = 0
    for start, i in enumerate(order):
        stop = max(place for place, j in enumerate(order) if means[j] - means[i] < difference) + 1
        if stop - start > 1 and stop > reached:
            groups.append(order[start:stop])
        reached = max(reached, stop)
    return groups
