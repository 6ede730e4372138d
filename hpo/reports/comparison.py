"""The statistics of two methods: pure functions on arrays, the same numbers every time.

A method is compared by one figure per pair of data set and seed: the test loss of the trial its arm would hand over,
chosen by validation alone. NaN is an arm without such a trial: it counts as worse than any number, and two of them tie.
Methods are paired by data and seed, because arms of one seed share their split and their initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpo.reports.ranking import FEWEST, Array, ranks, worst_last


class Pair(NamedTuple):
    """Method a against method b over n pairs of losses; a wins where its test loss is lower.

    `median_difference` is that of a − b and `median_reduction` that of 1 − a/b (where b > 0) over the pairs with two
    finite losses, with their intervals. `effect_size` is the matched-pairs rank-biserial correlation (Kerby 2014): the
    share of the ranks of |a − b| in a's favour minus the share against it, −1 … 1, positive where a is lower.
    `p_value` is the two-sided signed-rank test's over all n. Each is None where it would say nothing; `note` says why.
    """

    n: int
    wins: int
    ties: int
    losses: int
    median_difference: float | None
    ci95: tuple[float, float] | None
    median_reduction: float | None
    reduction_ci95: tuple[float, float] | None
    effect_size: float | None
    p_value: float | None
    note: str | None


def select(complete: Sequence[bool], validation: Sequence[float]) -> int | None:
    """The index of the lowest finite validation loss among complete trials, the first of equals; None without any."""
    usable = np.where(np.asarray(complete, dtype=bool), np.asarray(validation, dtype=float), np.nan)
    usable[~np.isfinite(usable)] = np.inf
    if not usable.size or np.isinf(usable.min()):
        return None
    return int(usable.argmin())


def compare(a: Array, b: Array) -> Pair:
    """Two methods' test losses, `[n]` each, paired; pairs in which neither has a figure are left out."""
    seen = ~(np.isnan(a) & np.isnan(b))
    first, second = worst_last(a[seen]), worst_last(b[seen])
    finite = np.isfinite(first) & np.isfinite(second)
    differences = first[finite] - second[finite]
    positive = finite & (second > 0)
    reductions = 1 - first[positive] / second[positive]
    ordered = _ordered_differences(first, second)
    n = len(first)
    few = n < FEWEST
    return Pair(
        n=n,
        wins=int((first < second).sum()),
        ties=int((first == second).sum()),
        losses=int((first > second).sum()),
        median_difference=float(np.median(differences)) if differences.size else None,
        ci95=median_interval(differences),
        median_reduction=float(np.median(reductions)) if reductions.size else None,
        reduction_ci95=median_interval(reductions),
        effect_size=rank_biserial(ordered) if n else None,
        p_value=None if few else signed_rank(ordered),
        note=f"below {FEWEST} pairs, here {n}, there is no p-value under 0.05 and no 95 % interval" if few else None,
    )


def median_interval(values: Array) -> tuple[float, float] | None:
    """The distribution-free 95 % interval of a median: order statistics, interpolated (Hettmansperger, Sheather 1986).

    The k-th lowest and k-th highest value hold the median with probability 1 − 2 P(Binomial(n, ½) < k); between the
    two k around 95 % the ends are interpolated. The percentile bootstrap ends at whole order statistics: of 7 or 15
    values it holds the median in about 90 % of samples. None below six values: not even the lowest and the highest of
    five hold it in 95 %.
    """
    n = len(values)
    if n < FEWEST:
        return None
    ordered, k, outside = np.sort(values), 0, 0.0  # outside: of the k-th lowest to the k-th highest
    while (more := outside + 2 * math.comb(n, k) / 2**n) <= 0.05:
        k, outside = k + 1, more
    share = (0.05 - outside) / (more - outside)
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    low = ordered[k - 1] + weight * (ordered[k] - ordered[k - 1])
    high = ordered[n - k] - weight * (ordered[n - k] - ordered[n - k - 1])
    return float(low), float(high)


def signed_rank(differences: Array) -> float:
    """The exact two-sided p-value of Wilcoxon's signed-rank test (1945): zeros dropped, ties share their average rank.

    The distribution of the positive ranks' sum under random signs is counted out for any n, given the ties; with
    nothing but zeros p is 1. Twice the smaller tail, at most 1.
    """
    moved = differences[differences != 0]
    doubled = np.rint(2 * ranks(np.abs(moved))).astype(int)  # average ranks are multiples of one half
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = (ways[rank:] + ways[: len(ways) - rank]) / 2
        ways[:rank] /= 2
    positive = doubled[moved > 0].sum()
    return float(min(1.0, 2 * min(ways[: positive + 1].sum(), ways[positive:].sum())))


def rank_biserial(differences: Array) -> float:
    """(ranks of the negative − ranks of the positive) / all ranks of |differences|, zeros dropped; 0 without any."""
    moved = differences[differences != 0]
    ranked = ranks(np.abs(moved))
    return float((ranked[moved < 0].sum() - ranked[moved > 0].sum()) / max(ranked.sum(), 1.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979) over the p-values that exist; None stays None."""
    there = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, i) in enumerate(there):
        highest = max(highest, min(1.0, (len(there) - place) * p))
        adjusted[i] = highest
    return adjusted


def pairs_needed(tests: int) -> int:
    """The fewest pairs of losses with which the smallest of `tests` p-values can pass 0.05 after Holm's correction.

    The smallest p of n pairs is 2/2ⁿ, and Holm multiplies the smallest of m by m.
    """
    return math.ceil(math.log2(2 * max(tests, 1) / 0.05))


def _ordered_differences(first: Array, second: Array) -> Array:
    """first − second, an infinite one just beyond the largest finite one: a rank test needs the order alone."""
    finite = np.isfinite(first) & np.isfinite(second)
    differences = np.where(first < second, -np.inf, np.where(first > second, np.inf, 0.0))
    differences[finite] = first[finite] - second[finite]
    beyond = 2 * np.abs(differences[finite]).max(initial=0.0) + 1
    return np.clip(differences, -beyond, beyond)
