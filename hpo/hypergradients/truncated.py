"""Reverse mode through the last steps only (Shaban, Cheng, Hatch, Boots 2019).

Where the loss is strongly convex around the end of the training the error falls as (1 − rate·curvature)^K; elsewhere
the short horizon is a bias that no number of runs averages out (Wu et al. 2018).
"""

from __future__ import annotations

from collections.abc import Collection

from hpo.hypergradients.adjoint import final_adjoint, pull_back_start, reverse
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.kept import States
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Derivative,
    Training,
    families,
    state_bytes,
    validation_evaluations,
    validation_gradient,
)
from solvers.vectors import Tensors


class Truncated(Afterwards):
    """The backward loop over the last `steps` of the recorded training: what a value did before them does not count.

    Any hyperparameter but those of the start (initial_scale, schedules, …), of any solver whose step is differentiable.
    Raises ValueError for fewer than one step. Cost: 4 gradient evaluations for each of the steps; memory: their states.
    """

    stacks = True

    def __init__(self, *, steps: int = 100) -> None:
        if steps < 1:
            raise ValueError(f"steps {steps} must be 1 or more")
        self.steps = steps

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """4 a step, and the validation gradient."""
        sought = training.sought(hyper)
        declared = training.solver.hyperparameters
        starting = {name for name in families(sought) if name in declared and declared[name].at_start}
        early = sorted({n for n in sought if n.endswith("[t]")} | starting)
        if early and self.steps < training.steps:
            raise ValueError(
                f"truncated does not reach the first steps, where {', '.join(early)} acts: use exact, or leave it out"
            )
        last = min(self.steps, training.steps)
        memory = last * state_bytes(training, weights, hyper)
        return Charge(GRADIENT_OF_STEP * training.evaluations(last) + validation_evaluations(training), memory)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """The last states."""
        del weights, hyper
        return range(max(0, training.steps - self.steps), training.steps)

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The loop over them."""
        first = max(0, training.steps - self.steps)
        final = states[training.steps]
        start = final_adjoint(final, validation_gradient(training, final.weights))
        path = ((t, states[t]) for t in range(training.steps - 1, first - 1, -1))
        found = reverse(training.solver, path, hyper, training.batches, start)
        return (found if first else pull_back_start(training, weights, hyper, found)).derivative
