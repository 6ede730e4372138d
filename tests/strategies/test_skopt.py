"""The scikit-optimize strategies: the library's own surrogates, what they are told, and better than chance."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from landscapes import MIXED, Bowl, best, diverged, group, run, same
from skopt.space import Real
from skopt.utils import cook_estimator

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.chance import Random
from hpo.strategies.skopt import GP, ExtraTrees, RandomForest
from hpo.trial import Outcome, Proposal, Trial

KINDS = [GP, RandomForest, ExtraTrees]
HIGH = Bowl(MIXED, centre=0.3, height=10.0)
"""Expected improvement counts from 0.01 of the loss on, so the losses must be well above that."""


@pytest.mark.parametrize(("kind", "code"), [(GP, "GP"), (RandomForest, "RF"), (ExtraTrees, "ET")])
def test_the_model_is_the_one_skopt_makes(kind, code: str) -> None:
    space = [Real(0.0, 1.0)] * MIXED.size
    ours, theirs = kind(MIXED, 0)._model(5), cook_estimator(code, space=space, random_state=5)
    assert type(ours) is type(theirs)
    assert repr(sorted(ours.get_params().items())) == repr(sorted(theirs.get_params().items()))


def test_gp_beats_chance() -> None:
    found = statistics.median(best(run(GP(MIXED, seed, startup=5), HIGH, 13)) for seed in range(3))
    chance = statistics.median(best(run(Random(MIXED, seed), HIGH, 13)) for seed in range(3))
    assert found < 0.7 * chance


@pytest.mark.parametrize("kind", [RandomForest, ExtraTrees])
def test_forests_look_where_it_is_low(kind) -> None:
    """Their steps are coarse: on a smooth bowl the best of 20 is no better than chance, the typical one is."""
    later = [t for seed in range(2) for t in run(kind(MIXED, seed), HIGH, 18)[10:]]
    chance = [t for seed in range(2) for t in run(Random(MIXED, seed), HIGH, 18)[10:]]
    assert _median(later) < 0.85 * _median(chance)


def _median(trials: list[Trial]) -> float:
    return statistics.median(t.outcome.validation_loss for t in trials if t.outcome is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_running_trials_do_not_shorten_the_random_start(kind) -> None:
    few, many = kind(MIXED, 0, startup=4), kind(MIXED, 0, startup=100)
    for trial in run(kind(MIXED, 0, startup=4), Bowl(MIXED), 3):
        few.tell(trial)
        many.tell(trial)
    for number in (3, 4, 5):
        assert np.array_equal(few.ask(number).values["l2"], many.ask(number).values["l2"])
    finished = Proposal(3, few.ask(3).values)
    for strategy in (few, many):
        strategy.tell(Trial(finished, Bowl(MIXED)(finished)))
    assert not np.array_equal(few.ask(6).values["l2"], many.ask(6).values["l2"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_trial_is_told_as_the_worst(kind) -> None:
    failed, worst = kind(MIXED, 0, startup=4), kind(MIXED, 0, startup=4)
    trials = run(failed, Bowl(MIXED), 5)
    run(worst, Bowl(MIXED), 5)
    highest = max(t.outcome.validation_loss for t in trials if t.outcome is not None)
    proposal = failed.ask(5)
    failed.tell(Trial(proposal, diverged(proposal)))
    worst.tell(Trial(proposal, Outcome("complete", highest, highest)))
    assert same(failed.ask(6), worst.ask(6))


@pytest.mark.parametrize("kind", KINDS)
def test_a_running_trial_is_told_as_the_mean(kind) -> None:
    running, finished = kind(MIXED, 0, startup=4), kind(MIXED, 0, startup=4)
    losses = [t.outcome.validation_loss for t in run(running, Bowl(MIXED), 5) if t.outcome is not None]
    run(finished, Bowl(MIXED), 5)
    mean = float(np.mean(losses))
    finished.tell(Trial(running.ask(5), Outcome("complete", mean, mean)))
    assert same(running.ask(6), finished.ask(6))


def test_failures_before_the_first_loss_are_left_out() -> None:
    failing, nothing = GP(MIXED, 0, startup=2), GP(MIXED, 0, startup=2)
    run(failing, diverged, 3)
    assert np.array_equal(failing.ask(3).values["l2"], nothing.ask(3).values["l2"])


def test_small_strengths_are_told_apart() -> None:
    """In natural units every point of this space is nearer to the next than what counts as a repetition."""
    tiny = Space((group("l2", 1, 1e-12, 1e-9, 1e-10, True),))
    points = [float(t.proposal.values["l2"][0]) for t in run(GP(tiny, 0, startup=3), Bowl(tiny), 8)]
    assert min(Bowl(tiny)(Proposal(0, {"l2": np.array([p])})).validation_loss for p in points[4:]) < 1e-3


def test_a_repeated_point_is_replaced_by_a_random_one() -> None:
    """Where the loss falls towards a corner the best point is the corner, again and again."""
    space = Space((group("l2", 1, 1e-6, 1.0, 1e-3, True),))
    points = {float(t.proposal.values["l2"][0]) for t in run(GP(space, 0, startup=3), Bowl(space, centre=-1), 12)}
    assert len(points) == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"startup": 0}, "startup: 0 must be a whole number, 1 or more"),
        ({"acquisition": "ei"}, "unknown acquisition 'ei': use one of EI, LCB, PI, gp_hedge"),
    ],
)
def test_an_option_out_of_range_is_refused(kind, options, message: str) -> None:
    with pytest.raises(BadStudy) as refused:
        kind(MIXED, 0, **options)
    assert message in str(refused.value)
