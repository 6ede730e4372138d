"""The statistics against values worked out by hand and against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hpo.reports import comparison

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("complete", "validation", "chosen"),
    [
        ([True, True, True], [0.3, 0.1, 0.2], 1),
        ([True, False, True], [0.3, 0.1, 0.2], 2),
        ([True, True, True], [NAN, 0.2, 0.2], 1),
        ([True, True, True], [-INF, INF, 5.0], 2),
        ([True, True], [NAN, INF], None),
        ([False], [0.1], None),
        ([], [], None),
    ],
)
def test_a_trial_is_selected_by_validation_alone(
    complete: list[bool], validation: list[float], chosen: int | None
) -> None:
    assert comparison.select(complete, validation) == chosen


def test_ranks_by_hand() -> None:
    losses = np.array([[0.1, 0.5, 0.2], [0.2, 0.5, NAN], [0.3, 0.4, NAN], [0.4, INF, NAN]])
    #                   ranks:  1 2 3 4      2.5 2.5 1 4    1 3 3 3
    assert comparison.mean_ranks(losses) == pytest.approx([4.5 / 3, 7.5 / 3, 7 / 3, 11 / 3])


def test_seeds_without_any_figure_do_not_count() -> None:
    losses = np.array([[0.1, NAN], [0.2, NAN]])
    assert comparison.mean_ranks(losses) == pytest.approx([1, 2])
    assert np.isnan(comparison.mean_ranks(np.full((2, 3), NAN))).all()


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, INF]), min_size=1, max_size=12))
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    ranks = comparison.mean_ranks(np.array(values)[:, None])
    assert np.array_equal(ranks, scipy.stats.rankdata(values))


def test_a_pair_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, NAN, 1.0, NAN])
    b = np.array([2.0, 2.0, 1.0, 5.0, NAN, NAN])
    pair = comparison.compare(a, b)
    assert pair[:5] == (5, 2, 1, 2, 0.0)  # differences where both are finite: −1, 0, 2
    assert pair.ci95 == (-1.0, 2.0)
    assert pair.p_value is None
    assert pair.note == "5 seeds: below 6 no p-value can be under 0.05, and the interval is too narrow"


def test_a_pair_without_anything_to_compare() -> None:
    assert comparison.compare(np.array([NAN]), np.array([NAN]))[:6] == (0, 0, 0, 0, None, None)
    assert comparison.compare(np.array([1.0]), np.array([NAN]))[:6] == (1, 1, 0, 0, None, None)
    assert comparison.compare(np.array([1.0]), np.array([3.0]))[:6] == (1, 1, 0, 0, -2.0, None)


def test_six_wins_of_six_are_the_first_that_can_matter() -> None:
    a = np.arange(6.0)
    pair = comparison.compare(a, a + 1 + a / 10)
    assert (pair.n, pair.wins, pair.note) == (6, 6, None)
    assert pair.p_value == pytest.approx(2 / 2**6)
    flipped = comparison.compare(a + 1 + a / 10, a)
    assert (flipped.losses, flipped.p_value) == (6, pair.p_value)


def test_a_method_that_fails_is_worse_than_any_number() -> None:
    a, b = np.zeros(8), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, NAN, NAN])
    pair = comparison.compare(a, b)
    assert (pair.wins, pair.median_difference) == (8, -3.5)
    # Ranks 1 … 6 and twice 7.5, all of one sign: the farthest of 2⁸ outcomes on either side.
    assert pair.p_value == pytest.approx(2 / 2**8)
    assert comparison.compare(b, b).p_value == 1.0


def test_the_signed_ranks_by_hand() -> None:
    # Ranks 1, 2, 3 with signs +, −, +: the positive sum is 4 of 6; P(T ≥ 4) = 3/8, P(T ≤ 4) = 6/8.
    assert comparison.signed_rank(np.array([1.0, -2.0, 3.0])) == pytest.approx(6 / 8)
    # Two equal sizes share rank 1.5: T = 0 for −, −, one of four ways.
    assert comparison.signed_rank(np.array([-1.0, -1.0])) == pytest.approx(2 / 4)
    assert comparison.signed_rank(np.zeros(4)) == 1.0
    assert comparison.signed_rank(np.zeros(0)) == 1.0


@pytest.mark.parametrize("n", [6, 7, 10, 25, 50])
def test_the_signed_rank_p_value_is_scipys(n: int) -> None:
    generator = np.random.default_rng(n)
    for shift in (0.0, 0.3, 1.0):
        differences = generator.normal(shift, size=n)
        expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
        assert comparison.signed_rank(differences) == pytest.approx(expected, rel=1e-9)


def test_with_ties_the_p_value_is_that_of_all_sign_flips() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        differences = generator.integers(-4, 5, size=9).astype(float)
        moved = differences[differences != 0]
        ranks = scipy.stats.rankdata(np.abs(moved))
        flips = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        sums, positive = flips @ ranks, ranks[moved > 0].sum()
        expected = min(1.0, 2 * min((sums <= positive).mean(), (sums >= positive).mean()))
        assert comparison.signed_rank(differences) == pytest.approx(expected)


def test_a_hundred_pairs_are_counted_out_too() -> None:
    differences = np.random.default_rng(1).normal(0.2, size=100)
    expected = scipy.stats.wilcoxon(differences, method="asymptotic").pvalue
    assert comparison.signed_rank(differences) == pytest.approx(expected, rel=0.05)


def test_the_interval_of_a_median() -> None:
    differences = np.random.default_rng(0).normal(1.0, 1.0, size=200)
    low, high = comparison.median_interval(differences)
    assert low < np.median(differences) < high
    expected = scipy.stats.bootstrap((differences,), np.median, method="percentile", rng=np.random.default_rng(5))
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.03)
    assert comparison.median_interval(differences) == (low, high)
    assert comparison.median_interval(np.ones(3)) == (1.0, 1.0)


def test_holm_by_hand() -> None:
    assert comparison.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert comparison.holm([None]) == [None]
    assert comparison.holm([]) == []


@pytest.mark.parametrize(("pairs", "seeds"), [(0, 6), (1, 6), (3, 7), (10, 9), (45, 11)])
def test_how_many_seeds_it_takes(pairs: int, seeds: int) -> None:
    assert comparison.seeds_needed(pairs) == seeds
    assert 2 / 2**seeds * max(pairs, 1) <= 0.05 < 2 / 2 ** (seeds - 1) * max(pairs, 1)
