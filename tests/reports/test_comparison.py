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


def test_a_pair_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, NAN, 1.0, NAN])
    b = np.array([2.0, 2.0, 1.0, 5.0, NAN, NAN])
    pair = comparison.compare(a, b)
    assert pair[:5] == (5, 2, 1, 2, 0.0)  # differences where both are finite: −1, 0, 2
    assert pair.median_reduction == 0.0  # of 1 − 1/2, 0, 1 − 3/1
    # Ranks of the differences −1, 0 (dropped), 2, −∞, ∞: −1 and 2 are first and second, the infinite two share 3.5.
    assert pair.effect_size == pytest.approx((1 - 2) / 10)
    assert (pair.ci95, pair.reduction_ci95, pair.p_value) == (None, None, None)
    assert pair.note == "below 6 pairs, here 5, there is no p-value under 0.05 and no 95 % interval"


def test_reductions_are_shares_of_a_positive_loss() -> None:
    a, b = np.array([0.9, 0.5, 1.0]), np.array([1.0, 1.0, 4.0])
    assert comparison.compare(a, b).median_reduction == pytest.approx(0.5)
    pair = comparison.compare(a, np.array([1.0, 1.0, 0.0]))
    assert (pair.median_reduction, pair.reduction_ci95, pair.median_difference) == (None, None, pytest.approx(-0.1))
    assert pair.note is not None
    assert pair.note.endswith("; a reduction is a share of positive losses, and b has others")


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
    # Differences −1 … −6 and twice −∞: the middle two are −4 and −5. Reductions 0 … and twice ∞.
    assert (pair.wins, pair.median_difference, pair.effect_size) == (8, -4.5, 1.0)
    assert pair.median_reduction == 1.0
    # Ranks 1 … 6 and twice 7.5, all of one sign: the farthest of 2⁸ outcomes on either side.
    assert pair.p_value == pytest.approx(2 / 2**8)
    assert comparison.compare(b, b).p_value == 1.0


def test_where_half_the_arms_fail_there_is_no_median() -> None:
    pair = comparison.compare(np.zeros(8), np.array([1.0] * 4 + [NAN] * 4))
    assert pair[4:8] == (None, None, None, None)
    assert pair.note == "on half of 8 pairs or more a method has no figure: there is no median"
    assert (pair.effect_size, pair.p_value) == (1.0, pytest.approx(2 / 2**8))
    # One that fails where the other wins has the larger median, whatever the pairs with two figures say.
    assert comparison.compare(np.array([0.5] * 3 + [NAN] * 4), np.ones(7)).median_difference is None
    assert comparison.compare(np.array([0.5] * 3 + [NAN] * 2 + [2.0] * 2), np.ones(7)).median_difference == 1.0


def test_a_data_set_gives_the_median_of_its_seeds() -> None:
    losses = np.array([1.0, 5.0, 2.0, NAN, 3.0, NAN, NAN])
    medians = comparison.by_data(losses, ["b", "a", "b", "b", "a", "c", "c"])
    assert medians[:2].tolist() == [2.0, 4.0]  # of 1, 2, ∞ and of 5, 3
    assert math.isnan(medians[2])


def test_over_data_sets_the_pairs_of_one_are_one_figure() -> None:
    """a is lower on most seeds of both data sets, though its median on the first is the higher one."""
    a = np.array([1.0, 3.0, 6.0, 0.5, 0.5, NAN])
    b = np.array([2.0, 4.0, 2.5, 1.0, 1.0, 1.0])
    pair = comparison.compare_over_data(a, b, ["p", "p", "p", "q", "q", "q"])
    assert (pair.n, pair.wins, pair.losses, pair.median_difference) == (2, 2, 0, -0.75)
    assert pair.median_reduction == pytest.approx((0.25 + 0.5) / 2)
    assert pair.note == "below 6 data sets, here 2, there is no p-value under 0.05 and no 95 % interval"
    torn = comparison.compare_over_data(np.array([NAN, 1.0]), np.array([1.0, NAN]), ["p", "p"])
    assert (torn.n, torn.ties) == (1, 1)  # each fails where the other does not
    assert comparison.compare_over_data(np.array([NAN]), np.array([NAN]), ["p"]).n == 0


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


def test_the_interval_of_a_median_by_hand() -> None:
    # n = 6: the lowest and the highest hold the median in 1 − 2/64 = 96.9 % of samples, the next in 78.1 %. Between
    # them: (0.96875 − 0.95)/(0.96875 − 0.78125) = 0.1, a weight of 5·0.1/(1 + 4·0.1) = 0.357.
    values = np.array([5.0, 1.0, 4.0, 2.0, 6.0, 3.0])
    assert comparison.median_interval(values) == pytest.approx((1 + 5 / 14, 6 - 5 / 14))
    assert comparison.median_interval(np.full(9, 0.3)) == (0.3, 0.3)
    assert comparison.median_interval(values[:5]) is None


def test_of_many_values_the_interval_is_the_bootstraps() -> None:
    differences = np.random.default_rng(0).normal(1.0, 1.0, size=200)
    expected = scipy.stats.bootstrap((differences,), np.median, method="percentile", rng=np.random.default_rng(5))
    assert comparison.median_interval(differences) == pytest.approx(tuple(expected.confidence_interval), abs=0.03)


LOSSES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, INF, NAN]) | st.floats(0.01, 100.0)


@given(st.lists(st.tuples(LOSSES, LOSSES), max_size=14))
def test_a_pair_read_the_other_way_says_the_same(losses: list[tuple[float, float]]) -> None:
    a, b = np.array(losses).reshape(-1, 2).T
    there, back = comparison.compare(a, b), comparison.compare(b, a)
    assert there.wins + there.ties + there.losses == there.n == back.n
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.p_value == back.p_value
    if there.median_difference is not None:
        assert there.median_difference == -back.median_difference
    if there.ci95 is not None:
        assert there.ci95 == (-back.ci95[1], -back.ci95[0])
        assert there.ci95[0] <= there.median_difference <= there.ci95[1]
    if there.n:
        assert there.effect_size == pytest.approx(-back.effect_size, abs=1e-12)
        assert -1 <= there.effect_size <= 1


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_never_below_what_it_adjusts(p_values: list[float | None]) -> None:
    adjusted = comparison.holm(p_values)
    pairs = sorted((p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None)
    assert [q is None for q in adjusted] == [p is None for p in p_values]
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)
    if pairs:
        assert pairs[0][1] == pytest.approx(min(1.0, len(pairs) * pairs[0][0]))


def test_holm_by_hand() -> None:
    assert comparison.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert comparison.holm([None]) == [None]
    assert comparison.holm([]) == []


@pytest.mark.parametrize(("pairs", "needed"), [(0, 6), (1, 6), (3, 7), (10, 9), (45, 11)])
def test_how_many_pairs_it_takes(pairs: int, needed: int) -> None:
    assert comparison.pairs_needed(pairs) == needed
    assert 2 / 2**needed * max(pairs, 1) <= 0.05 < 2 / 2 ** (needed - 1) * max(pairs, 1)


def test_the_smallest_p_values_of_wilcoxons_table() -> None:
    # Two-sided 0.05, n = 6 … 10: T ≤ 0, 2, 3, 5, 8 is significant, T + 1 is not (Wilcoxon 1945).
    for n, critical in zip(range(6, 11), (0, 2, 3, 5, 8), strict=True):
        for total, significant in ((critical, True), (critical + 1, False)):
            ranks = np.arange(1.0, n + 1)
            positive = subset(total, n)
            signs = np.where(np.isin(ranks, positive), 1, -1)
            assert (comparison.signed_rank(ranks * signs) <= 0.05) == significant, (n, total)


def subset(total: int, n: int) -> list[int]:
    """Different ranks of 1 … n with this sum."""
    chosen = []
    for rank in range(n, 0, -1):
        if rank <= total:
            chosen.append(rank)
            total -= rank
    return chosen
