"""The Optuna strategies are Optuna's samplers, with its own defaults, and better than chance."""

from __future__ import annotations

import logging
import statistics
import warnings
from io import StringIO

import numpy as np
import optuna
import pytest
from landscapes import MIXED, Bowl, best, diverged, group, run
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import default_gamma, default_weights
from scipy.stats import qmc

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies.chance import Random
from hpo.strategies.optuna import CMAES, GP, QMC, TPE, _fading, _good
from hpo.strategies.strategy import trial_seed
from hpo.trial import Proposal

SMALL = Space((group("l2", 2, 1e-6, 1.0, 1e-3, True), group("learning_rate", 1, 1e-3, 1.0, 0.05, True)))
NAMES = ("l2[0]", "l2[1]", "learning_rate[0]")
BOWL = Bowl(SMALL)
DEFAULTS = {"l2[0]": 1e-3, "l2[1]": 1e-3, "learning_rate[0]": 0.05}
SEED = 3


def plain_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler as Optuna makes it when nothing but a seed is said."""
    match name:
        case "random":
            return RandomSampler(seed=seed)
        case "tpe":
            return TPESampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed)
        case "cmaes":
            return CmaEsSampler(seed=seed, x0=DEFAULTS)
        case _:
            return QMCSampler(seed=trial_seed(SEED, 0), scramble=True)


def plain_study(name: str, trials: int) -> list[dict[str, float]]:
    study = optuna.create_study()
    study.enqueue_trial(DEFAULTS)
    for number in range(trials):
        study.sampler = plain_sampler(name, trial_seed(SEED, number))
        trial = study.ask()
        values = {
            "l2": np.array(
                [trial.suggest_float("l2[0]", 1e-6, 1, log=True), trial.suggest_float("l2[1]", 1e-6, 1, log=True)]
            ),
            "learning_rate": np.array([trial.suggest_float("learning_rate[0]", 1e-3, 1, log=True)]),
        }
        study.tell(trial, BOWL(Proposal(number, values)).validation_loss)
    return [t.params for t in study.trials]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("name", "kind", "trials"),
    [("random", Random, 5), ("tpe", TPE, 40), ("gp", GP, 14), ("cmaes", CMAES, 25), ("qmc", QMC, 9)],
)
def test_a_plain_optuna_study_proposes_the_same(name: str, kind, trials: int) -> None:
    ours = [t.proposal.values for t in run(kind(SMALL, SEED), BOWL, trials)]
    for own, plain in zip(ours, plain_study(name, trials), strict=True):
        assert [*own["l2"], *own["learning_rate"]] == [plain[k] for k in NAMES]


def test_tpe_weighs_trials_as_optuna_does() -> None:
    for finished in range(300):
        assert _good(finished) == default_gamma(finished)
        np.testing.assert_array_equal(_fading(finished), default_weights(finished))


def test_qmc_walks_along_one_scrambled_sequence() -> None:
    low, high = SMALL.bounds()
    for kind, sequence in (("sobol", qmc.Sobol), ("halton", qmc.Halton)):
        trials = run(QMC(SMALL, SEED, kind=kind), BOWL, 9)
        points = [(SMALL.flatten(t.proposal.values) - low) / (high - low) for t in trials[1:]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = sequence(3, scramble=True, seed=trial_seed(SEED, 0)).random(8)
        np.testing.assert_allclose(points, wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options", "trials", "seeds"),
    [(TPE, {}, 40, 5), (GP, {}, 16, 3), (CMAES, {}, 60, 5), (CMAES, {"separable": True}, 60, 5)],
)
def test_it_beats_chance(kind, options, trials: int, seeds: int) -> None:
    bowl = Bowl(MIXED, centre=0.3)
    found = statistics.median(best(run(kind(MIXED, seed, **options), bowl, trials)) for seed in range(seeds))
    chance = statistics.median(best(run(Random(MIXED, seed), bowl, trials)) for seed in range(seeds))
    assert found < 0.7 * chance


def test_cmaes_begins_around_the_defaults() -> None:
    low, high = MIXED.bounds()
    trials = run(CMAES(MIXED, 0, sigma=0.01), Bowl(MIXED), 8)
    away = np.array([MIXED.flatten(t.proposal.values) for t in trials[1:]]) - MIXED.flatten(MIXED.defaults())
    assert np.abs(away / (high - low)).max() < 0.05


def test_separable_is_meaningless_for_one_value() -> None:
    one = Space((group("l2", 1, 1e-6, 1.0, 1e-3, True),))
    assert CMAES(one, 0, separable=True).settings["use_separable_cma"] is False
    assert len(run(CMAES(one, 0, separable=True), Bowl(one), 6)) == 6


def test_random_search_uses_the_whole_logarithmic_range() -> None:
    many = Space((group("l2", 300, 1e-6, 1.0, 1e-3, True),))
    decades = np.floor(np.log10(run(Random(many, 0), Bowl(many), 2)[1].proposal.values["l2"]))
    assert set(decades) == {-6, -5, -4, -3, -2, -1}


def test_failed_trials_do_not_count_as_startup() -> None:
    strategy = TPE(MIXED, 0, startup=3)
    run(strategy, lambda p: Bowl(MIXED)(p) if p.number > 3 else diverged(p), 6)
    chance = Random(MIXED, 0)
    assert np.array_equal(strategy.ask(6).values["l2"], chance.ask(6).values["l2"])


def test_it_is_quiet_and_leaves_the_log_level_alone() -> None:
    level, heard = optuna.logging.get_verbosity(), StringIO()
    listener = logging.StreamHandler(heard)
    logging.getLogger("optuna").addHandler(listener)
    try:
        optuna.logging.set_verbosity(optuna.logging.DEBUG)
        run(QMC(MIXED, 0), Bowl(MIXED), 3)
        assert heard.getvalue() == ""
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(level)
        logging.getLogger("optuna").removeHandler(listener)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TPE, {"startup": 0}, "startup: 0 must be a whole number, 1 or more"),
        (TPE, {"startup": 2.5}, "startup: 2.5 must be a whole number"),
        (TPE, {"multivariate": "yes"}, "multivariate: 'yes' must be true or false"),
        (GP, {"startup": True}, "startup: True must be a whole number"),
        (CMAES, {"sigma": 0}, "sigma: 0 must be a finite number above 0"),
        (CMAES, {"population": 2}, "population: 2 must be a whole number, 4 or more"),
        (CMAES, {"separable": 1}, "separable: 1 must be true or false"),
        (QMC, {"kind": "sobel"}, "unknown kind 'sobel': use one of halton, sobol; did you mean 'sobol'?"),
        (QMC, {"kind": 7}, "unknown kind '7'"),
    ],
)
def test_an_option_out_of_range_is_refused(kind, options, message: str) -> None:
    with pytest.raises(BadStudy) as refused:
        kind(MIXED, 0, **options)
    assert message in str(refused.value)


def test_a_space_longer_than_a_sobol_point_is_refused() -> None:
    weights = Space((group("l2", 21202, 1e-6, 1.0, 1e-3, True),))
    with pytest.raises(BadStudy, match="a sobol sequence has at most 21201 values, this space has 21202"):
        QMC(weights, 0)
    assert QMC(weights, 0, kind="halton").settings["qmc_type"] == "halton"


def test_a_full_covariance_of_thousands_of_values_is_refused() -> None:
    wide = Space((group("l2", 3001, 1e-6, 1.0, 1e-3, True),))
    with pytest.raises(BadStudy, match="separable: false learns a 3001 × 3001 covariance: set separable: true"):
        CMAES(wide, 0)
    assert CMAES(wide, 0, separable=True).settings["use_separable_cma"]
