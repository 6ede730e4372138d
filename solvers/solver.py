"""The contract every inner solver keeps, and the gradient they share.

A solver is a frozen object with two pure functions, `init` and `step`; its state is a NamedTuple of float tensors.
Batches carry their index, so any run can be replayed forwards or backwards. Nothing is changed in place, read from
a clock or drawn from a global generator, and no value leaves the tensors: the same code trains, is differentiated
through (grad mode on, something requires grad) and runs under `torch.vmap` over a replica axis.

Every solver minimises, on the same scale,

    mean over the batch of loss(w, x, y)  +  ½ Σ r·w²          r = the l2 strength of each weight.

**Hyperparameters** are a `dict[str, Tensor]`. The finest key wins:

    "l2.layers.0.weight"     a value for this weight tensor, of any shape that broadcasts against it
    "learning_rate[t]"       one value per step, `[T]`; for one tensor, "learning_rate.layers.0.bias[t]", `[T, 1, …]`
    "momentum"               one value for everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from solvers.ranges import Range
from solvers.vectors import Tensors, between, transformed

Loss = Callable[[Tensors, Tensors, "Batch"], Tensor]
"""(weights, hyper, batch) → the batch-mean loss without any penalty, a scalar."""


class Batch(NamedTuple):
    """Minibatch number `index` of a run: `inputs` `[B, …]`, `targets` `[B]` or `[B, D]`."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - a step number, not tuple.index
    inputs: Tensor
    targets: Tensor


Batches = Callable[[int], Batch]
"""Step number → its minibatch, the same one whenever it is asked."""


class State(Protocol):
    """A NamedTuple of float tensors and dictionaries of them; all solvers have `weights` in common."""

    @property
    def weights(self) -> Tensors: ...
    def __iter__(self) -> Iterator[Any]: ...


S = TypeVar("S", bound=State)


class HeavyBall(NamedTuple):
    """A solver seen locally as  v ← momentum·v + ∇L ;  w ← w − rate·v.

    `rate`: one tensor per weight, of the weight's shape. `momentum`: a scalar. `drag`: where it is given, a direction
    of curvature h has the momentum `momentum` − drag·rate·h instead.
    """

    rate: Tensors
    momentum: Tensor
    drag: Tensor | None = None


class Solver(Protocol[S]):
    """What a method must offer; whoever derives from this class has the defaults below.

    What is trained is bound when the solver is made, by parameters of these names: `loss`, `forward(weights, inputs)`,
    `criterion(outputs, targets)`, `chain` (the network's stages) and `train` (all training rows). Options are
    keyword-only.
    """

    hyperparameters: Mapping[str, Range]
    evaluations: float = 1.0
    """Gradient evaluations that a step costs, on the rows of its batch."""
    whole: bool = False
    """Whether every step takes all training rows, in one order."""
    readout_rows: int = 0
    """Rows that `readout` passes through the network."""

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> S:
        """The state before the first step; `weights` are multiplied by `initial_scale` (see `scaled`)."""
        ...

    def step(self, state: S, hyper: Tensors, batch: Batch) -> S:
        """The state after one step on `batch`; costs `evaluations`."""
        ...

    def heavy_ball(self, state: S, hyper: Tensors, index: int) -> HeavyBall | None:
        """The local heavy-ball form of step `index`, which led to `state`; differentiable in `hyper`. None: no such."""
        del state, hyper, index
        return None

    def readout(self, weights: Tensors) -> Tensors:
        """The weights with which the network predicts, from those that are trained; differentiable."""
        return weights

    def between(self, first: S, last: S, share: float, steps: int, hyper: Tensors, batch: Batch) -> S:
        """A state on the way from `first` to `last`, which lie `steps` steps apart, known by these two alone.

        All leaves on the straight line, unless the method knows which leaves follow from the weights.
        """
        del steps, hyper, batch
        return between(first, last, share)

    def logs(self, state: S, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """Figures of the method about a state, by name, scalars; none unless the method says so."""
        del state, hyper, batch
        return {}


def setting(hyper: Tensors, name: str, weight: str, index: int) -> Tensor | None:
    """The value of hyperparameter `name` for the tensor called `weight` at step `index`, or None if it is not given."""
    for key in (f"{name}.{weight}", name):
        schedule = f"{key}[t]"
        if schedule in hyper:
            return _at(hyper[schedule], index)
        if key in hyper:
            return hyper[key]
    return None


def _at(schedule: Tensor, index: int | Tensor) -> Tensor:
    """The value of one step, whose number may be a tensor (see `solvers.stacked`)."""
    return schedule.index_select(0, index.reshape(1))[0] if isinstance(index, Tensor) else schedule[index]


def required(hyper: Tensors, name: str, weight: str, index: int) -> Tensor:
    """As `setting`; raises KeyError naming the hyperparameter where it is missing."""
    value = setting(hyper, name, weight, index)
    if value is None:
        raise KeyError(f"hyperparameter {name!r} has no value for {weight!r}: give {name!r} or '{name}.{weight}'")
    return value


def penalty(hyper: Tensors, name: str, weight: Tensor, index: int) -> Tensor | None:
    """The l2 strength r of the tensor called `name`, or None: without a key of its own only matrices have one."""
    if weight.dim() > 1 or f"l2.{name}" in hyper:
        return setting(hyper, "l2", name, index)
    return None


def scaled(weights: Tensors, hyper: Tensors) -> dict[str, Tensor]:
    """The initial weights times `initial_scale`, where it is given."""
    factors = {name: setting(hyper, "initial_scale", name, 0) for name in weights}
    return {name: w if (s := factors[name]) is None else s * w for name, w in weights.items()}


def gradient(loss: Loss, weights: Tensors, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
    """∇_w [loss(w, hyper, batch) + ½ Σ r·w²], by name.

    It has a graph exactly when grad mode is on and a weight or a hyperparameter requires grad.
    Cost: one gradient evaluation.
    """
    slopes = loss_gradient(loss, weights, hyper, batch)
    for name, w in weights.items():
        r = penalty(hyper, name, w, batch.index)
        if r is not None:
            slopes[name] = torch.addcmul(slopes[name], r, w)
    return slopes


def loss_gradient(loss: Loss, weights: Tensors, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
    """∇_w loss(w, hyper, batch) alone, as `gradient` without the penalty; 0 for weights that the loss does not use.

    Raises ValueError naming the step if it uses none.
    """
    if transformed(*weights.values(), *hyper.values(), batch.inputs, batch.targets):
        return dict(torch.func.grad(lambda w: loss(w, hyper, batch))(dict(weights)))
    record = torch.is_grad_enabled() and _requires_grad(weights, hyper)
    with torch.enable_grad():
        points = {n: w if record and w.requires_grad else w.detach().requires_grad_() for n, w in weights.items()}
        value = loss(points, hyper, batch)
        if not value.requires_grad:
            raise ValueError(f"step {batch.index}: the loss depends on no weight in a way that can be differentiated")
        slopes = torch.autograd.grad(value, list(points.values()), create_graph=record, materialize_grads=True)
    return dict(zip(points, slopes, strict=True))


def _requires_grad(*groups: Tensors) -> bool:
    return any(x.requires_grad for group in groups for x in group.values())


def run(solver: Solver[S], state: S, hyper: Tensors, batches: Batches, start: int, stop: int) -> S:
    """Steps start … stop−1 without a graph."""
    with torch.no_grad():
        for t in range(start, stop):
            state = solver.step(state, hyper, batches(t))
    return state
