"""Descent on hypergradients: it is Adam where all goes well, and keeps its feet where it does not.

The other kinds of step are in `test_descent_steps.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from landscapes import MIXED, Bowl, best, diverged, group, run, with_infinite_slope, without_hypergradient

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.chance import Random
from hpo.strategies.descent import Descent
from hpo.trial import Array, Outcome, Proposal, Trial

MANY = Space((group("l2", 500, 1e-6, 1.0, 1e-3, True),))
RATE = Space((group("learning_rate", 2, 1e-3, 10.0, 0.1, True), group("l2", 1, 1e-6, 1.0, 1e-3, True)))


def descent(space: Space = MIXED, **options: float) -> Descent:
    return Descent(space, 0, derivative="exact", **options)  # pyright: ignore[reportArgumentType]


def coordinates(trials: list[Trial], space: Space = MIXED) -> Array:
    return np.array([space.flatten(t.proposal.values) for t in trials])


def slope(proposal: Proposal, slopes: Array, space: Space) -> Outcome:
    """A good trial whose slope in the coordinates is given."""
    parts = np.split(slopes, np.cumsum([g.size for g in space.groups])[:-1])
    natural = {
        g.name: part / (proposal.values[g.name] if g.log else 1.0) for g, part in zip(space.groups, parts, strict=True)
    }
    return Outcome("complete", 1.0, 1.0, hypergradient=natural)


def test_it_finds_500_values_in_30_trials_where_random_search_finds_none() -> None:
    bowl = Bowl(MANY)
    random = run(Random(MANY, 0), bowl, 30)
    descended = run(descent(MANY), bowl, 30)
    start = bowl(descended[0].proposal).validation_loss
    assert best(descended) < 0.01 * start
    assert best(random) > 0.5 * start


def test_it_is_torch_adam() -> None:
    space, rng = RATE, np.random.default_rng(0)
    slopes = rng.normal(size=(12, space.size))
    trials = run(descent(space, step="adam", rate=0.05), lambda p: slope(p, slopes[p.number], space), 12)
    z = torch.tensor(coordinates(trials, space)[0], requires_grad=True)
    adam = torch.optim.Adam([z], lr=0.05, betas=(0.8, 0.99), eps=1e-12)
    for number in range(12):
        np.testing.assert_allclose(coordinates(trials, space)[number], z.detach().numpy(), rtol=0, atol=1e-12)
        z.grad = torch.from_numpy(slopes[number])
        adam.step()


def test_every_proposal_asks_for_the_derivative() -> None:
    assert [t.proposal.derivative for t in run(Descent(MIXED, 0, derivative="drmad"), Bowl(MIXED), 3)] == ["drmad"] * 3


def test_nothing_is_proposed_before_the_last_outcome() -> None:
    strategy = descent()
    first = strategy.ask(0)
    assert first is not None
    assert strategy.ask(1) is None
    strategy.tell(Trial(first))  # still running
    assert strategy.ask(1) is None
    strategy.tell(Trial(first, Bowl(MIXED)(first)))
    assert strategy.ask(1) is not None


def test_outcomes_wait_until_they_are_contiguous() -> None:
    trials = run(descent(), Bowl(MIXED), 3)
    strategy = descent()
    strategy.tell(trials[2])
    strategy.tell(trials[0])
    assert strategy.ask(3) is None
    strategy.tell(trials[1])
    assert strategy.ask(3) is not None


def test_first_step_is_the_rate_in_the_unit_of_each_coordinate() -> None:
    uphill = -np.ones(MIXED.size)
    points = coordinates(run(descent(rate=0.2), lambda p: slope(p, uphill, MIXED), 2))
    np.testing.assert_allclose(points[1] - points[0], [0.2, 0.2, 0.2, 0.2 * 0.99 / 10])


@pytest.mark.parametrize("spoilt", [diverged, without_hypergradient, with_infinite_slope])
def test_a_bad_trial_shortens_the_step_and_good_ones_restore_it(spoilt) -> None:
    wanted = -np.ones(MIXED.size)

    def evaluate(proposal: Proposal) -> Outcome:
        good = slope(proposal, wanted, MIXED)
        if proposal.number in (2, 3):
            return spoilt(proposal) if spoilt is diverged else spoilt(good)
        return good

    points = coordinates(run(descent(rate=0.1), evaluate, 13))[:, 0]
    np.testing.assert_allclose(points[1] - points[0], 0.1)
    np.testing.assert_allclose(points[2] - points[1], 0.1)
    np.testing.assert_allclose(points[3] - points[1], 0.1 / 2)  # from the same point, half as far
    np.testing.assert_allclose(points[4] - points[1], 0.1 / 4)
    after = np.diff(points)[4:]
    np.testing.assert_allclose(after, 0.1 * np.minimum(1, 0.25 * 1.2 ** np.arange(1, 9)))
    assert after[-1] == pytest.approx(0.1)


def test_nan_loss_is_bad_even_with_a_hypergradient() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        good = Bowl(MIXED)(proposal)
        return replace(good, validation_loss=np.nan) if proposal.number == 1 else good

    points = coordinates(run(descent(), evaluate, 3))
    np.testing.assert_allclose(points[2] - points[0], (points[1] - points[0]) / 2)


def test_failing_defaults_lower_the_learning_rates_then_everything() -> None:
    space = Space((group("learning_rate", 2, 0.02, 10.0, 0.1, True), group("l2", 1, 1e-6, 1.0, 1e-3, True)))
    points = coordinates(run(descent(space), diverged, 4), space)
    np.testing.assert_allclose(points[1] - points[0], [-1, -1, 0])
    np.testing.assert_allclose(points[2], [np.log(0.02), np.log(0.02), np.log(1e-3)])
    np.testing.assert_allclose(points[3] - points[2], [0, 0, -1], atol=1e-12)


def test_failing_defaults_lower_everything_without_a_learning_rate() -> None:
    space = Space((group("l2", 1, 1e-6, 1.0, 1e-3, True), group("momentum", 1, 0.0, 1.0, 0.9, False)))
    points = coordinates(run(descent(space), diverged, 2), space)
    np.testing.assert_allclose(points[1] - points[0], [-1, -0.1])


def test_it_descends_from_the_first_good_point() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        return slope(proposal, np.ones(3), RATE) if proposal.values["learning_rate"][0] < 0.03 else diverged(proposal)

    points = coordinates(run(descent(RATE, rate=0.1), evaluate, 4), RATE)
    np.testing.assert_allclose(points[3] - points[2], -0.1)


def test_it_stays_at_a_bound_and_comes_back() -> None:
    space = Space((group("l2", 1, 1e-6, 1.0, 0.5, True),))
    sign = [-1.0] * 6 + [1.0] * 6
    points = coordinates(
        run(descent(space, rate=1.0), lambda p: slope(p, np.array([sign[p.number]]), space), 12), space
    )
    assert points[6, 0] == 0.0
    assert points[11, 0] < 0.0


@pytest.mark.parametrize("explosion", [1e30, 1e200])
def test_one_exploded_hypergradient_does_not_end_the_descent(explosion: float) -> None:
    bowl = Bowl(MANY)

    def evaluate(proposal: Proposal) -> Outcome:
        good = bowl(proposal)
        assert good.hypergradient is not None
        spoilt = {k: -explosion * v for k, v in good.hypergradient.items()}
        return replace(good, hypergradient=spoilt) if proposal.number == 5 else good

    trials = run(descent(MANY), evaluate, 40)
    assert best(trials) < 0.1 * bowl(trials[0].proposal).validation_loss


def test_a_hypergradient_of_zero_moves_nothing() -> None:
    flat = run(descent(), lambda p: slope(p, np.zeros(MIXED.size), MIXED), 3)
    np.testing.assert_array_equal(coordinates(flat)[2], coordinates(flat)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate: 0 must be a finite number above 0"),
        ({"rate": float("nan")}, "rate: nan must be"),
        ({"rate": "fast"}, "rate: 'fast' must be"),
        ({"rate": True}, "rate: True must be"),
        ({"shrink": 1}, "shrink: 1 must be a finite number above 0 and below 1"),
        ({"betas": 0.9}, "betas: 0.9 must be two numbers"),
        ({"betas": [0.9, 1.0]}, "betas: 1.0 must be a finite number at least 0 and below 1"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message: str) -> None:
    with pytest.raises(BadStudy) as refused:
        descent(**options)
    assert message in str(refused.value)
