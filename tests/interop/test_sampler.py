"""hpo's methods inside Optuna: its own conformance suites, then what they do not ask."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState

from hpo.interop.sampler import METHODS, NOTE, Sampler

OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"startup": 2},
    "gp": {"startup": 2},
    "cmaes": {"population": 4},
    "skopt-gp": {"startup": 2},
    "skopt-rf": {"startup": 2},
    "skopt-et": {"startup": 2},
}


def make(method: str, seed: int = 0) -> Sampler:
    return Sampler(method, seed=seed, **OPTIONS.get(method, {}))


class Suite(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    """What Optuna asks of a sampler for one objective."""

    method: str

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: make(self.method)


class TestRandom(Suite):
    method = "random"


class TestTPE(Suite):
    method = "tpe"


class TestGP(Suite):
    method = "gp"


class TestCMAES(Suite):
    method = "cmaes"


class TestQMC(Suite):
    method = "qmc"


class TestSkoptGP(Suite):
    method = "skopt-gp"


class TestSkoptForest(Suite):
    method = "skopt-rf"


class TestSkoptExtraTrees(Suite):
    method = "skopt-et"


def loss(trial: optuna.Trial) -> float:
    """Every kind of parameter, and every way in which a trial can end."""
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    units = trial.suggest_int("units", 1, 64, log=True)
    share = trial.suggest_float("share", 0.0, 0.9, step=0.1)
    kind = trial.suggest_categorical("kind", ["relu", "tanh", None])
    match trial.number:
        case 2:
            raise optuna.TrialPruned
        case 3:
            return float("nan")
        case 5:
            return float("inf")
    return (np.log10(rate) + 3) ** 2 + np.log(units / 16) ** 2 + share + (kind == "tanh")


def params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("method", METHODS)
def test_a_study_left_and_continued_by_a_new_sampler_is_the_same_study(method: str, tmp_path: Path) -> None:
    whole = optuna.create_study(sampler=make(method))
    whole.optimize(loss, n_trials=8)

    url = f"sqlite:///{tmp_path}/optuna.db"
    optuna.create_study(storage=url, study_name="s", sampler=make(method)).optimize(loss, n_trials=4)
    again = optuna.load_study(storage=url, study_name="s", sampler=pickle.loads(pickle.dumps(make(method))))
    again.optimize(loss, n_trials=4)

    assert params(again) == params(whole)
    assert {trial.state for trial in whole.trials} == {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED}
    other = optuna.create_study(sampler=make(method, seed=1))
    other.optimize(loss, n_trials=8)
    assert all(a != b for a, b in zip(params(other), params(whole), strict=True))


@pytest.mark.parametrize("method", ["tpe", "skopt-et"])
def test_the_highest_is_found_as_the_lowest_of_the_opposite(method: str) -> None:
    lowest = optuna.create_study(sampler=make(method))
    lowest.optimize(loss, n_trials=8)
    highest = optuna.create_study(direction="maximize", sampler=make(method))
    highest.optimize(lambda trial: -loss(trial), n_trials=8)
    assert params(highest) == params(lowest)


def test_a_surrogate_finds_a_bowl_that_random_search_does_not() -> None:
    def bowl(trial: optuna.Trial) -> float:
        return sum((trial.suggest_float(f"x{i}", -2, 2) - 0.7) ** 2 for i in range(3))

    best = {}
    for method in ("random", "skopt-gp"):
        study = optuna.create_study(sampler=Sampler(method, seed=0))
        study.optimize(bowl, n_trials=20)
        best[method] = study.best_value
    assert best["skopt-gp"] < best["random"] / 10


def test_whoever_asks_before_others_have_their_values_is_told_of_theirs() -> None:
    def started(study: optuna.Study) -> optuna.Trial:
        trial = study.ask()
        assert set(trial.relative_params) == {"x", "y"}  # decided, but not one of them suggested
        return trial

    def finish(study: optuna.Study, trial: optuna.Trial) -> tuple[float, float]:
        point = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        study.tell(trial, sum(point))
        return point

    alone, together = (optuna.create_study(sampler=make("qmc")) for _ in range(2))
    for study in (alone, together):
        finish(study, study.ask())
    in_turn = [finish(alone, started(alone)) for _ in range(4)]
    at_once = [finish(together, trial) for trial in [started(together) for _ in range(4)]]
    assert at_once == in_turn


def test_threads_leave_the_log_and_the_warnings_as_they_were() -> None:
    level = optuna.logging.get_verbosity()
    study = optuna.create_study(sampler=make("tpe"))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=12, n_jobs=2)
    assert optuna.logging.get_verbosity() == level
    assert len({trial.params["x"] for trial in study.trials}) == 12


SPACE: dict[str, BaseDistribution] = {"n": IntDistribution(0, 3), "c": CategoricalDistribution(["a", "b"])}
NEAR = {"n": [0.3], "c": [0.6, 0.4]}
"""A point that is rounded to n = 0, c = a."""


def told(*more: optuna.trial.FrozenTrial) -> dict[str, list[float]]:
    """What the sampler would propose after three trials and some more; it is asked for trial 5."""
    study = optuna.create_study(sampler=make("skopt-gp"))
    for n, c in ((0, "a"), (1, "b"), (3, "a")):
        study.add_trial(past({"n": n, "c": c}, value=n + 0.5 * (c == "b")))
    study.add_trials(more)
    while len(study.trials) < 6:
        study._storage.create_new_trial(study._study_id)
    notes = []
    for _ in range(2):
        study.sampler.sample_relative(study, study.trials[-1], SPACE)
        notes.append(study.trials[-1].system_attrs[NOTE])
    assert notes[0] == notes[1]  # its own note is no past
    return notes[0]


def past(params: dict[str, Any], note: dict[str, list[float]] | None = None, **how: Any) -> optuna.trial.FrozenTrial:
    return optuna.create_trial(
        params=params,
        distributions={name: SPACE[name] for name in params},
        system_attrs={} if note is None else {NOTE: note},
        **how,
    )


def test_a_failed_trial_counts_and_a_pruned_one_with_what_it_reported() -> None:
    tried = {"n": 0, "c": "b"}
    failed, pruned = (told(past(tried, state=state)) for state in (TrialState.FAIL, TrialState.PRUNED))
    assert failed == pruned
    assert failed != told()
    reported = past(tried, state=TrialState.PRUNED, intermediate_values={2: 1.0, 1: 1.5})
    assert told(reported) == told(past(tried, value=1.0)) != failed


def test_a_trial_without_a_point_in_the_space_does_not_count() -> None:
    nothing = past({}, state=TrialState.FAIL)
    half = past({"n": 0}, state=TrialState.FAIL)
    waiting = past({}, note=NEAR, state=TrialState.WAITING)
    elsewhere = optuna.create_trial(
        params={"n": 0, "c": "b"},
        distributions=SPACE | {"n": IntDistribution(0, 9)},
        state=TrialState.FAIL,
    )
    assert told(nothing) == told(half) == told(waiting) == told(elsewhere) == told()


def test_the_middle_of_a_cell_is_told_at_first_and_the_proposed_point_when_it_comes_again() -> None:
    new, again = {"n": 2, "c": "b"}, {"n": 0, "c": "a"}
    inside = {"n": [1.7], "c": [0.1, 0.2]}
    assert told(past(new, inside, value=1.0)) == told(past(new, value=1.0))
    assert told(past(again, NEAR, value=0.0)) != told(past(again, value=0.0))
    assert told(past(again, inside, value=0.0)) == told(past(again, value=0.0))  # set by hand, not as proposed


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    for method in ("drmad", "descent", "relay", "skopt-gb"):
        with pytest.raises(ValueError, match=f"unknown black-box method '{method}': use one of cmaes, gp, .*skopt-gp"):
            Sampler(method)
    with pytest.raises(ValueError, match=r"skopt-gp\.starup: unknown option 'starup'.*did you mean 'startup'"):
        Sampler("skopt-gp", starup=3)
    with pytest.raises(ValueError, match="startup: 0 must be a whole number, 1 or more"):
        Sampler("tpe", startup=0)
    with pytest.raises(ValueError, match=r"tpe\.batch: Optuna says how many trials run at once \(n_jobs\): leave"):
        Sampler("tpe", batch=8)


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=make("tpe"))
    with pytest.raises(ValueError, match="this study has 2 objectives: hpo's methods take one"):
        study.ask().suggest_float("x", 0, 1)


def test_a_parameter_that_comes_and_goes_is_drawn_at_random_from_its_name_and_number() -> None:
    study = optuna.create_study(sampler=make("random"))
    trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    unit = FloatDistribution(0, 1)
    x, y, x_again = (make("random").sample_independent(study, trial, name, unit) for name in "xyx")
    assert x == x_again
    assert x != y
