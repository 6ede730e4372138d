"""What is differentiated: a training of T steps, and the validation loss at its end.

Every method answers two questions: what its pass is charged, and how it follows a training and pulls the derivative of
the validation loss out of it. `hypergradient` puts both together.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Generator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hpo.hypergradients import HYPERGRADIENTS
from hpo.hypergradients.given import check, floating
from hpo.hypergradients.kept import Kept, States, ahead
from solvers.solver import Batch, Batches, Solver, State, run
from solvers.vectors import Tensors, leaves

GRADIENT_OF_STEP = 4.0
"""Gradient evaluations charged for pulling an adjoint back through one step: the step again, recorded, and its
backward pass. Arithmetic alone says 3; measured 3.8-5.3 on 784-50-50-50-10 at batch 100."""


class Training(NamedTuple):
    """A training without its initial weights and hyperparameters.

    `forward(weights, inputs [B, …]) → outputs [B, D]`, with the weights that the solver reads out; `criterion(outputs,
    targets) → mean loss`, a scalar; the solver trains on `batches`. `train` and `validation` are whole parts. `held`:
    names of hyperparameters that are given but not tuned, so that a method that could not differentiate them may still
    be used.
    """

    solver: Solver[Any]
    forward: Callable[[Tensors, Tensor], Tensor]
    criterion: Callable[[Tensor, Tensor], Tensor]
    batches: Batches
    steps: int
    train: Batch
    validation: Batch
    held: Collection[str] = ()

    def sought(self, hyper: Tensors) -> dict[str, Tensor]:
        """The hyperparameters that a derivative is wanted of: all but those held."""
        return {key: x for key, x in hyper.items() if not self.held or family(key) not in self.held}

    def validation_loss(self, weights: Tensors) -> Tensor:
        """The criterion on the whole validation part, without any penalty."""
        outputs = self.forward(self.solver.readout(weights), self.validation.inputs)
        return self.criterion(outputs, self.validation.targets)

    def evaluations(self, steps: int) -> float:
        """Gradient evaluations of so many steps, on the rows of a batch."""
        return steps * self.solver.evaluations


class Derivative(NamedTuple):
    """d(validation loss)/d(hyper) in float64, with the names and shapes of `hyper`.

    `report`: figures about the pass, by name; `exploded`: the step at which a backward pass stopped being finite.
    `hyper`: the hyperparameters at the end of the training, from a method that moves them on the way.
    `exact`: the exact derivative of the same training, where it was taken beside this one.
    """

    gradient: dict[str, Tensor]
    report: Mapping[str, float] = MappingProxyType({})
    hyper: Tensors | None = None
    exact: Tensors | None = None


class Charge(NamedTuple):
    """What a pass costs on top of the training, on the rows of its batches, known before anything runs.

    `memory`: bytes held at its height on top of the training's own, activations of a batch left out.
    """

    gradient_evaluations: float
    memory: int


Following = Generator[tuple[int, State], None, Derivative]
"""A training under way: yields (step, the state before it) at 0, at every stop and at T, and maybe in between;
returns the derivative when it is resumed after T. Whoever has seen enough closes it."""


class Hypergradient(Protocol):
    """A method. It holds options only; everything about a run is passed in."""

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """Raises ValueError naming the hyperparameters (keys of `hyper`) or the options that cannot be served."""
        ...

    def follow(
        self,
        training: Training,
        weights: Tensors,
        hyper: Tensors,
        stops: Collection[int] = (),
        kept: Kept | None = None,
    ) -> Following:
        """Run the training, then differentiate it.

        `kept` is filled while it runs: at every yield it holds all that the following needs to go on from there. Given
        what another following of the same training (weights, hyperparameters, stops) has filled, it goes on: its first
        yield is the step at which that one stood, and everything after has the same digits. Empty: from the start. The
        derivative, too, is taken from it, and may take out what it has used.
        """
        ...


class Result(NamedTuple):
    """Validation loss, its derivative by name, shaped and typed as `hyper`, the cost of all of it.

    `weights` are the trained ones, read out; `hyper` are those at the end of the training; `report` is the method's,
    as in `Derivative`.
    """

    value: Tensor
    gradient: dict[str, Tensor]
    weights: Tensors
    gradient_evaluations: float
    report: Mapping[str, float]
    hyper: Tensors


def method(name: str, **options: Any) -> Hypergradient:
    """The method called `name`. Raises ValueError for an unknown name or option value, TypeError for an unknown
    option.
    """
    if name not in HYPERGRADIENTS:
        raise ValueError(f"unknown hypergradient {name!r}: use one of {', '.join(sorted(HYPERGRADIENTS))}")
    module, _, attribute = HYPERGRADIENTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(**options)


Walk = Generator[tuple[int, State], None, None]
"""A training alone: yields (step, the state before it)."""


def walk(
    training: Training, weights: Tensors, hyper: Tensors, stops: Collection[int] = (), kept: Kept | None = None
) -> Walk:
    """The training alone, stopping at 0, at the given steps and at T; `kept` as in `Hypergradient.follow`."""
    return onwards(training, hyper, begun(training, weights, hyper, kept), stops)


def begun(training: Training, weights: Tensors, hyper: Tensors, kept: Kept | None) -> States:
    """The start of a training, or where it stands."""
    return States(training.solver.init(weights, hyper, training.batches(0)), training.steps, kept)


def onwards(
    training: Training, hyper: Tensors, states: States, stops: Collection[int], staying: Collection[int] = ()
) -> Walk:
    """The training from where it stands, stopping there, at the given steps, at those of `staying` and at T.

    Of its states those of `staying` and the last one are in `states`.
    """
    here, state = states.last, states[states.last]
    for stop in ahead(here, {training.steps, *stops, *staying}):
        state = run(training.solver, state, hyper, training.batches, here, stop)
        states[stop] = state
        if here != stop and here not in staying:
            del states[here]
        here = stop
        yield stop, state


def train(training: Training, weights: Tensors, hyper: Tensors) -> State:
    """The final state, without a derivative."""
    state = training.solver.init(weights, hyper, training.batches(0))
    return run(training.solver, state, hyper, training.batches, 0, training.steps)


def conclude(following: Following) -> Derivative:
    """The derivative of a training that has yielded T."""
    try:
        step, _ = next(following)
    except StopIteration as end:
        return end.value
    raise RuntimeError(f"the training yielded step {step} after its last")


def hypergradient(
    name: str, training: Training, weights: Tensors, hyper: Mapping[str, Tensor | float], **options: Any
) -> Result:
    """Train from `weights` with `hyper`, then differentiate the validation loss with respect to every entry of `hyper`
    but what the training holds. With `online` the values move on the way; its gradient is the last it moved along.

    Cost: T steps for the training, the method's charge, and two steps for looking at what was given.
    Raises ValueError for fewer than one step, no hyperparameter, minibatches for a solver that takes all rows, an
    unknown method, an option out of range, a hyperparameter that the method cannot differentiate, and what
    `given.check` finds.
    """
    if training.steps < 1:
        raise ValueError(f"a training of {training.steps} steps has no hypergradient: give it 1 or more")
    if not hyper:
        raise ValueError("hyper is empty: name at least one hyperparameter")
    derivative = method(name, **options)
    values = floating(weights, hyper)
    rows, given = len(training.train.targets), len(training.batches(0).targets)
    if training.solver.whole and rows != given:
        said = type(training.solver).__name__
        raise ValueError(
            f"{said} takes all {rows} training rows at every step, in one order, not minibatches of {given}"
        )
    charge = derivative.charge(training, weights, values)
    check(training.solver, weights, values, training.batches, training.steps)
    following = derivative.follow(training, weights, values)
    state = next(state for step, state in following if step == training.steps)
    found = conclude(following)
    with torch.no_grad():
        value = training.validation_loss(state.weights)
    gradient = {key: slope.to(values[key].dtype) for key, slope in training.sought(found.gradient).items()}
    cost = training.evaluations(training.steps) + charge.gradient_evaluations
    weights = training.solver.readout(state.weights)
    return Result(value, gradient, weights, cost, found.report, found.hyper or values)


def validation_gradient(training: Training, weights: Tensors) -> dict[str, Tensor]:
    """∇_w of the validation loss. Cost: validation rows / batch rows gradient evaluations."""
    with torch.enable_grad():
        points = {name: w.detach().requires_grad_() for name, w in weights.items()}
        slopes = torch.autograd.grad(training.validation_loss(points), list(points.values()), materialize_grads=True)
    return dict(zip(points, slopes, strict=True))


def validation_evaluations(training: Training) -> float:
    """What `validation_gradient` is charged."""
    rows = len(training.validation.targets) + training.solver.readout_rows
    return rows / len(training.batches(0).targets)


def state_bytes(training: Training, weights: Tensors, hyper: Tensors) -> int:
    """Bytes of one state."""
    return sum(x.numel() * x.element_size() for x in leaves(training.solver.init(weights, hyper, training.batches(0))))


def family(key: str) -> str:
    """The hyperparameter behind a key: "l2" for "l2.layers.0.weight" and "l2[t]"."""
    return key.partition("[")[0].partition(".")[0]


def families(hyper: Collection[str]) -> list[str]:
    """The names of the hyperparameters behind keys."""
    return sorted({family(key) for key in hyper})
