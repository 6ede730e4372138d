"""The scikit-optimize strategies: the library's own surrogates, what they are told, and better than chance."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from landscapes import MIXED, Bowl, best, diverged, group, run
from skopt.space import Real
from skopt.utils import cook_estimator

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.optuna import Random
from hpo.strategies.skopt import GP, ExtraTrees, RandomForest
from hpo.trial import Outcome, Proposal, Trial

KINDS = [GP, RandomForest, ExtraTrees]


@pytest.mark.parametrize(("kind", "code"), [(GP, "GP"), (RandomForest, "RF"), (ExtraTrees, "ET")])
def test_the_model_is_the_one_skopt_makes(kind, code: str) -> None:
    space = [Real(0.0, 1.0)] * MIXED.size
    ours, theirs = kind(MIXED, 0)._model(5), cook_estimator(code, space=space, random_state=5)
    assert type(ours) is type(theirs)
    assert repr(sorted(ours.get_params().items())) == repr(sorted(theirs.get_params().items()))


@pytest.mark.parametrize(("kind", "trials"), [(GP, 20), (RandomForest, 30), (ExtraTrees, 30)])
def test_it_beats_chance(kind, trials: int) -> None:
    bowl = Bowl(MIXED, centre=0.3)
    found = statistics.median(best(run(kind(MIXED, seed), bowl, trials)) for seed in range(5))
    chance = statistics.median(best(run(Random(MIXED, seed), bowl, trials)) for seed in range(5))
    assert found < 0.85 * chance


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
    said = []
    for failure in (diverged, lambda p: Outcome("complete", worst, worst)):
        strategy = kind(MIXED, 0, startup=4)
        trials = run(strategy, Bowl(MIXED), 5)
        worst = max(t.outcome.validation_loss for t in trials if t.outcome is not None)
        proposal = strategy.ask(5)
        strategy.tell(Trial(proposal, failure(proposal)))
        said.append(strategy.ask(6))
    assert np.array_equal(MIXED.flatten(said[0].values), MIXED.flatten(said[1].values))


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
