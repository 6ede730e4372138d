"""What is differentiated: a training of T steps, and the validation loss at its end.

Every method answers two questions: which states of the run it keeps, and how it pulls the derivative of the
validation loss back through them. `hypergradient` puts both together:

    from hpo.hypergradients.training import Training, hypergradient
    result = hypergradient("drmad", training, weights, {"l2": torch.tensor(1e-3), "learning_rate": torch.tensor(0.1)})
    result.value, result.gradient["l2"], result.gradient_evaluations
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hpo.hypergradients import HYPERGRADIENTS
from solvers.solver import Batch, Batches, Solver, State, run
from solvers.vectors import Tensors

GRADIENT_OF_STEP = 4.0
"""Gradient evaluations charged for pulling an adjoint back through one step: the step again, recorded, and its
backward pass. Arithmetic alone says 3; measured 3.8-5.3 on 784-50-50-50-10 at batch 100."""


class Training(NamedTuple):
    """A training without its initial weights and hyperparameters.

    `forward(weights, inputs [B, …]) → outputs [B, D]`; `criterion(outputs, targets) → mean loss`, a scalar; the solver
    minimises criterion(forward) + ½ Σ r·w² on `batches`. `train` and `validation` are whole parts.
    """

    solver: Solver[Any]
    forward: Callable[[Tensors, Tensor], Tensor]
    criterion: Callable[[Tensor, Tensor], Tensor]
    batches: Batches
    steps: int
    train: Batch
    validation: Batch

    def validation_loss(self, weights: Tensors) -> Tensor:
        """The criterion on the whole validation part, without any penalty."""
        return self.criterion(self.forward(weights, self.validation.inputs), self.validation.targets)


class Hypergradient(Protocol):
    """A method. It holds options only; everything about a run is passed in."""

    def check(self, steps: int, names: Collection[str]) -> None:
        """Raises ValueError naming the hyperparameters (keys as in `hyper`) it cannot differentiate over T steps."""
        ...

    def keeps(self, steps: int) -> Collection[int]:
        """The steps t whose state (before step t; T is the final one) must be kept."""
        ...

    def pull_back(self, training: Training, hyper: Tensors, states: Mapping[int, State]) -> dict[str, Tensor]:
        """d(validation loss)/d(hyper) in float64, with the names and shapes of `hyper`."""
        ...

    def evaluations(self, training: Training) -> float:
        """Gradient evaluations the pass charges on top of the training's T: known before anything runs."""
        ...


class Result(NamedTuple):
    """Validation loss, its derivative by name (float64), the trained weights, and the cost of all of it."""

    value: Tensor
    gradient: dict[str, Tensor]
    weights: Tensors
    gradient_evaluations: float


def method(name: str, **options: Any) -> Hypergradient:
    """The method called `name`. Raises ValueError for an unknown name or option value, TypeError for an unknown
    option.
    """
    if name not in HYPERGRADIENTS:
        raise ValueError(f"unknown hypergradient {name!r}: use one of {', '.join(sorted(HYPERGRADIENTS))}")
    module, _, attribute = HYPERGRADIENTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(**options)


def walk(
    training: Training, weights: Tensors, hyper: Tensors, stops: Collection[int] = ()
) -> Iterator[tuple[int, State]]:
    """The training, stopping at 0, at the given steps and at T: yields (step, the state before it)."""
    state = training.solver.init(weights, hyper, training.batches(0))
    yield 0, state
    for start, stop in pairwise(sorted({0, training.steps, *stops})):
        state = run(training.solver, state, hyper, training.batches, start, stop)
        yield stop, state


def train(
    training: Training, weights: Tensors, hyper: Tensors, keep: Collection[int] = ()
) -> tuple[State, dict[int, State]]:
    """Run all T steps; returns the final state and the states kept, by step."""
    states = dict(walk(training, weights, hyper, keep))
    return states[training.steps], states


def hypergradient(name: str, training: Training, weights: Tensors, hyper: Tensors, **options: Any) -> Result:
    """Train from `weights` with `hyper`, then differentiate the validation loss with respect to every entry of `hyper`.

    Cost: T gradient evaluations for the training and `evaluations(training)` of the method. Raises ValueError for
    fewer than one step, an unknown method or an option out of range.
    """
    if training.steps < 1:
        raise ValueError(f"a training of {training.steps} steps has no hypergradient: give it 1 or more")
    derivative = method(name, **options)
    derivative.check(training.steps, hyper)
    final, states = train(training, weights, hyper, derivative.keeps(training.steps))
    gradient = derivative.pull_back(training, hyper, states)
    with torch.no_grad():
        value = training.validation_loss(final.weights)
    return Result(value, gradient, final.weights, training.steps + derivative.evaluations(training))


def validation_gradient(training: Training, weights: Tensors) -> dict[str, Tensor]:
    """∇_w of the validation loss. Cost: validation rows / batch rows gradient evaluations."""
    with torch.enable_grad():
        points = {name: w.detach().requires_grad_() for name, w in weights.items()}
        slopes = torch.autograd.grad(training.validation_loss(points), list(points.values()))
    return dict(zip(points, slopes, strict=True))


def validation_evaluations(training: Training) -> float:
    """What `validation_gradient` is charged."""
    return len(training.validation.targets) / len(training.batches(0).targets)
