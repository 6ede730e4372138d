"""Exact reverse mode through the whole training (Domke 2012; Franceschi et al. 2017, Algorithm 1).

States are recorded, or, under a memory cap, partly computed again: the digits are the same.
Any hyperparameter of any solver whose step is differentiable.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Literal

from hpo.hypergradients.adjoint import final_adjoint, pull_back_start, reverse
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.checkpoints import again, backwards, enough, spine
from hpo.hypergradients.kept import States
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Derivative,
    Training,
    state_bytes,
    validation_evaluations,
    validation_gradient,
)
from solvers.vectors import Tensors

MIB = 2**20


class Exact(Afterwards):
    """The derivative of the training as it was run, minibatches included.

    `memory`: "all" keeps all T states, "sqrt" about √(2T) at the price of one more training, a number as many as fit
    into so many MiB, with the least that must then be computed again. Raises ValueError if two do not fit.
    Cost, in gradient evaluations: 4 T and what is computed again; memory: kept states (2 N numbers each for SGD).
    """

    def __init__(self, *, memory: float | Literal["all", "sqrt"] = "all") -> None:
        if memory not in ("all", "sqrt") and not (isinstance(memory, int | float) and 0 < memory < inf):
            raise ValueError(f"memory {memory!r} must be all, sqrt or a number of MiB above 0")
        self.memory = memory
        self.stacks = memory in ("all", "sqrt")  # of a number of MiB each training has its own

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """4 a step, the steps that are computed again, and the validation gradient."""
        slots = self._slots(training, weights, hyper)
        evaluations = GRADIENT_OF_STEP * training.evaluations(training.steps)
        evaluations += training.evaluations(again(training.steps, slots))
        memory = min(slots + 1, training.steps) * state_bytes(training, weights, hyper)
        return Charge(evaluations + validation_evaluations(training), memory)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """What the backward loop starts from."""
        return set(spine(0, training.steps, self._slots(training, weights, hyper)))

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The backward loop."""
        slots, steps = self._slots(training, weights, hyper), training.steps
        final = states.pop(steps)
        start = final_adjoint(final, validation_gradient(training, final.weights))
        path = backwards(training, hyper, states, steps, slots)
        found = reverse(training.solver, path, hyper, training.batches, start)
        return pull_back_start(training, weights, hyper, found).derivative

    def _slots(self, training: Training, weights: Tensors, hyper: Tensors) -> int:
        """How many states may be kept at a time."""
        if self.memory == "all":
            return training.steps
        if self.memory == "sqrt":
            return enough(training.steps)
        one = state_bytes(training, weights, hyper)
        slots = int(float(self.memory) * MIB // one) - 1  # the state at hand is held, too
        if slots < 1:
            raise ValueError(
                f"memory {self.memory:g} MiB is too little: two states of {one / MIB:.3g} MiB must fit, more are faster"
            )
        return min(slots, training.steps)
