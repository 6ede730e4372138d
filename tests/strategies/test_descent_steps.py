"""The kinds of step a descent can take: Adam's, the sign alone, the slope itself."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw
from landscapes import MIXED, Bowl, diverged, group, run, same, with_infinite_slope, without_hypergradient

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.descent import STEPS, Descent
from hpo.trial import Array, Outcome, Proposal, Trial

LOW, HIGH = MIXED.bounds()
UNIT = np.array([1.0, 1.0, 1.0, 0.99 / 10])  # MIXED: three logarithms, and a momentum from 0 to 0.99


def descent(step: str, space: Space = MIXED, rate: float = 0.1) -> Descent:
    return Descent(space, 0, derivative="exact", step=step, rate=rate)


def slope(proposal: Proposal, along: Array) -> Outcome:
    """A good trial whose slope along each z/u is given."""
    values = proposal.values
    parts = np.split(along / UNIT, [2, 3])
    natural = {g.name: part / values[g.name] if g.log else part for g, part in zip(MIXED.groups, parts, strict=True)}
    return Outcome("complete", 1.0, 1.0, hypergradient=natural)


def followed(step: str, slopes: Array, rate: float = 0.1) -> Array:
    """The points visited under these slopes, `[trials, D]`."""
    trials = run(descent(step, rate=rate), lambda p: slope(p, slopes[p.number]), len(slopes))
    return np.array([MIXED.flatten(t.proposal.values) for t in trials])


SIZES = draw.floats(0.2, 1.0)  # no slope is so much longer than another that it would be shortened
SLOPES = draw.lists(draw.lists(SIZES | SIZES.map(lambda x: -x), min_size=4, max_size=4), min_size=1, max_size=12)


@given(SLOPES)
def test_a_sign_step_moves_every_coordinate_by_the_rate(slopes: list[list[float]]) -> None:
    points = followed("sign", np.array(slopes))
    for before, after, g in zip(points, points[1:], slopes, strict=False):
        np.testing.assert_allclose(after, np.clip(before - 0.1 * UNIT * np.sign(g), LOW, HIGH), rtol=0, atol=1e-12)


@given(SLOPES)
def test_a_plain_step_is_the_rate_times_the_slope(slopes: list[list[float]]) -> None:
    points = followed("plain", np.array(slopes))
    for before, after, g in zip(points, points[1:], slopes, strict=False):
        np.testing.assert_allclose(after, np.clip(before - 0.1 * UNIT * g, LOW, HIGH), rtol=0, atol=1e-12)


def test_the_steps_differ_and_layered_is_the_one_not_asked_for() -> None:
    slopes = np.array([[0.1, -0.2, 0.3, -0.4], [0.4, 0.3, -0.2, 0.1], [0.0, 0.0, 0.0, 0.0]])
    ends = {step: followed(step, slopes)[2] for step in STEPS}
    assert len({end.tobytes() for end in ends.values()}) == len(STEPS)
    silent = run(Descent(MIXED, 0, derivative="exact", rate=0.1), lambda p: slope(p, slopes[p.number]), 3)
    np.testing.assert_array_equal(MIXED.flatten(silent[2].proposal.values), ends["layered"])


def test_a_sign_does_not_see_the_length_of_the_slope() -> None:
    slopes = np.random.default_rng(0).normal(size=(8, 4))
    np.testing.assert_array_equal(followed("sign", slopes), followed("sign", slopes * 10.0 ** np.arange(8)[:, None]))


@pytest.mark.parametrize("step", ["sign", "plain"])
def test_what_has_no_slope_stays_where_it_is(step: str) -> None:
    points = followed(step, np.array([[1.0, 0.0, -1.0, 0.0]] * 5))
    np.testing.assert_array_equal(points[:, [1, 3]], points[[0] * 5][:, [1, 3]])
    assert (np.abs(points[4] - points[0])[[0, 2]] > 0.1).all()


@pytest.mark.parametrize("spoilt", [diverged, without_hypergradient, with_infinite_slope])
@pytest.mark.parametrize("step", STEPS)
def test_a_bad_trial_shortens_every_kind_of_step(step: str, spoilt) -> None:
    uphill = np.full(4, -1.0)

    def evaluate(proposal: Proposal) -> Outcome:
        good = slope(proposal, uphill)
        if proposal.number == 1:
            return spoilt(proposal) if spoilt is diverged else spoilt(good)
        return good

    points = np.array([MIXED.flatten(t.proposal.values) for t in run(descent(step), evaluate, 4)])
    np.testing.assert_allclose(points[1] - points[0], 0.1 * UNIT)
    np.testing.assert_allclose(points[2] - points[0], 0.1 / 2 * UNIT)  # from the same point, half as far
    further = 0.1 * 1.2 / 2 * UNIT
    further[2] = 0  # the learning rate went half as far as in the bad trial: no further than that
    np.testing.assert_allclose(points[3] - points[2], further, atol=1e-12)


# Trial 2 is above 1.2 times the lowest loss, or above the first.
@pytest.mark.parametrize("losses", [[1.3, 1.0, 1.21, 1.1, 1.1], [1.0, 0.9, 1.01, 1.0, 1.0]])
@pytest.mark.parametrize("step", STEPS)
def test_a_much_worse_trial_is_left_again_and_its_slope_remembered(step: str, losses: list[float]) -> None:
    uphill = np.full(4, -1.0)

    def evaluate(proposal: Proposal) -> Outcome:
        slopes = -4 * uphill if proposal.number == 2 else uphill
        return replace(slope(proposal, slopes), validation_loss=losses[proposal.number])

    strategy = descent(step)
    points = np.array([MIXED.flatten(t.proposal.values) for t in run(strategy, evaluate, 5)])
    back = points[3] - points[1]
    assert (back[:3] < 0).all()  # from the last good point, now the other way; the momentum is at its bound
    np.testing.assert_allclose(strategy._position.coordinates, points[4])  # what is no worse than that is gone on from
    np.testing.assert_array_less(0.0, np.abs(points[4] - points[3])[:3])


def test_the_edge_of_what_rates_may_be_is_found_by_halving() -> None:
    """Slopes always ask for higher rates; the loss falls with the rate and is ruined beyond 0.2."""
    space = Space((group("learning_rate", 1, 1e-3, 10.0, 0.01, True), group("l2", 1, 1e-6, 1.0, 1e-3, True)))

    def evaluate(proposal: Proposal) -> Outcome:
        rate = proposal.values["learning_rate"][0]
        loss = 5.0 if rate > 0.2 else 1 - rate
        return Outcome("complete", loss, loss, hypergradient={"learning_rate": np.array([-1.0]), "l2": np.zeros(1)})

    rates = [t.proposal.values["learning_rate"][0] for t in run(descent("adam", space, 0.3), evaluate, 30)]
    assert sum(rate > 0.2 for rate in rates) <= 3
    assert 0.15 < rates[-1] <= 0.2


def test_a_plain_step_does_not_follow_an_exploded_slope() -> None:
    points = followed("plain", np.array([[0.1] * 4, [0.1] * 4, [-1e9] * 4, [0.1] * 4]))
    np.testing.assert_allclose(points[3] - points[2], 10 * 0.1 * 0.1 * UNIT)


def test_every_step_descends_a_bowl() -> None:
    space = Space((group("l2", 50, 1e-6, 1.0, 1e-3, True),))
    bowl = Bowl(space, height=100.0)
    for step, rate in (("layered", 0.3), ("adam", 0.3), ("sign", 0.3), ("plain", 30.0)):
        trials = run(descent(step, space, rate), bowl, 25)
        assert bowl(trials[-1].proposal).validation_loss < 0.05 * bowl(trials[0].proposal).validation_loss, step


@pytest.mark.parametrize("step", STEPS)
def test_replay_is_live_at_every_prefix(step: str) -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        good = Bowl(MIXED)(proposal)
        return {2: diverged(proposal), 4: without_hypergradient(good)}.get(proposal.number, good)

    trials: list[Trial] = run(descent(step), evaluate, 8)
    for known in range(len(trials)):
        replayed, told = descent(step), trials[:known]
        random.Random(known).shuffle(told)
        for trial in told:
            replayed.tell(trial)
        assert same(replayed.ask(known), trials[known].proposal), f"trial {known}"


def test_a_tiny_slope_still_has_a_sign() -> None:
    def evaluate(proposal: Proposal) -> Outcome:
        good = slope(proposal, np.ones(4))
        assert good.hypergradient is not None
        return replace(good, hypergradient={k: v * 1e-200 for k, v in good.hypergradient.items()})

    points = np.array([MIXED.flatten(t.proposal.values) for t in run(descent("sign"), evaluate, 2)])
    np.testing.assert_allclose(points[1], np.clip(points[0] - 0.1 * UNIT, LOW, HIGH))


@pytest.mark.parametrize("step", STEPS)
def test_settings_say_which_step(step: str) -> None:
    settings = descent(step).settings
    assert settings["step"] == step
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "sing"}, "unknown step 'sing': use one of adam, layered, plain, sign; did you mean 'sign'?"),
        ({"step": 1}, "unknown step '1'"),
        ({"step": "sign", "betas": [0.8, 0.99]}, "betas: [0.8, 0.99] belongs to step layered or adam, not to sign"),
        ({"step": "adam", "prior": 2.0}, "prior: 2.0 belongs to step layered, not to adam: leave it out"),
        ({"prior": 0.0}, "prior: 0.0 must be a finite number above 0"),
        ({"step": "plain", "betas": (0.5, 0.9)}, "betas: (0.5, 0.9) belongs to step layered or adam, not to plain"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(options, message: str) -> None:
    with pytest.raises(BadStudy) as refused:
        Descent(MIXED, 0, derivative="exact", **options)
    assert message in str(refused.value)
