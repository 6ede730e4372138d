"""What the statistics promise, kept in simulated studies: few false differences, true ones found, honest intervals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from numpy.random import Generator

from hpo.reports import comparison, ranking
from hpo.reports.anytime import Steps
from hpo.reports.arms import Json
from hpo.reports.entrants import UNITS, Entrant
from hpo.reports.field import Field
from hpo.reports.pairs import pairs
from hpo.reports.ranking import Array

STUDIES = 200
SURELY = 0.9995
"""How far from its expectation a simulated count may lie: no further than in so many of simulations."""

NOISE: dict[str, Callable[[Generator, tuple[int, ...]], Array]] = {
    "normal": lambda g, shape: g.normal(size=shape),
    "heavy tails": lambda g, shape: g.standard_t(2, size=shape),
    "ties": lambda g, shape: np.round(g.normal(size=shape)),
    "lopsided": lambda g, shape: g.exponential(size=shape),
    "sometimes failing": lambda g, shape: np.where(g.uniform(size=shape) < 0.1, np.nan, g.normal(size=shape)),
}


def blocks(generator: Generator, data: int, seeds: int) -> Array:
    """What all methods share: how hard the data set is, and how lucky the seed."""
    return (10 * generator.normal(size=(data, 1)) + generator.normal(size=(data, seeds))).ravel()


def told_apart(losses: Array) -> bool:
    """Whether any two methods are declared different."""
    p = [comparison.compare(losses[a], losses[b]).p_value for a, b in combinations(range(len(losses)), 2)]
    return any(q is not None and q < 0.05 for q in comparison.holm(p))


def judged(losses: Array) -> list[Json]:
    """The pairs of a comparison of losses `[methods, data sets, seeds]`."""
    nowhere = Steps(np.array([1.0]), np.array([1.0]), np.array([1.0]), 1.0)
    entrants = [
        Entrant(f"m{m}", f"d{d}", seed, f"d{d}", float(loss), 1.0, dict.fromkeys(UNITS, nowhere), {"trials": 1})
        for (m, d, seed), loss in np.ndenumerate(losses)
    ]
    return pairs(Field(entrants))


@pytest.mark.parametrize(("data", "seeds", "methods"), [(3, 5, 4), (8, 5, 4), (15, 5, 3)])
def test_seeds_of_a_data_set_are_no_evidence_about_methods_in_general(data: int, seeds: int, methods: int) -> None:
    # No method is better in general, but each suits some data sets, on all of their seeds.
    generator, studies = np.random.default_rng(data), 100
    wrong = pooled = friedman = 0
    for _ in range(studies):
        suits = generator.normal(size=(methods, data, 1)) + 0.3 * generator.normal(size=(methods, data, seeds))
        told = judged(np.exp(0.1 * suits))
        wrong += any(p["p_holm"] is not None and p["p_holm"] < 0.05 for p in told)
        pooled += any(q is not None and q < 0.05 for q in comparison.holm([p["pooled_p_value"] for p in told]))
        p = ranking.critical_difference(np.median(suits, axis=2)).friedman_p
        friedman += p is not None and p < 0.05
    surely = [float(scipy.stats.binom.ppf(SURELY, studies, share)) for share in (0.05, 0.06)]
    assert wrong <= surely[0]
    assert friedman <= surely[1]
    assert pooled > 2 * surely[0]  # what counting every seed as evidence of its own would do


def at_most(share: float) -> float:
    return float(scipy.stats.binom.ppf(SURELY, STUDIES, share))


@pytest.mark.parametrize("noise", NOISE)
def test_one_method_under_several_labels_is_rarely_told_from_itself(noise: str) -> None:
    generator = np.random.default_rng(sum(map(ord, noise)))
    pairs = friedman = 0
    for study in range(STUDIES):
        methods, data, seeds = 4 + study % 9, 1 + study % 4, 5 + study % 3
        losses = blocks(generator, data, seeds) + NOISE[noise](generator, (methods, data * seeds))
        pairs += told_apart(losses)
        p = ranking.critical_difference(losses).friedman_p
        friedman += p is not None and p < 0.05
    assert pairs <= at_most(0.05)
    assert friedman <= at_most(0.06)  # its F distribution is an approximation


def test_one_method_twice_among_others_that_differ() -> None:
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(STUDIES):
        losses = blocks(generator, 5, 3) + generator.standard_t(3, size=(6, 15)) + np.array([0, 0, 1, 2, 3, 4])[:, None]
        pairs = list(combinations(range(6), 2))
        p_holm = comparison.holm([comparison.compare(losses[a], losses[b]).p_value for a, b in pairs])
        same = p_holm[pairs.index((0, 1))]
        wrong += same is not None and same < 0.05
    assert wrong <= at_most(0.05)


def test_a_tenth_less_loss_is_found_in_75_pairs() -> None:
    generator = np.random.default_rng(11)
    found = groups = 0
    for _ in range(40):
        difficulty = np.exp(generator.normal(size=(15, 1)) + 0.1 * generator.normal(size=(15, 5))).ravel()
        losses = difficulty * np.exp(0.1 * generator.normal(size=(7, 75)))
        losses = losses[:6] / losses[6]  # in shares of the defaults' loss, as several data sets are compared
        losses[0] *= 0.9
        against = [comparison.compare(losses[0], other) for other in losses[1:]]
        p_holm = comparison.holm([p.p_value for p in against] + [1.0] * 10)[:5]  # fifteen pairs in all
        found += sum(p is not None and p < 0.05 for p in p_holm)
        assert all(0 < pair.median_reduction < 0.2 for pair in against if pair.median_reduction is not None)
        groups += ranking.critical_difference(losses).groups[0][0] != 0
    assert found >= 0.98 * 5 * 40
    assert groups >= 30  # the ranks' test needs more


@pytest.mark.parametrize("n", [6, 10, 15, 40])
@pytest.mark.parametrize(
    ("draw", "median"),
    [
        (lambda g, n: g.normal(size=n), 0.0),
        (lambda g, n: g.standard_t(2, size=n), 0.0),
        (lambda g, n: g.exponential(size=n), np.log(2)),
    ],
)
def test_the_interval_holds_the_median_as_often_as_it_says(
    n: int, draw: Callable[[Generator, int], Array], median: float
) -> None:
    generator = np.random.default_rng(n)
    intervals = [comparison.median_interval(draw(generator, n)) for _ in range(2000)]
    held = sum(i is not None and i[0] <= median <= i[1] for i in intervals)
    assert held >= scipy.stats.binom.ppf(1 - SURELY, 2000, 0.945)
    assert held <= scipy.stats.binom.ppf(SURELY, 2000, 0.96)
