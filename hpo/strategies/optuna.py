"""The samplers of Optuna 5: TPE, Gaussian processes, CMA-ES and low-discrepancy sequences.

Every argument is written out here, Optuna's own defaults included, so that a change of theirs changes no result; some
of them are announced to go in Optuna 6. How a sampler becomes a fold over trials is told in `sampled.py`.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from hpo.failures import BadStudy
from hpo.space import Space
from hpo.strategies import limits
from hpo.strategies.sampled import Sampled, parameter
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array

if TYPE_CHECKING:
    import optuna

FULL_COVARIANCE = 3000
"""The largest space for a full covariance in CMA-ES: 72 MB, and half a minute a proposal."""

SOBOL_VALUES = 21201
"""The longest point of SciPy's Sobol sequence."""


class TPE(Sampled):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), jointly over all values unless `multivariate: false`.

    `startup`: random trials until this many have finished. `batch`: trials to have under way; running ones count as
    bad ones (constant liar).
    Raises BadStudy naming an option that is out of range.
    """

    def __init__(
        self, space: Space, seed: int, *, startup: int = 10, multivariate: bool = True, batch: int = 1
    ) -> None:
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
        super().__init__(space, seed, "TPESampler", self._arguments | described, _whole(batch))

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        return optuna.samplers.TPESampler(**self._arguments, gamma=_good, weights=_fading, seed=seed)


class GP(Sampled):
    """Gaussian process with log expected improvement (Ament et al. 2023).

    `startup`: random trials until this many have finished. The kernel is fitted from its starting values each time.
    `batch`: trials to have under way; the improvement expected is that of all of them together.
    Cost: a proposal takes a quarter of a second to one and a half, among 30 to 130 trials of 5 to 20 values; with
    trials under way up to twice that.
    Raises BadStudy naming an option that is out of range. Loads torch when it is first asked.
    """

    def __init__(self, space: Space, seed: int, *, startup: int = 10, batch: int = 1) -> None:
        self._arguments = {
            "n_startup_trials": limits.whole("startup", startup, least=1),
            "deterministic_objective": False,
        }
        super().__init__(space, seed, "GPSampler", self._arguments, _whole(batch))

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        independent = optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.GPSampler(
            **self._arguments, seed=seed, independent_sampler=independent, warn_independent_sampling=False
        )


class CMAES(Sampled):
    """CMA-ES (Hansen 2016) from the defaults; coordinates are scaled to [0, 1].

    `sigma`: the first standard deviation, a share of the range. `population`: trials a generation, if not given
    4 + ⌊3 ln D⌋ (Hansen's equation 48), made up to whole batches. A generation ends when that many of its trials are
    complete, and what was asked for beyond it teaches nothing. `batch`: trials to have under way; the defaults go
    alone, for whatever is asked for before a trial is complete is drawn at random. `separable`: a diagonal covariance
    (Ros, Hansen 2008), which learns D variances instead of D²/2 and asks much faster above a hundred values; a single
    value has no other.
    Raises BadStudy naming an option that is out of range.
    """

    retraced = True

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        sigma: float = 1 / 6,
        population: int | None = None,
        separable: bool = False,
        batch: int = 1,
    ) -> None:
        if space.size > FULL_COVARIANCE and not separable:
            raise BadStudy(
                f"separable: false learns a {space.size} × {space.size} covariance: set separable: true above "
                f"{FULL_COVARIANCE} values, or take a coarser per"
            )
        batches = math.ceil((4 + math.floor(3 * math.log(space.size))) / _whole(batch))
        size = batches * batch if population is None else limits.whole("population", population, least=4)
        if batch > size:
            raise BadStudy(f"batch: {batch} is more than a generation, population {size}: give batch {size} at most")
        self._arguments = {
            "sigma0": limits.number("sigma", sigma, above=0),
            "popsize": size,
            "n_startup_trials": 1,
            "consider_pruned_trials": False,
            "use_separable_cma": limits.switch("separable", separable) and space.size > 1,
            "with_margin": False,
            "lr_adapt": False,
        }
        described = {"cmaes": version("cmaes"), "x0": "defaults"}
        super().__init__(space, seed, "CmaEsSampler", self._arguments | described, batch)

    @property
    def batch(self) -> int | None:
        """One until the defaults have ended."""
        return self._batch if any(trial.outcome is not None for trial in self._known.values()) else 1

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = trial_seed(self.seed, number)
        return optuna.samplers.CmaEsSampler(
            **self._arguments,
            x0={parameter(g.name, i): g.default for g in self.space.groups for i in range(g.size)},
            seed=seed,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )


class QMC(Sampled):
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
        super().__init__(space, seed, "QMCSampler", self._arguments, batch=None)

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.QMCSampler(
            **self._arguments,
            seed=trial_seed(self.seed, 0),
            independent_sampler=optuna.samplers.RandomSampler(seed=trial_seed(self.seed, number)),
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )


def _whole(batch: object) -> int:
    return limits.whole("batch", batch, least=1)


def _good(finished: int) -> int:
    """How many of the finished trials TPE calls good."""
    return min(math.ceil(0.1 * finished), 25)


def _fading(trials: int) -> Array:
    """TPE's weight of each trial, oldest first."""
    older = max(trials - 25, 0)
    return np.concatenate([np.linspace(1 / max(trials, 1), 1.0, older), np.ones(trials - older)])
