"""What a trained network is worth: losses and accuracy, the learning curve on the way, and the outcome of a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpo.hypergradients.training import Derivative, Training
from hpo.placement import Placed, gather
from hpo.problems.problem import Problem
from hpo.recipe import Recipe
from hpo.space import Space
from hpo.task import CURVE_POINTS, CURVE_ROWS, Curve, Task
from hpo.trial import Array, Cost, Outcome, Values
from solvers.solver import Batch, State
from solvers.vectors import Tensors, flatten, subtract

Point = tuple[float, ...]
"""Of a learning curve: step, training loss and validation loss, each on at most `CURVE_ROWS` rows."""


class Trained(NamedTuple):
    """Where a training came to: its last state, its learning curve, the steps it took, whether it was stopped."""

    final: State
    curve: list[Point]
    steps: int
    pruned: bool = False


def points(steps: int) -> set[int]:
    """The steps at which the learning curve has a point, the last among them."""
    return even(steps, CURVE_POINTS)


def even(steps: int, count: int) -> set[int]:
    """So many steps of a training, the last among them."""
    return {round((i + 1) * steps / count) for i in range(count)} - {0}


def looked_at(problem: Problem) -> tuple[Batch, Batch]:
    """The rows of training and validation that a point of the curve is measured on."""
    return _few(problem.train), _few(problem.validation)


def _few(part: Batch) -> Batch:
    return Batch(-1, part.inputs[:CURVE_ROWS], part.targets[:CURVE_ROWS])


def point(step: int, problem: Problem, weights: Tensors) -> Point:
    """The point of the curve at these weights, read out."""
    with torch.no_grad():
        train, validation = (_measured(problem, weights, part)[0] for part in looked_at(problem))
    return step, train, validation


def pruned(task: Task, made: Recipe, curve: list[Point], rivals: Mapping[int, Curve]) -> bool:
    """Whether the training is not worth going on with, by its arm's pruner."""
    return made.pruner is not None and made.pruner.stops(task.proposal.number, losses(curve), rivals)


def losses(curve: list[Point]) -> Curve:
    """The validation losses of a learning curve."""
    return tuple(validation for _, _, validation in curve)


def _measured(problem: Problem, weights: Tensors, part: Batch) -> tuple[float, float | None]:
    """(loss without penalty, accuracy or None) on a part."""
    outputs = problem.network.forward(weights, part.inputs)
    loss = float(problem.criterion(outputs, part.targets))
    if problem.task != "classification":
        return loss, None
    return loss, float((outputs.argmax(dim=1) == part.targets).double().mean())


def as_array(curve: list[Point]) -> Array:
    """`[P, 3]`."""
    return np.array(curve, dtype=np.float64).reshape(-1, 3)


def outcome(
    task: Task,
    made: Recipe,
    training: Training,
    hyper: Tensors,
    trained: Trained,
    derive: Callable[[], Derivative] | None,
    clock: Callable[[], float],
) -> Outcome:
    """What became of a trial that was trained, its derivative taken if there is one to take.

    `training` and `hyper` are those the derivative is taken of; `clock()`: the seconds that the trial took so far.
    """
    problem, space, steps = made.problem, task.plan.space, trained.steps
    each, curve = training.evaluations(1) * made.share, as_array(trained.curve)
    if trained.pruned:
        reason = f"pruned after {steps} of {training.steps} steps"
        nan, loss = float("nan"), trained.curve[-1][2]
        return Outcome("pruned", loss, nan, None, curve, Cost(1, steps * each, clock()), failure=reason)
    with torch.no_grad():
        read = training.solver.readout(trained.final.weights)
        validation_loss, _ = _measured(problem, read, problem.validation)
        test_loss, test_accuracy = _measured(problem, read, problem.test)
    extra = 0.0
    if derive is not None and made.derivative is not None:
        extra = made.derivative.charge(training, problem.weights, hyper).gradient_evaluations * made.share
    if not np.isfinite(validation_loss):
        reason = f"diverged: the validation loss is not finite after {steps} of {training.steps} steps"
        spent = steps * each
        spent += extra * steps / training.steps if made.alongside else 0  # the others would only begin now
        return failed(reason, Cost(1, spent, clock()), curve)

    gradient, ends, failure, report = None, None, None, _report(training, problem, trained.final, hyper)
    if derive is not None:
        found = derive()
        report |= found.report
        gradient = _by_name(training, space, found.gradient)
        if found.exact is not None:
            report |= agreement(space, task.proposal.values, gradient, _by_name(training, space, found.exact))
        ends = None if found.hyper is None else _by_name(training, space, found.hyper)
        if report.get("recovered") == 0:
            gradient, failure = None, "the way back did not end at the first state: gradients differ when repeated"
        elif not all(np.isfinite(g).all() for g in gradient.values()):
            gradient, failure = None, f"the {task.proposal.derivative} hypergradient is not finite"
            if "exploded" in report:
                failure += f": it overflowed at step {report['exploded']:g} of {training.steps}"
    weights = None
    if validation_loss < task.incumbent:
        everything = {**problem.network.constants, **read}
        weights = {name: w.detach().cpu().numpy() for name, w in everything.items()}
    cost = Cost(1, training.steps * each + extra, clock())
    measured = (validation_loss, test_loss, test_accuracy)
    return Outcome("complete", *measured, curve, cost, gradient, ends, failure, weights, report)


def agreement(space: Space, values: Values, found: Values, exact: Values) -> dict[str, float]:
    """The cosine of two hypergradients for each hyperparameter, over the coordinates that a descent walks on.

    cosine of h = Σ gₕ·eₕ / (‖gₕ‖ ‖eₕ‖), of ∂/∂ ln λ on a logarithmic scale: 1 is the same direction, 0 tells nothing,
    below 0 a step down g goes up. Left out where one of the two is zero or not finite.
    """
    told, ends = {}, np.cumsum([g.size for g in space.groups])[:-1]
    with np.errstate(all="ignore"):  # what overflows is left out below
        pairs = [np.split(space.slopes(values, some), ends) for some in (found, exact)]
        for group, g, e in zip(space.groups, *pairs, strict=True):
            cosine = float(g @ e / (np.linalg.norm(g) * np.linalg.norm(e)))
            if np.isfinite(cosine):
                told[f"cosine of {group.name}"] = cosine
    return told


def failed(reason: str, cost: Cost, curve: Array | None = None) -> Outcome:
    """The outcome of a trial without a loss."""
    nan = float("nan")
    return Outcome("failed", nan, nan, None, np.zeros((0, 3)) if curve is None else curve, cost, failure=reason)


def _report(training: Training, problem: Problem, final: State, hyper: Tensors) -> dict[str, float]:
    """How far the weights went, and what the solver says of its last state."""
    with torch.no_grad():
        first = training.solver.init(problem.weights, hyper, training.batches(0))
        far = torch.linalg.vector_norm(flatten(subtract(final.weights, first.weights)))
        logs = training.solver.logs(final, hyper, training.batches(training.steps - 1))
        share = far / torch.linalg.vector_norm(flatten(first.weights))
    return {"movement": float(share), **{name: float(figure) for name, figure in logs.items()}}


def _by_name(training: Training, space: Space, found: Mapping[str, Tensor]) -> dict[str, Array]:
    """One vector `[K]` per name of the space."""
    return training.solver.named(found) if isinstance(training.solver, Placed) else gather(space, found)
