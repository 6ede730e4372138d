"""Ranks, Friedman's test and the critical difference, against SciPy and the example worked out by Demšar (2006)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hpo.reports import ranking

NAN, INF = math.nan, math.inf

LOSSES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, INF])

AUC = """0.763 0.768 0.771 0.798  0.599 0.591 0.590 0.569  0.954 0.971 0.968 0.967  0.628 0.661 0.654 0.657
         0.882 0.888 0.886 0.898  0.936 0.931 0.916 0.931  0.661 0.668 0.609 0.685  0.583 0.583 0.563 0.625
         0.775 0.838 0.866 0.875  1.000 1.000 1.000 1.000  0.940 0.962 0.965 0.962  0.619 0.666 0.614 0.669
         0.972 0.981 0.9751 0.975  0.957 0.978 0.946 0.970"""
"""Table 6 of JMLR 7: the area under the curve of four variants of C4.5 on 14 data sets. The 0.9751 is printed as 0.975,
but ranked before the 0.975 beside it."""

DEMSAR = -np.array([float(x) for x in AUC.split()]).reshape(14, 4).T


def test_mean_ranks_by_hand() -> None:
    losses = np.array([[0.1, 0.5, 0.2], [0.2, 0.5, NAN], [0.3, 0.4, NAN], [0.4, INF, NAN]])
    #                   ranks:  1 2 3 4      2.5 2.5 1 4    1 3 3 3
    assert ranking.mean_ranks(losses) == pytest.approx([4.5 / 3, 7.5 / 3, 7 / 3, 11 / 3])


def test_blocks_without_any_figure_do_not_count() -> None:
    losses = np.array([[0.1, NAN], [0.2, NAN]])
    assert ranking.mean_ranks(losses) == pytest.approx([1, 2])
    assert np.isnan(ranking.mean_ranks(np.full((2, 3), NAN))).all()
    assert np.isnan(ranking.mean_ranks(np.zeros((2, 0)))).all()


@given(st.lists(st.tuples(LOSSES, LOSSES, LOSSES), min_size=1, max_size=12))
def test_ranks_are_those_of_scipy_along_the_first_axis(values: list[tuple[float, ...]]) -> None:
    array = np.array(values)
    ranks = ranking.ranks(array)
    assert np.array_equal(ranks, scipy.stats.rankdata(array, axis=0))
    assert ranks.sum(axis=0) == pytest.approx([len(values) * (len(values) + 1) / 2] * 3)
    assert np.array_equal(ranks, ranking.ranks(np.arctan(array) * 3 - 1))  # only the order matters


def test_demsars_example() -> None:
    found = ranking.critical_difference(DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    square = 12 * 14 / 20 * ((found.ranks**2).sum() - 25)
    assert square == pytest.approx(9.28, abs=0.005)
    statistic = 13 * square / (14 * 3 - square)
    assert statistic == pytest.approx(3.69, abs=0.005)
    # Which takes no notice of the ties: with them the statistic is larger.
    square = scipy.stats.friedmanchisquare(*DEMSAR).statistic
    assert found.friedman_p == pytest.approx(scipy.stats.f.sf(13 * square / (14 * 3 - square), 3, 39))
    assert found.friedman_p < scipy.stats.f.sf(statistic, 3, 39)
    assert found.difference == pytest.approx(1.25, abs=0.005)
    # The extreme two, 1.179 apart, are not told apart either.
    assert (found.n, found.groups, found.note) == (14, [[3, 1, 2, 0]], None)


@pytest.mark.parametrize("digits", [9, 0])
def test_friedmans_statistic_is_scipys_with_and_without_ties(digits: int) -> None:
    losses = np.round(np.random.default_rng(0).normal(size=(5, 20)) + np.arange(5)[:, None] / 5, digits)
    statistic = scipy.stats.friedmanchisquare(*losses).statistic
    expected = scipy.stats.f.sf(19 * statistic / (20 * 4 - statistic), 4, 4 * 19)
    assert ranking.friedman(ranking.ranks(losses)) == pytest.approx(expected)


def test_where_all_blocks_agree_the_p_value_is_that_of_the_ranks() -> None:
    found = ranking.critical_difference(np.arange(3.0)[:, None] + np.arange(8))
    assert found.friedman_p == pytest.approx(6.0**-7)
    assert found.difference == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 8)), abs=1e-3)  # 1.17
    assert found.groups == [[0, 1], [1, 2]]
    tied = ranking.critical_difference(np.array([1.0, 1.0, 2.0])[:, None] + np.arange(8))
    assert tied.friedman_p == pytest.approx(3.0**-7)  # one of three may be the last


@pytest.mark.parametrize(
    ("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (10, 3.164)]
)
def test_nemenyis_q_is_that_of_the_table(k: int, q: float) -> None:
    assert ranking.nemenyi(k, 10) == pytest.approx(q * math.sqrt(k * (k + 1) / 60), abs=1.5e-3)


def test_nemenyis_q_of_many_methods_is_scipys() -> None:
    expected = scipy.stats.studentized_range.ppf(0.95, 20, 1e6) / math.sqrt(2) * math.sqrt(20 * 21 / 60)
    assert ranking.nemenyi(20, 10) == pytest.approx(expected, rel=1e-4)


def test_too_few_methods_or_blocks_are_said() -> None:
    assert ranking.critical_difference(np.zeros((2, 9))).note == "3 or more methods are needed, not 2"
    few = ranking.critical_difference(np.zeros((4, 5)))
    assert (few.note, few.friedman_p, few.difference, few.groups) == (
        "6 or more blocks are needed, not 5",
        None,
        None,
        [],
    )


def test_methods_that_are_all_equal_are_one_group() -> None:
    found = ranking.critical_difference(np.ones((4, 10)))
    assert (found.friedman_p, found.groups) == (1.0, [[0, 1, 2, 3]])


def test_groups_are_as_large_as_can_be_and_none_lies_in_another() -> None:
    generator = np.random.default_rng(3)
    losses = generator.normal(size=(8, 40)) + np.array([0, 0.1, 0.2, 1.0, 1.1, 2.0, 2.1, 5.0])[:, None]
    found = ranking.critical_difference(losses)
    assert found.friedman_p < 0.05
    assert all(len(group) > 1 for group in found.groups)
    sets = [set(group) for group in found.groups]
    assert not any(one < other for one in sets for other in sets)
    told = {(i, j) for i in range(8) for j in range(8) if abs(found.ranks[i] - found.ranks[j]) >= found.difference}
    together = {(i, j) for group in sets for i in group for j in group} | {(i, i) for i in range(8)}
    assert told | together == {(i, j) for i in range(8) for j in range(8)}
    assert not told & together
    assert told
