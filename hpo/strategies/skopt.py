"""The surrogates of scikit-optimize 0.10: a model of the loss is fitted, and asked where a better one may be.

The library's Optimizer is made anew for each question, seeded from (seed, number) and told every trial at once, so
that a proposal is a function of the trials alone. It searches in the coordinates of the space (the logarithm, where
the space is logarithmic), because its test for "this point was tried before" is a distance of 1e-8 in the units it is
given: on strengths near 1e-6 natural units would make it see repetitions.

What is told:
- a trial with a finite loss: its loss;
- a pruned one: its last loss, the worst finite one if that is not finite;
- a failed one: the worst finite loss so far, so that a diverging corner is avoided; left out while none is finite;
- a running one: the mean of the finite losses, which neither draws the next proposal near nor drives it far away (a
  constant liar; Ginsbourger, Le Riche, Carraro 2010). So `batch` trials under way are spread, each asked for in turn.

`startup` trials are drawn at random before the first model is fitted; running ones do not count. Expected improvement
counts from 0.01 on, in the units of the loss: the library's own setting.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from hpo.space import Space
from hpo.strategies import limits
from hpo.strategies.strategy import trial_seed
from hpo.trial import Array, Proposal, Trial

ACQUISITIONS = ("gp_hedge", "EI", "LCB", "PI")
FOREST: dict[str, Any] = {
    "n_estimators": 100,
    "min_samples_leaf": 3,
    "criterion": "squared_error",
    "max_depth": None,
    "min_samples_split": 2,
    "min_weight_fraction_leaf": 0.0,
    "max_features": None,
    "max_leaf_nodes": None,
    "min_impurity_decrease": 0.0,
    "min_variance": 0.0,
    "n_jobs": 1,
}


class _Surrogate(ABC):
    """A strategy that asks scikit-optimize's Optimizer with a model of its own."""

    def __init__(
        self, space: Space, seed: int, model: Mapping[str, Any], search: str, acquisition: str, startup: int, batch: int
    ) -> None:
        self.space = space
        self.seed = seed
        self._startup = limits.whole("startup", startup, least=1)
        self.batch = limits.whole("batch", batch, least=1)
        self._optimizer: dict[str, Any] = {
            "acq_func": limits.choice("acquisition", acquisition, ACQUISITIONS),
            "acq_func_kwargs": {"xi": 0.01, "kappa": 1.96},
            "acq_optimizer": search,
            "acq_optimizer_kwargs": {"n_points": 10_000, "n_restarts_optimizer": 5, "n_jobs": 1},
            "initial_point_generator": "random",
            "avoid_duplicates": True,
        }
        self.settings: Mapping[str, Any] = {
            "scikit-optimize": version("scikit-optimize"),
            "scikit-learn": version("scikit-learn"),
            "n_initial_points": startup,
            "batch": batch,
            "model": dict(model),
            "running": "mean",
            "failed": "worst",
            "pruned": "its last loss",
            **self._optimizer,
        }
        self._known: dict[int, Trial] = {}

    @abstractmethod
    def _model(self, seed: int) -> Any:
        """A scikit-learn regressor that also tells its uncertainty."""

    def ask(self, number: int) -> Proposal:
        """The best point of the acquisition function, given the outcomes told so far and the trials that still run."""
        self._known.pop(number, None)  # what was asked for this number before came to nothing
        values = self.space.unflatten(self._best(number)) if number else self.space.defaults()
        proposal = Proposal(number, values)
        self._known[number] = Trial(proposal)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Note the outcome."""
        known = self._known.get(trial.number)
        if trial.outcome is not None or known is None or known.outcome is None:
            self._known[trial.number] = trial

    def _best(self, number: int) -> Array:
        from skopt import Optimizer
        from skopt.space import Real

        points, losses, running = self._told()
        seed = trial_seed(self.seed, number)
        low, high = self.space.bounds()
        with warnings.catch_warnings():
            # The Optimizer says so when it replaces a repeated point by a random one, which is what is wanted.
            warnings.filterwarnings("ignore", "The objective has been evaluated at point", UserWarning)
            optimizer = Optimizer(
                [Real(float(a), float(b), prior="uniform") for a, b in zip(low, high, strict=True)],
                base_estimator=self._model(seed),
                n_initial_points=self._startup + running,
                random_state=seed,
                **self._optimizer,
            )
            if losses:
                optimizer.tell([np.clip(p, low, high).tolist() for p in points], losses)
            return np.array(optimizer.ask())

    def _told(self) -> tuple[list[Array], list[float], int]:
        """Points, what is said of their losses, and how many of them still run; nothing while no loss is finite."""
        trials = [trial for _, trial in sorted(self._known.items())]
        finite = [t.outcome.validation_loss for t in trials if t.outcome is not None and t.outcome.usable]
        if not finite:
            return [], [], 0
        worst, mean = max(finite), float(np.mean(finite))
        losses = [_said(trial, worst, mean) for trial in trials]
        points = [self.space.flatten(trial.proposal.values) for trial in trials]
        return points, losses, sum(trial.outcome is None for trial in trials)


class GP(_Surrogate):
    """Gaussian process: amplitude × Matérn 5/2 with a length for each value, plus noise (Snoek et al. 2012).

    `acquisition`: EI, LCB, PI, or gp_hedge, which draws one of the three; their gains (Brochu et al. 2011) start anew
    with each proposal here, so the draw is uniform. `startup`: random trials before the first model. `batch`: trials to
    have under way.
    Cost: a proposal takes a quarter of a second to two, among 30 to 130 trials of 5 to 20 values.
    Raises BadStudy naming an option that is out of range.
    """

    def __init__(
        self, space: Space, seed: int, *, acquisition: str = "gp_hedge", startup: int = 10, batch: int = 1
    ) -> None:
        self._arguments = {"noise": "gaussian", "normalize_y": True, "n_restarts_optimizer": 2, "alpha": 1e-10}
        kernel = "ConstantKernel(1, (0.01, 1000)) * Matern(1 for each value, (0.01, 100), nu=2.5)"
        super().__init__(space, seed, {"kernel": kernel, **self._arguments}, "lbfgs", acquisition, startup, batch)

    def _model(self, seed: int) -> Any:
        from skopt.learning import GaussianProcessRegressor
        from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern

        lengths: Any = np.ones(self.space.size)
        kernel = ConstantKernel(1.0, (0.01, 1000.0)) * Matern(lengths, [(0.01, 100)] * self.space.size, nu=2.5)
        return GaussianProcessRegressor(kernel=kernel, random_state=seed, **self._arguments)


class RandomForest(_Surrogate):
    """Random forest (Hutter et al. 2011); the spread of its trees is the uncertainty.

    `acquisition`: EI, LCB, PI or gp_hedge, `startup`, `batch`: as for GP. A proposal takes a quarter of a second.
    Raises BadStudy naming an option that is out of range.
    """

    def __init__(self, space: Space, seed: int, *, acquisition: str = "EI", startup: int = 10, batch: int = 1) -> None:
        self._arguments = {**FOREST, "bootstrap": True}
        super().__init__(space, seed, self._arguments, "sampling", acquisition, startup, batch)

    def _model(self, seed: int) -> Any:
        from skopt.learning import RandomForestRegressor

        return RandomForestRegressor(random_state=seed, **self._arguments)


class ExtraTrees(_Surrogate):
    """Extremely randomised trees (Geurts et al. 2006): as RandomForest, with random cuts and every trial in every tree.

    `acquisition`: EI, LCB, PI or gp_hedge, `startup`, `batch`: as for GP. A proposal takes a quarter of a second.
    Raises BadStudy naming an option that is out of range.
    """

    def __init__(self, space: Space, seed: int, *, acquisition: str = "EI", startup: int = 10, batch: int = 1) -> None:
        self._arguments = {**FOREST, "bootstrap": False}
        super().__init__(space, seed, self._arguments, "sampling", acquisition, startup, batch)

    def _model(self, seed: int) -> Any:
        from skopt.learning import ExtraTreesRegressor

        return ExtraTreesRegressor(random_state=seed, **self._arguments)


def _said(trial: Trial, worst: float, mean: float) -> float:
    """What the Optimizer is told of a trial's loss."""
    if trial.outcome is None:
        return mean
    pruned = trial.outcome.state == "pruned" and np.isfinite(trial.outcome.validation_loss)
    return trial.outcome.validation_loss if trial.outcome.usable or pruned else worst
