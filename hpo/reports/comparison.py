"""The statistics of two methods: pure functions on arrays, the same numbers every time.

A method is compared by one figure per pair of data set and seed: the test loss of the trial its arm would hand over,
chosen by validation alone. NaN is an arm without such a trial: it counts as worse than any number, and two of them tie.
Methods are paired by data and seed, because arms of one seed share their split and their initial weights. Over several
data sets each gives one figure, as its seeds are no evidence about another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpo.reports.ranking import FEWEST, Array, ranks, worst_last


class Pair(NamedTuple):
    """Method a against method b over n pairs of losses; a wins where its test loss is lower.

    `median_difference` is that of a − b and `median_reduction` that of 1 − a/b, over all n, with their intervals: where
    one of the two has no figure a − b is ±∞ and so is the reduction. `effect_size` is the matched-pairs rank-biserial
    correlation (Kerby 2014): the share of the ranks of |a − b| in a's favour minus the share against it, −1 … 1,
    positive where a is lower. `p_value` is the two-sided signed-rank test's over all n. Each is None where it would say
    nothing or be infinite; `note` says why.
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
    differences, reductions, _ = _apart(a, b)
    return _told(differences, reductions, "pairs")


def compare_over_data(a: Array, b: Array, data: Sequence[str]) -> Pair:
    """As `compare`, with one figure a data set: the median of its pairs' differences, and of their reductions.

    `data`: the data set of each pair.
    """
    differences, reductions, seen = _apart(a, b)
    names = np.array(data)[seen]
    groups = [names == name for name in dict.fromkeys(names.tolist())]
    each = np.array([_middle(differences[group]) for group in groups])
    return _told(each, None if reductions is None else np.array([_middle(reductions[g]) for g in groups]), "data sets")


def _apart(a: Array, b: Array) -> tuple[Array, Array | None, NDArray[np.bool_]]:
    """a − b and 1 − a/b, ±∞ where one of the two has no figure; which pairs are left. None: some b is not positive."""
    seen = ~(np.isnan(a) & np.isnan(b))
    first, second = worst_last(a[seen]), worst_last(b[seen])
    finite = np.isfinite(first) & np.isfinite(second)
    differences = _signs(first, second)
    reductions = -differences
    differences[finite] = first[finite] - second[finite]
    if finite.any() and second[finite].min() <= 0:
        return differences, None, seen
    reductions[finite] = 1 - first[finite] / second[finite]
    return differences, reductions, seen


def _told(differences: Array, reductions: Array | None, of: str) -> Pair:
    beyond = 2 * np.abs(differences[np.isfinite(differences)]).max(initial=0.0) + 1  # a rank test needs the order alone
    ordered = np.clip(differences, -beyond, beyond)
    n, median = len(differences), _median(differences)
    notes = [
        (n < FEWEST, f"below {FEWEST} {of}, here {n}, there is no p-value under 0.05 and no 95 % interval"),
        (n > 0 and median is None, f"on half of {n} {of} or more a method has no figure: there is no median"),
        (reductions is None, "a reduction is a share of positive losses, and b has others"),
    ]
    return Pair(
        n=n,
        wins=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences > 0).sum()),
        median_difference=median,
        ci95=median_interval(differences),
        median_reduction=None if reductions is None else _median(reductions),
        reduction_ci95=None if reductions is None else median_interval(reductions),
        effect_size=rank_biserial(ordered) if n else None,
        p_value=None if n < FEWEST else signed_rank(ordered),
        note="; ".join(said for applies, said in notes if applies) or None,
    )


def _middle(values: Array) -> float:
    """The median; between −∞ and ∞ a tie."""
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(np.median(values), nan=0.0, posinf=np.inf, neginf=-np.inf))


def by_data(losses: Array, data: Sequence[str]) -> Array:
    """One loss a data set, in the order they come in: the median over its seeds; NaN where that is infinite.

    An arm without a figure counts as ∞. `data`: the data set of each loss.
    """
    worst, names = worst_last(losses), np.array(data)
    medians = np.array([np.median(worst[names == name]) for name in dict.fromkeys(data)])
    return np.where(np.isfinite(medians), medians, np.nan)


def median_interval(values: Array) -> tuple[float, float] | None:
    """The distribution-free 95 % interval of a median: order statistics, interpolated (Hettmansperger, Sheather 1986).

    The k-th lowest and k-th highest value hold the median with probability 1 − 2 P(Binomial(n, ½) < k); between the
    two k around 95 % the ends are interpolated. The percentile bootstrap ends at whole order statistics: of 7 or 15
    values it holds the median in about 90 % of samples. None below six values: not even the lowest and the highest of
    five hold it in 95 %; None where an end is infinite.
    """
    n = len(values)
    if n < FEWEST:
        return None
    ordered, k, outside = np.sort(values), 0, 0.0  # outside: of the k-th lowest to the k-th highest
    while (more := outside + 2 * math.comb(n, k) / 2**n) <= 0.05:
        k, outside = k + 1, more
    share = (0.05 - outside) / (more - outside)
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    ends = ordered[[k - 1, k, n - k - 1, n - k]]
    if not np.isfinite(ends).all():
        return None
    low = ends[0] + weight * (ends[1] - ends[0])
    high = ends[3] - weight * (ends[3] - ends[2])
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


def _signs(first: Array, second: Array) -> Array:
    """−∞ where the first is lower, ∞ where it is higher, else 0."""
    return np.where(first < second, -np.inf, np.where(first > second, np.inf, 0.0))


def _median(values: Array) -> float | None:
    """None where it is infinite, or there is none."""
    ordered, n = np.sort(values), len(values)
    middle = ordered[[(n - 1) // 2, n // 2]] if n else np.array([np.inf])
    return float(middle.mean()) if np.isfinite(middle).all() else None
