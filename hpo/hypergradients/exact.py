"""Exact reverse mode through the recorded training (Domke 2012; Franceschi et al. 2017, Algorithm 1).

Every state is kept, so memory grows as T·N (2·T·N for SGD with momentum). Any hyperparameter of any solver whose step
is differentiable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from hpo.hypergradients.adjoint import final_adjoint, reverse
from hpo.hypergradients.training import GRADIENT_OF_STEP, Training, validation_evaluations, validation_gradient
from solvers.solver import State
from solvers.vectors import Tensors


class Exact:
    """The derivative of the training as it was run, minibatches included. Cost: 4 T gradient evaluations."""

    def check(self, steps: int, names: Collection[str]) -> None:
        """Nothing is refused."""

    def keeps(self, steps: int) -> Collection[int]:
        """All of them."""
        return range(steps + 1)

    def pull_back(self, training: Training, hyper: Tensors, states: Mapping[int, State]) -> dict[str, Tensor]:
        """The backward loop over the recorded states."""
        final = states[training.steps]
        start = final_adjoint(final, validation_gradient(training, final.weights))
        steps = range(training.steps - 1, -1, -1)
        return reverse(training.solver, states.__getitem__, hyper, training.batches, steps, start)[1]

    def evaluations(self, training: Training) -> float:
        """4 a step, and the validation gradient."""
        return GRADIENT_OF_STEP * training.steps + validation_evaluations(training)
