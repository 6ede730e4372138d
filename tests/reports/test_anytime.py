"""Incumbents over what was spent: by hand, and what holds of all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.reports import anytime, comparison
from hpo.reports.anytime import Steps

NAN, INF = math.nan, math.inf


def arm(costs: list[float], validation: list[float], test: list[float]) -> Steps:
    return anytime.steps(np.array(costs), np.array(validation), np.array(test))


def test_an_incumbent_by_hand() -> None:
    #           failed, first, worse, equal (the first stays), better with a test loss of ∞
    steps = arm([1, 2, 1, 1, 3], [NAN, 0.5, 0.6, 0.5, 0.4], [0.1, 0.7, 0.2, 0.3, INF])
    assert steps.at.tolist() == [3, 8]
    assert steps.validation.tolist() == [0.5, 0.4]
    assert steps.test.tolist() == [0.7, INF]
    assert steps.spent == 8
    assert anytime.sampled(steps.at, steps.test, np.array([0, 2.9, 3, 7.9, 8, 99])).tolist()[2:] == [0.7, 0.7, INF, INF]
    assert anytime.sampled(steps.at, steps.test, np.array([0, 2.9])).tolist() == [INF, INF]


def test_an_arm_without_trials_has_none() -> None:
    steps = arm([], [], [])
    assert (len(steps.at), steps.spent) == (0, 0.0)
    assert anytime.sampled(steps.at, steps.test, np.array([0.0, 1.0])).tolist() == [INF, INF]
    assert anytime.grid([]).tolist() == [0.0]


VALIDATION = st.sampled_from([0.1, 0.2, 0.3, NAN, INF]) | st.floats(-10, 10)


@given(st.lists(st.tuples(st.floats(0, 10), VALIDATION), max_size=20))
def test_an_incumbent_only_gets_better_and_ends_as_the_selected_trial(trials: list[tuple[float, float]]) -> None:
    costs, validation = [c for c, _ in trials], [v for _, v in trials]
    steps = arm(costs, validation, list(range(len(trials))))
    assert (np.diff(steps.validation) < 0).all()
    assert (np.diff(steps.at) >= 0).all()
    chosen = comparison.select([True] * len(trials), validation)
    assert (steps.test[-1] if len(steps.test) else None) == chosen


@given(
    st.lists(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=8), min_size=1, max_size=6)
)
def test_quantiles_of_validation_only_fall(arms: list[list[tuple[float, float]]]) -> None:
    steps = [arm([c for c, _ in one], [v for _, v in one], [v for _, v in one]) for one in arms]
    points = anytime.grid(steps)
    low, median, high = anytime.quantiles(
        np.array([anytime.sampled(s.at, s.validation, points) for s in steps]), anytime.QUARTILES
    )
    for line in (low, median, high):
        assert (line[1:] <= line[:-1] + 1e-15).all()
    assert median[-1] == pytest.approx(np.median([s.validation[-1] for s in steps]))
    assert (low <= high).all()


def test_quantiles_are_numpys_where_numbers_are_finite() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5))
    assert np.allclose(
        anytime.quantiles(values, (0.1, 0.25, 0.5, 1.0)), np.quantile(values, (0.1, 0.25, 0.5, 1.0), axis=0)
    )
    low, median, high = anytime.quantiles(np.array([[1.0], [2.0], [INF]]), anytime.QUARTILES)
    assert (low[0], median[0], high[0]) == (1.5, 2.0, INF)


def test_a_grid_has_at_most_a_hundred_points_both_ends_among_them() -> None:
    few = [arm([1, 1, 1], [3, 2, 2], [0, 0, 0]), arm([2, 2], [1, 0.5], [0, 0])]
    assert anytime.grid(few).tolist() == [1, 2, 4]
    many = anytime.grid([arm([1.0] * 500, list(np.linspace(9, 1, 500)), [0.0] * 500)])
    assert (len(many), many[0], many[-1]) == (100, 1, 500)
    assert (np.diff(many) > 0).all()


def test_how_much_more_and_less_budget() -> None:
    a = arm([1, 1, 1, 1], [4, 3, 2, 1], [0.4, 0.3, 0.2, 0.2])  # at its final 0.2 after 3 of 4
    b = arm([3, 3, 3], [4, 3, 2], [0.4, 0.3, 0.2])  # at 0.2 after 9
    c = arm([4], [1], [0.3])
    assert anytime.more_budget(a, b) == 3.0
    assert anytime.less_budget(a, b) == 3 / 4
    assert anytime.more_budget(a, c) is None
    assert anytime.less_budget(a, c) == 2 / 4
    assert (anytime.more_budget(c, a), anytime.less_budget(c, a)) == (0.5, None)
    failed = arm([1, 1], [NAN, NAN], [NAN, NAN])  # never at a finite loss, so that nothing is reached
    assert (anytime.more_budget(a, failed), anytime.less_budget(a, failed)) == (None, None)
    assert (anytime.more_budget(failed, a), anytime.less_budget(failed, a)) == (None, None)
    nothing = arm([0, 0], [2, 1], [0.2, 0.1])  # a unit in which nothing is spent
    assert (anytime.more_budget(nothing, nothing), anytime.less_budget(nothing, nothing)) == (None, None)


def test_an_arm_without_an_incumbent_counts_as_infinite_in_a_median() -> None:
    median = anytime.median([arm([1, 1], [2, 1], [0.2, 0.1]), arm([2, 2], [2, 1], [0.6, 0.5])])
    assert median.at.tolist() == [1, 2, 4]
    assert median.test[1:].tolist() == pytest.approx([0.35, 0.3])
    assert median.test[0] == INF
    assert median.spent == 4
    # Of three the second best: there as soon as two have one, and one that fails for good stays among them.
    three = anytime.median([arm([1], [1], [0.1]), arm([3], [1], [0.3]), arm([1, 1], [NAN, NAN], [NAN, NAN])])
    assert (three.at.tolist(), three.test.tolist()) == ([1, 3], [INF, 0.3])


def test_mean_ranks_over_spending_put_who_has_nothing_yet_last() -> None:
    tests = np.array([[[INF, 0.1, 0.1]], [[0.3, 0.3, 0.05]], [[INF, INF, INF]]])
    assert anytime.mean_ranks(tests).tolist() == [[2.5, 1, 2], [1, 2, 1], [2.5, 3, 3]]
