"""From a proposal to an outcome: train, measure, and pull the derivative back if one is wanted.

This is the room where torch enters; workers import it, the commands do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo import interruption
from hpo.failures import BadStorage, BadStudy
from hpo.hypergradients.training import Training, conclude, walk
from hpo.placement import Placed, gather, place
from hpo.problems.problem import Problem
from hpo.recipe import Recipe, recipe
from hpo.saving import STOPS, Past, Saving
from hpo.space import Space, resolve
from hpo.spec import Arm, Study
from hpo.storage.desk import Desk, TakenOver
from hpo.task import CURVE_POINTS, CURVE_ROWS, Plan, Task
from hpo.trial import Array, Cost, Outcome, Values
from solvers.solver import Batch, State
from solvers.vectors import Tensors, finite, flatten, subtract


def plan(study: Study, arm: Arm, data_dir: Path | None) -> Plan:
    """Check everything a name in the study file can mean for this arm, without training.

    Raises BadStudy or BadData naming the key: unknown options, hyperparameters or grains; data that is not there.
    """
    made = recipe(study, arm, data_dir)
    problem, training = made.problem, made.training
    declared = training.solver.hyperparameters
    space = resolve(made.searched, declared, problem.network.layout, training.steps, arm.method.per)
    _begun(made, space, f"training.{arm.solver.title}")
    charge, memory = training.evaluations(training.steps), 0
    if made.derivative is not None:
        training, hyper = _searched(made, space, space.defaults())
        try:
            extra, memory = made.derivative.charge(training, problem.weights, hyper)
        except ValueError as error:
            raise BadStudy(f"methods.{arm.title}: {error}") from error
        charge += extra
    rows = (len(problem.train.targets), len(problem.validation.targets), len(problem.test.targets))
    count = sum(w.numel() for w in problem.weights.values())
    settings = {**made.settings, "fixed": made.fixed, "training_steps": training.steps}
    return Plan(space, charge * made.share, memory, settings, rows, count)


def _begun(made: Recipe, space: Space, key: str) -> None:
    """The first state at the defaults and at the highest values: what a solver refuses is known before it is run."""
    for values in (space.defaults(), {g.name: np.full(g.size, g.high) for g in space.groups}):
        hyper = place(space, values, made.fixed, next(iter(made.problem.weights.values())))
        try:
            with torch.no_grad():
                made.training.solver.init(made.problem.weights, hyper, made.training.batches(0))
        except ValueError as error:
            raise BadStudy(f"{key}: {error}") from error


def evaluate(task: Task, desk: Desk | None = None) -> Outcome:
    """Train with the proposed values and measure. A failure of any kind is an outcome too, never an exception.

    A training broken off by an error is charged in full: how far it came is not known, and a budget must end.
    With a desk the training goes on where it was saved, is saved as `resources.checkpoint` says, and once more when
    it is interrupted. Raises KeyboardInterrupt, TakenOver when another run has the trial, and BadStorage when where it
    was saved cannot be read.
    """
    torch.set_num_threads(task.study.resources.threads)
    started = time.perf_counter()
    saving = Saving(desk, task.study.resources.checkpoint)
    try:
        made = recipe(task.study, task.arm, task.data_dir)
        started = time.perf_counter()  # data sets are loaded once a worker: no arm's cost
        return _evaluated(task, made, saving, started)
    except (TakenOver, BadStorage):
        raise  # nothing is known about the training
    except KeyboardInterrupt:
        _saved(saving)
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        if interruption.asked():
            _saved(saving)
            raise KeyboardInterrupt from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _failed(reason, Cost(1, task.plan.evaluations, time.perf_counter() - started))


def _saved(saving: Saving) -> None:
    """Of an interrupted training: a second interruption must not undo it, and one that is another run's stays so."""
    with interruption.deferred(), suppress(TakenOver):
        saving.now()


def _evaluated(task: Task, made: Recipe, saving: Saving, started: float) -> Outcome:
    problem, space = made.problem, task.plan.space
    derivative = made.derivative if task.proposal.derivative else None
    training, hyper = _searched(made, space, task.proposal.values)
    past = saving.past(problem.train.inputs)
    started -= past.seconds
    stops = _even(training.steps, STOPS) | _even(training.steps, CURVE_POINTS)
    begun = problem.weights, hyper, stops, past.kept
    following = None if derivative is None else derivative.follow(training, *begun)
    walked = following or walk(training, *begun)
    final, curve, steps = _trained(walked, problem, training, past, saving, started)
    saving.trained()
    with torch.no_grad():
        read = training.solver.readout(final.weights)
        validation_loss, _ = _measured(problem, read, problem.validation)
        test_loss, test_accuracy = _measured(problem, read, problem.test)
    extra = 0.0 if derivative is None else derivative.charge(training, problem.weights, hyper).gradient_evaluations
    extra *= made.share
    each = training.evaluations(1) * made.share
    if not np.isfinite(validation_loss):
        reason = f"diverged: the validation loss is not finite after {steps} of {training.steps} steps"
        spent = steps * each
        spent += extra * steps / training.steps if made.alongside else 0  # the others would only begin now
        return _failed(reason, Cost(1, spent, time.perf_counter() - started), curve)

    gradient, ends, failure, report = None, None, None, _report(training, problem, final, hyper)
    if derivative is not None and following is not None:
        found = conclude(following)
        report |= found.report
        gradient = _by_name(training, space, found.gradient)
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
    cost = Cost(1, training.steps * each + extra, time.perf_counter() - started)
    measured = (validation_loss, test_loss, test_accuracy)
    return Outcome("complete", *measured, curve, cost, gradient, ends, failure, weights, report)


def _report(training: Training, problem: Problem, final: State, hyper: Tensors) -> dict[str, float]:
    """How far the weights went, and what the solver says of its last state."""
    with torch.no_grad():
        first = training.solver.init(problem.weights, hyper, training.batches(0))
        far = torch.linalg.vector_norm(flatten(subtract(final.weights, first.weights)))
        logs = training.solver.logs(final, hyper, training.batches(training.steps - 1))
        share = far / torch.linalg.vector_norm(flatten(first.weights))
    return {"movement": float(share), **{name: float(figure) for name, figure in logs.items()}}


def _searched(made: Recipe, space: Space, values: Values) -> tuple[Training, dict[str, Tensor]]:
    """The training, and the hyperparameters that a derivative is taken of: the vectors of the space if they move."""
    some_weight = next(iter(made.problem.weights.values()))
    if not made.alongside:
        return made.training, place(space, values, made.fixed, some_weight)
    placed = Placed(made.training.solver, space, made.fixed)
    return made.training._replace(solver=placed), placed.vectors(values, some_weight)


def _by_name(training: Training, space: Space, found: Tensors) -> dict[str, Array]:
    """One vector `[K]` per name of the space."""
    return training.solver.named(found) if isinstance(training.solver, Placed) else gather(space, found)


def _even(steps: int, count: int) -> set[int]:
    """So many steps of a training, the last among them."""
    return {round((i + 1) * steps / count) for i in range(count)} - {0}


def _trained(
    following: Iterator[tuple[int, State]],
    problem: Problem,
    training: Training,
    past: Past,
    saving: Saving,
    started: float,
) -> tuple[State, Array, int]:
    """The final state, the learning curve, and how many steps were run (fewer when it diverged)."""
    points, curve = _even(training.steps, CURVE_POINTS), past.curve
    step, state = next(following)
    while step < training.steps:
        step, state = next(following)
        if step in points:
            curve.append((step, *_curve_point(problem, training.solver.readout(state.weights))))
            if not finite(state.weights):
                break
        saving.note(past.kept, curve, time.perf_counter() - started)
    return state, np.array(curve, dtype=np.float64).reshape(-1, 3), step


def _curve_point(problem: Problem, weights: Tensors) -> tuple[float, float]:
    with torch.no_grad():
        parts = [
            Batch(-1, part.inputs[:CURVE_ROWS], part.targets[:CURVE_ROWS])
            for part in (problem.train, problem.validation)
        ]
        return _measured(problem, weights, parts[0])[0], _measured(problem, weights, parts[1])[0]


def _measured(problem: Problem, weights: Tensors, part: Batch) -> tuple[float, float | None]:
    """(loss without penalty, accuracy or None) on a part."""
    outputs = problem.network.forward(weights, part.inputs)
    loss = float(problem.criterion(outputs, part.targets))
    if problem.task != "classification":
        return loss, None
    return loss, float((outputs.argmax(dim=1) == part.targets).double().mean())


def _failed(reason: str, cost: Cost, curve: Array | None = None) -> Outcome:
    nan = float("nan")
    return Outcome("failed", nan, nan, None, np.zeros((0, 3)) if curve is None else curve, cost, failure=reason)
