"""A relay: each trial takes over where the last good one ended, and gives way after a failure."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from landscapes import MIXED, Bowl, best, diverged, group, run

from hpo.space import Space
from hpo.strategies.relay import Relay
from hpo.trial import Array, Outcome, Proposal, Trial

RATE = Space((group("learning_rate", 2, 0.02, 10.0, 0.1, True), group("l2", 1, 1e-6, 1.0, 1e-3, True)))


def relay(space: Space = MIXED) -> Relay:
    return Relay(space, 0, derivative="online")


def coordinates(trials: list[Trial], space: Space) -> Array:
    return np.array([space.flatten(t.proposal.values) for t in trials])


def test_each_trial_starts_where_the_last_one_ended_to_the_last_digit() -> None:
    trials = run(relay(), Bowl(MIXED), 6)
    for last, trial in pairwise(trials):
        assert last.outcome is not None and last.outcome.ends is not None
        for name, values in trial.proposal.values.items():
            np.testing.assert_array_equal(values, last.outcome.ends[name])
    assert [t.proposal.derivative for t in trials] == ["online"] * 6
    assert best(trials) < 0.1 * Bowl(MIXED)(trials[0].proposal).validation_loss


def test_ends_beyond_the_bounds_are_brought_back() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        beyond = {"learning_rate": np.array([20.0, 0.1]), "l2": np.array([1e-9])}
        return replace(Bowl(RATE)(proposal), ends=beyond)

    values = run(relay(RATE), evaluate, 2)[1].proposal.values
    np.testing.assert_array_equal(values["learning_rate"], [10.0, 0.1])
    np.testing.assert_array_equal(values["l2"], [1e-6])


def without_ends(proposal: Proposal) -> Outcome:
    return replace(Bowl(RATE)(proposal), ends=None)


def without_a_loss(proposal: Proposal) -> Outcome:
    return replace(Bowl(RATE)(proposal), validation_loss=np.nan)


@pytest.mark.parametrize("spoilt", [diverged, without_ends, without_a_loss])
def test_a_bad_trial_goes_back_to_the_last_good_ends_at_lower_rates(spoilt) -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        return spoilt(proposal) if proposal.number in (2, 3) else Bowl(RATE, centre=0.9)(proposal)

    points = coordinates(run(relay(RATE), evaluate, 6), RATE)
    np.testing.assert_allclose(points[3] - points[2], [-1, -1, 0])
    np.testing.assert_allclose(points[4] - points[2], [-2, -2, 0])
    assert (points[5] > points[4]).all(), "from there it goes on"


def test_failing_defaults_lower_the_learning_rates_then_everything() -> None:
    points = coordinates(run(relay(RATE), diverged, 4), RATE)
    np.testing.assert_allclose(points[1] - points[0], [-1, -1, 0])
    np.testing.assert_allclose(points[2], [np.log(0.02), np.log(0.02), np.log(1e-3)])
    np.testing.assert_allclose(points[3] - points[2], [0, 0, -1], atol=1e-12)


def test_a_linear_range_is_lowered_by_tenths() -> None:
    space = Space((group("momentum", 1, 0.0, 0.5, 0.4, False),))
    points = coordinates(run(relay(space), diverged, 7), space)[:, 0]
    np.testing.assert_allclose(points, np.maximum(0.4 - 0.05 * np.arange(7), 0))


def test_nothing_is_proposed_before_the_last_outcome() -> None:
    strategy = relay()
    first = strategy.ask(0)
    assert first is not None
    assert strategy.ask(1) is None
    strategy.tell(Trial(first))  # still running
    assert strategy.ask(1) is None
    strategy.tell(Trial(first, Bowl(MIXED)(first)))
    assert strategy.ask(1) is not None
