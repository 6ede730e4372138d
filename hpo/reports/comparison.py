"""The statistics of a comparison: pure functions on arrays, the same numbers every time.

A method is compared by one figure per seed: the test loss of the trial its arm would hand over, chosen by validation
alone. NaN is an arm without such a trial: it counts as worse than any number, and two of them tie. Methods are paired
by seed, because arms of one seed share their split and their initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 6
"""Pairs below which no signed-rank p-value can be under 0.05: the smallest is 2/2ⁿ, 0.0625 for n = 5."""

RESAMPLES = 10_000


class Pair(NamedTuple):
    """Method a against method b over n seeds; a wins where its test loss is lower.

    `median_difference` is that of a − b over the seeds where both have a finite loss, `ci95` its bootstrap interval,
    `p_value` the two-sided signed-rank test's over all n; each is None where it would say nothing, and `note` says why.
    """

    n: int
    wins: int
    ties: int
    losses: int
    median_difference: float | None
    ci95: tuple[float, float] | None
    p_value: float | None
    note: str | None


def select(complete: Sequence[bool], validation: Sequence[float]) -> int | None:
    """The index of the lowest finite validation loss among complete trials, the first of equals; None without any."""
    usable = np.where(np.asarray(complete, dtype=bool), np.asarray(validation, dtype=float), np.nan)
    usable[~np.isfinite(usable)] = np.inf
    if not usable.size or np.isinf(usable.min()):
        return None
    return int(usable.argmin())


def mean_ranks(losses: Array) -> Array:
    """Mean over seeds of each method's rank, `[methods, seeds]` → `[methods]`; 1 is best, ties share their average.

    Seeds on which no method has a figure say nothing and are left out; without any seed the ranks are NaN.
    """
    seen = losses[:, ~np.isnan(losses).all(axis=0)]
    if not seen.size:
        return np.full(len(losses), np.nan)
    return np.mean([_ranks(_worst_last(seed)) for seed in seen.T], axis=0)


def compare(a: Array, b: Array) -> Pair:
    """Two methods' test losses by seed, `[S]` each; seeds on which neither has a figure are left out."""
    seen = ~(np.isnan(a) & np.isnan(b))
    first, second = _worst_last(a[seen]), _worst_last(b[seen])
    finite = np.isfinite(first) & np.isfinite(second)
    differences = first[finite] - second[finite]
    n = len(first)
    few = n < FEWEST
    return Pair(
        n=n,
        wins=int((first < second).sum()),
        ties=int((first == second).sum()),
        losses=int((first > second).sum()),
        median_difference=float(np.median(differences)) if differences.size else None,
        ci95=median_interval(differences) if differences.size > 1 else None,
        p_value=None if few else signed_rank(_ordered_differences(first, second)),
        note=f"{n} seeds: below {FEWEST} no p-value can be under 0.05, and the interval is too narrow" if few else None,
    )


def median_interval(differences: Array, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the median (Efron 1979); the same draws for the same n."""
    draws = np.random.default_rng(0).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.percentile(np.median(differences[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def signed_rank(differences: Array) -> float:
    """The exact two-sided p-value of Wilcoxon's signed-rank test (1945): zeros dropped, ties share their average rank.

    The distribution of the positive ranks' sum under random signs is counted out for any n, given the ties; with
    nothing but zeros p is 1. Twice the smaller tail, at most 1.
    """
    moved = differences[differences != 0]
    doubled = np.rint(2 * _ranks(np.abs(moved))).astype(int)  # average ranks are multiples of one half
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = (ways[rank:] + ways[: len(ways) - rank]) / 2
        ways[:rank] /= 2
    positive = doubled[moved > 0].sum()
    return float(min(1.0, 2 * min(ways[: positive + 1].sum(), ways[positive:].sum())))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979) over the p-values that exist; None stays None."""
    there = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, i) in enumerate(there):
        highest = max(highest, min(1.0, (len(there) - place) * p))
        adjusted[i] = highest
    return adjusted


def seeds_needed(pairs: int) -> int:
    """The fewest seeds with which the smallest of `pairs` signed-rank p-values can pass 0.05 after Holm's correction.

    The smallest p of n seeds is 2/2ⁿ, and Holm multiplies the smallest of m by m.
    """
    return math.ceil(math.log2(2 * max(pairs, 1) / 0.05))


def _worst_last(losses: Array) -> Array:
    return np.where(np.isnan(losses), np.inf, losses)


def _ordered_differences(first: Array, second: Array) -> Array:
    """first − second, an infinite one just beyond the largest finite one: a rank test needs the order alone."""
    finite = np.isfinite(first) & np.isfinite(second)
    differences = np.where(first < second, -np.inf, np.where(first > second, np.inf, 0.0))
    differences[finite] = first[finite] - second[finite]
    beyond = 2 * np.abs(differences[finite]).max(initial=0.0) + 1
    return np.clip(differences, -beyond, beyond)


def _ranks(values: Array) -> Array:
    """1 for the lowest; equal values share the average of their places."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
