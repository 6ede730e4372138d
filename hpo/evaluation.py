"""From a proposal to an outcome: build the problem, train, measure, and pull the derivative back if one is wanted.

This is the room where torch enters; workers import it, the commands do not.
"""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo import options
from hpo.failures import BadStudy
from hpo.hypergradients import HYPERGRADIENTS
from hpo.hypergradients.training import Hypergradient, Training, method
from hpo.problems.problem import Problem, build
from hpo.registry import STRATEGIES
from hpo.registry import resolve as find
from hpo.space import Space, resolve
from hpo.spec import Arm, Study
from hpo.task import Plan, Task
from hpo.trial import Array, Cost, Outcome, Values
from solvers import SOLVERS
from solvers.solver import Batch, Solver, State, run
from solvers.vectors import Tensors, finite

CURVE_POINTS = 10
CURVE_ROWS = 1000
"""A learning curve has this many points, measured on at most this many rows of each part."""


def plan(study: Study, arm: Arm, data_dir: Path | None) -> Plan:
    """Check everything a name in the study file can mean for this arm, without training.

    Raises BadStudy or BadData naming the key: unknown options, hyperparameters or grains; data that is not there.
    """
    problem = _problem(study, arm.seed, data_dir)
    solver = _solver(arm, problem)
    space = resolve(study.space, solver.hyperparameters, problem.network.layout, study.training.steps, arm.method.per)
    derivative, settings = _derivative(arm)
    charge = float(study.training.steps)
    if derivative is not None:
        charge += derivative.evaluations(_training(study, problem, solver))
    rows = tuple(len(part.targets) for part in (problem.train, problem.validation, problem.test))
    count = sum(w.numel() for w in problem.weights.values())
    return Plan(space, charge, settings, (rows[0], rows[1], rows[2]), count)


def evaluate(task: Task) -> Outcome:
    """Train with the proposed values and measure. A failure of any kind is an outcome too, never an exception.

    A training broken off by an error is charged in full: how far it came is not known, and a budget must end.
    """
    started = time.perf_counter()
    torch.set_num_threads(task.study.resources.threads)
    try:
        return _evaluated(task, started)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _failed(reason, Cost(1, task.plan.evaluations, time.perf_counter() - started))


def _evaluated(task: Task, started: float) -> Outcome:
    problem = _problem(task.study, task.arm.seed, task.data_dir)
    solver = _solver(task.arm, problem)
    training = _training(task.study, problem, solver)
    derivative = _derivative(task.arm)[0] if task.proposal.derivative else None
    hyper = place(task.plan.space, task.proposal.values, next(iter(problem.weights.values())))

    keep = derivative.keeps(training.steps) if derivative else ()
    final, states, curve, steps = _trained(training, problem, hyper, set(keep))
    with torch.no_grad():
        validation_loss, _ = _measured(problem, final.weights, problem.validation)
        test_loss, test_accuracy = _measured(problem, final.weights, problem.test)
    spent = float(steps)
    if not np.isfinite(validation_loss):
        reason = f"diverged: the validation loss is not finite after {steps} of {training.steps} steps"
        return _failed(reason, Cost(1, spent, time.perf_counter() - started), curve)

    gradient, failure = None, None
    if derivative is not None:
        gradient = gather(task.plan.space, derivative.pull_back(training, hyper, states))
        spent += derivative.evaluations(training)
        if not all(np.isfinite(g).all() for g in gradient.values()):
            gradient, failure = None, f"the {task.proposal.derivative} hypergradient is not finite"
    weights = None
    if validation_loss < task.incumbent:
        weights = {name: w.detach().cpu().numpy() for name, w in final.weights.items()}
    cost = Cost(1, spent, time.perf_counter() - started)
    return Outcome("complete", validation_loss, test_loss, test_accuracy, curve, cost, gradient, failure, weights)


def _trained(
    training: Training, problem: Problem, hyper: Tensors, keep: set[int]
) -> tuple[State, dict[int, State], Array, int]:
    """The final state, the states kept, the learning curve, and how many steps were run (fewer when it diverged)."""
    points = {round((i + 1) * training.steps / CURVE_POINTS) for i in range(CURVE_POINTS)}
    stops = sorted({0, training.steps} | points | keep)
    state = training.solver.init(problem.weights, hyper, training.batches(0))
    states, curve = {}, []
    for start, stop in pairwise(stops):
        if start in keep:
            states[start] = state
        state = run(training.solver, state, hyper, training.batches, start, stop)
        if stop in points:
            curve.append((stop, *_curve_point(problem, state.weights)))
            if not finite(state.weights):
                return state, states, np.array(curve), stop
    states[training.steps] = state
    return state, states, np.array(curve, dtype=np.float64), training.steps


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


def place(space: Space, values: Values, like: Tensor) -> dict[str, Tensor]:
    """Named vectors `[K]` → the solver's hyperparameters, with the type and device of `like`."""
    hyper = {}
    for group in space.groups:
        vector = torch.as_tensor(values[group.name]).to(like)
        for piece in group.pieces:
            hyper[piece.key] = vector[piece.start : piece.stop].reshape(piece.shape)
    return hyper


def gather(space: Space, gradient: Tensors) -> dict[str, Array]:
    """The transpose of `place`: derivatives of the solver's hyperparameters → one vector `[K]` per name, summed."""
    vectors = {}
    for group in space.groups:
        vector = np.zeros(group.size)
        for piece in group.pieces:
            vector[piece.start : piece.stop] += gradient[piece.key].detach().cpu().double().reshape(-1).numpy()
        vectors[group.name] = vector
    return vectors


def _failed(reason: str, cost: Cost, curve: Array | None = None) -> Outcome:
    nan = float("nan")
    return Outcome("failed", nan, nan, None, np.zeros((0, 3)) if curve is None else curve, cost, failure=reason)


def _training(study: Study, problem: Problem, solver: Solver[Any]) -> Training:
    return Training(
        solver, problem.network.forward, problem.criterion, problem.batches, study.training.steps, problem.train,
        problem.validation,
    )  # fmt: skip


def _solver(arm: Arm, problem: Problem) -> Solver[Any]:
    constructor = find(SOLVERS[arm.solver.name])
    return constructor(problem.loss, **options.checked(constructor, arm.solver.options, f"training.{arm.solver.name}"))


def _derivative(arm: Arm) -> tuple[Hypergradient | None, dict[str, Any]]:
    """The hypergradient method of an arm with the options that are its own (the others are the descent's)."""
    if arm.method.name not in HYPERGRADIENTS:
        return None, {}
    constructor = find(HYPERGRADIENTS[arm.method.name])
    outer = options.names(find(STRATEGIES["descent"])) - {"derivative"}
    mine = {name: value for name, value in arm.method.options.items() if name not in outer}
    key = f"methods.{arm.title}"
    given = options.checked(constructor, mine, key, also=outer)
    try:
        return method(arm.method.name, **given), given
    except ValueError as error:
        raise BadStudy(f"{key}: {error}") from error


def _problem(study: Study, seed: int, data_dir: Path | None) -> Problem:
    device = "cuda" if study.resources.gpus else "cpu"
    return _built(study.problem, study.training.batch_size, seed, data_dir, device)


@lru_cache(maxsize=4)
def _built(problem: Any, batch_size: int, seed: int, data_dir: Path | None, device: str) -> Problem:
    return build(problem, batch_size, seed, data_dir, device)
