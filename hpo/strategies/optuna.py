"""The samplers of Optuna 5 (Akiba et al. 2019), each driven through one small study in memory.

Trial n of ours is trial n there, with one float named `l2[3]` for every value, in natural units. A sampler is made
anew for each question, with a seed of its own made from (seed, number), so that nothing lives in a generator: a study
told the recorded trials stands where the live one stood. What a sampler keeps in the study itself (CMA-ES its
distribution, QMC its place in the sequence) is kept again when a recorded trial is entered: the sampler is asked as it
was then, and its answer set aside for the recorded values.

Every argument is written out here, Optuna's own defaults included, so that a change of theirs changes no result; some
of them are announced to go in Optuna 6. A trial that failed or has no finite loss is told as failed, and all of these
samplers leave it out.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies import limits
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array, Outcome, Proposal, Trial, Values

if TYPE_CHECKING:
    import optuna

SOBOL_VALUES = 21201
"""The longest point of SciPy's Sobol sequence."""


class _Sampled(ABC):
    """A strategy that asks an Optuna sampler. `retraced`: the sampler keeps notes in the study itself."""

    retraced: ClassVar[bool] = False

    def __init__(self, space: Space, seed: int, sampler: str, settings: Mapping[str, Any]) -> None:
        self.space = space
        self.seed = seed
        self.settings: Mapping[str, Any] = {"optuna": version("optuna"), "sampler": sampler, **settings}
        self._known: dict[int, Trial] = {}
        self._study: optuna.Study | None = None
        self._entered = 0
        self._running: dict[int, optuna.Trial] = {}

    @abstractmethod
    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler to ask for trial `number`, fresh."""

    def ask(self, number: int) -> Proposal:
        """The sampler's choice, given the outcomes told so far and the trials that still run."""
        with _quiet():
            study = self._study = self._study or _new_study()
            for earlier in range(number):
                self._catch_up(study, earlier)
            chosen = self._enter(study, number, self.space.defaults() if number == 0 else None)
        proposal = Proposal(number, self._values(chosen.params))
        self._known[number] = Trial(proposal)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Note the outcome; Optuna hears of it, in the order of the numbers, when the next proposal is asked for."""
        if trial.number < self._entered and trial.number not in self._known:
            self._study, self._entered, self._running = None, 0, {}  # its place was given up: start over
        if trial.outcome is not None or trial.number not in self._known:
            self._known[trial.number] = trial

    def _catch_up(self, study: optuna.Study, number: int) -> None:
        known = self._known.get(number)
        if number == self._entered:
            if known is None:
                self._give_up(study)
            else:
                self._enter(study, number, known.proposal.values)
        if known is not None and known.outcome is not None and number in self._running:
            _close(study, self._running.pop(number), known.outcome)

    def _enter(self, study: optuna.Study, number: int, values: Values | None) -> optuna.Trial:
        """A running trial at these values, or where the sampler wants it."""
        study.sampler = self._sampler(number)
        if values is not None:
            study.enqueue_trial({_name(k, i): float(x) for k, vector in values.items() for i, x in enumerate(vector)})
        trial = study.ask()
        if values is not None and self.retraced:
            _ = trial.relative_params  # asking is what makes the sampler write its notes
        for group in self.space.groups:
            for i in range(group.size):
                trial.suggest_float(_name(group.name, i), group.low, group.high, log=group.log)
        self._entered += 1
        self._running[number] = trial
        return trial

    def _give_up(self, study: optuna.Study) -> None:
        """Keep the place of a trial nobody has told of, so that the numbers agree."""
        import optuna

        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
        self._entered += 1

    def _values(self, params: Mapping[str, float]) -> Values:
        named = {g.name: np.array([params[_name(g.name, i)] for i in range(g.size)]) for g in self.space.groups}
        return {g.name: np.clip(named[g.name], g.low, g.high) for g in self.space.groups}


class Random(_Sampled):
    """Independent draws, uniform in the coordinate searched in (Bergstra, Bengio 2012)."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed, "RandomSampler", {})

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.RandomSampler(seed=trial_seed(self.seed, number))


class TPE(_Sampled):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), jointly over all values unless `multivariate: false`.

    `startup`: random trials until this many have finished. Running trials count as bad ones (constant liar).
    Raises BadStudy naming an option that is out of range.
    """

    def __init__(self, space: Space, seed: int, *, startup: int = 10, multivariate: bool = True) -> None:
        self._arguments = {
            "n_startup_trials": limits.whole("startup", startup, least=1),
            "multivariate": limits.switch("multivariate", multivariate),
            "n_ei_candidates": 24,
            "prior_weight": 1.0,
            "consider_magic_clip": True,
            "consider_endpoints": False,
            "group": False,
            "constant_liar": True,
        }
        described = {"gamma": "min(ceil(n/10), 25)", "weights": "1 for the last 25, older ones rising from 1/n to 1"}
        super().__init__(space, seed, "TPESampler", self._arguments | described)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        return optuna.samplers.TPESampler(**self._arguments, gamma=_good, weights=_fading, seed=seed)


class GP(_Sampled):
    """Gaussian process with log expected improvement (Ament et al. 2023), q-batch while trials run.

    `startup`: random trials until this many have finished. The kernel is fitted from its starting values each time.
    Raises BadStudy naming an option that is out of range. Loads torch when it is first asked.
    """

    def __init__(self, space: Space, seed: int, *, startup: int = 10) -> None:
        self._arguments = {
            "n_startup_trials": limits.whole("startup", startup, least=1),
            "deterministic_objective": False,
        }
        super().__init__(space, seed, "GPSampler", self._arguments)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        independent = optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.GPSampler(
            **self._arguments, seed=seed, independent_sampler=independent, warn_independent_sampling=False
        )


class CMAES(_Sampled):
    """CMA-ES (Hansen 2016) from the defaults; coordinates are scaled to [0, 1].

    `sigma`: the first standard deviation, a share of the range. `population`: trials a generation, if not given
    4 + ⌊3 ln D⌋ (Hansen's equation 48). A generation ends when that many of its trials are complete. `separable`:
    a diagonal covariance (Ros, Hansen 2008), which learns D variances instead of D²/2 and asks much faster above a
    hundred values; a single value has no other.
    Raises BadStudy naming an option that is out of range.
    """

    retraced = True

    def __init__(
        self, space: Space, seed: int, *, sigma: float = 1 / 6, population: int | None = None, separable: bool = False
    ) -> None:
        usual = 4 + math.floor(3 * math.log(space.size))
        self._arguments = {
            "sigma0": limits.number("sigma", sigma, above=0),
            "popsize": usual if population is None else limits.whole("population", population, least=4),
            "n_startup_trials": 1,
            "consider_pruned_trials": False,
            "use_separable_cma": limits.switch("separable", separable) and space.size > 1,
            "with_margin": False,
            "lr_adapt": False,
        }
        described = {"cmaes": version("cmaes"), "x0": "defaults"}
        super().__init__(space, seed, "CmaEsSampler", self._arguments | described)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        return optuna.samplers.CmaEsSampler(
            **self._arguments,
            x0={_name(g.name, i): g.default for g in self.space.groups for i in range(g.size)},
            seed=seed,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )


class QMC(_Sampled):
    """A scrambled low-discrepancy sequence (Owen 1995); `kind`: sobol or halton. One scrambling for the whole arm.

    Raises BadStudy naming an option that does not exist, or for a space too large for a Sobol sequence.
    """

    retraced = True

    def __init__(self, space: Space, seed: int, *, kind: str = "sobol") -> None:
        self._arguments = {"qmc_type": limits.choice("kind", kind, ("sobol", "halton")), "scramble": True}
        if kind == "sobol" and space.size > SOBOL_VALUES:
            raise BadStudy(
                f"kind: a sobol sequence has at most {SOBOL_VALUES} values, this space has {space.size}: "
                "use kind: halton or a coarser per"
            )
        super().__init__(space, seed, "QMCSampler", self._arguments)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.QMCSampler(
            **self._arguments,
            seed=trial_seed(self.seed, 0),
            independent_sampler=optuna.samplers.RandomSampler(seed=trial_seed(self.seed, number)),
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )


def _new_study() -> optuna.Study:
    import optuna

    return optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), pruner=optuna.pruners.NopPruner(), direction="minimize"
    )


def _close(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    import optuna

    if outcome.usable:
        study.tell(trial, outcome.validation_loss)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _name(group: str, index: int) -> str:
    return f"{group}[{index}]"


def _good(finished: int) -> int:
    """How many of the finished trials TPE calls good."""
    return min(math.ceil(0.1 * finished), 25)


def _fading(trials: int) -> Array:
    """TPE's weight of each trial, oldest first."""
    older = max(trials - 25, 0)
    return np.concatenate([np.linspace(1 / max(trials, 1), 1.0, older), np.ones(trials - older)])


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line for each trial, and no warning that an argument written out on purpose is experimental or to go."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are advice: GP would like to have greenlet
    try:
        with warnings.catch_warnings():
            written = "prior_weight|consider_magic_clip|consider_endpoints|gamma|weights|x0|sigma0"
            warnings.filterwarnings("ignore", f"`({written})` has been deprecated", FutureWarning)
            early = "QMCSampler is|Argument ``use_separable_cma`` is an"
            warnings.filterwarnings("ignore", f"({early}) experimental", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
