"""From a proposal to an outcome: train, measure, and pull the derivative back if one is wanted.

This is the room where torch enters; workers import it, the commands do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo import arithmetic, interruption
from hpo.failures import BadStorage, BadStudy
from hpo.hypergradients.training import Training, conclude, walk
from hpo.placement import Placed, place
from hpo.recipe import Recipe, recipe
from hpo.saving import STOPS, Past, Saving
from hpo.scoring import Trained, even, failed, outcome, point, points, pruned
from hpo.space import Space, resolve
from hpo.spec import Arm, Study
from hpo.storage.desk import Desk, TakenOver
from hpo.task import InputRow, OutOfMemory, Plan, Task
from hpo.trial import Cost, Outcome, Values
from solvers.solver import State
from solvers.vectors import finite


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
        training, hyper = searched(made, space, space.defaults())
        try:
            extra, memory = made.derivative.charge(training, problem.weights, hyper)
        except ValueError as error:
            raise BadStudy(f"methods.{arm.title}: {error}") from error
        charge += extra
    rows = (len(problem.train.targets), len(problem.validation.targets), len(problem.test.targets))
    count = sum(w.numel() for w in problem.weights.values())
    settings = {**made.settings, "fixed": made.fixed, "training_steps": training.steps}
    row = InputRow(tuple(problem.train.inputs.shape[1:]), problem.columns)
    return Plan(space, charge * made.share, memory, settings, rows, count, row, problem.task == "classification")


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
    it is interrupted or a card has no room for it. Raises KeyboardInterrupt, OutOfMemory, TakenOver when another run
    has the trial, and BadStorage when where it was saved cannot be read.
    """
    started = time.perf_counter()
    saving = Saving(desk, task.study.resources.checkpoint)
    try:
        made = recipe(task.study, task.arm, task.data_dir)
        if task.alone:
            arithmetic.limit(task.study.resources, alone=True)
        started = time.perf_counter()  # data sets are loaded once a worker: no arm's cost
        return _evaluated(task, made, saving, started)
    except (TakenOver, BadStorage):
        raise  # nothing is known about the training
    except KeyboardInterrupt:
        save_interrupted(saving)
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        if interruption.asked():
            save_interrupted(saving)
            raise KeyboardInterrupt from error
        exhausted = arithmetic.short(error)
        if exhausted is None:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return failed(reason, Cost(1, task.plan.evaluations, time.perf_counter() - started))
    save_interrupted(saving)
    arithmetic.release()  # not before: the error held all that its frames had on the card
    raise OutOfMemory(exhausted)


def save_interrupted(saving: Saving) -> None:
    """Of an interrupted training: a second interruption must not undo it, and one that is another run's stays so."""
    with interruption.deferred(), suppress(TakenOver):
        saving.now()


def _evaluated(task: Task, made: Recipe, saving: Saving, started: float) -> Outcome:
    problem = made.problem
    derivative = made.derivative if task.proposal.derivative else None
    training, hyper = searched(made, task.plan.space, task.proposal.values)
    past = saving.past(problem.train.inputs)
    started -= past.seconds
    begun = problem.weights, hyper, stops(training.steps), past.kept
    following = None if derivative is None else derivative.follow(training, *begun)
    walked = following or walk(training, *begun)
    trained = _trained(walked, task, made, training, past, saving, started)
    saving.trained()
    derive = None if following is None else partial(conclude, following)
    return outcome(task, made, training, hyper, trained, derive, lambda: time.perf_counter() - started)


def searched(made: Recipe, space: Space, values: Values) -> tuple[Training, dict[str, Tensor]]:
    """The training, and the hyperparameters that a derivative is taken of: the vectors of the space if they move."""
    some_weight = next(iter(made.problem.weights.values()))
    if not made.alongside:
        return made.training, place(space, values, made.fixed, some_weight)
    placed = Placed(made.training.solver, space, made.fixed)
    return made.training._replace(solver=placed), placed.vectors(values, some_weight)


def stops(steps: int) -> set[int]:
    """Where a training halts: to be saved, and to be looked at."""
    return even(steps, STOPS) | points(steps)


def _trained(
    following: Iterator[tuple[int, State]],
    task: Task,
    made: Recipe,
    training: Training,
    past: Past,
    saving: Saving,
    started: float,
) -> Trained:
    """The training, to its end or as far as it is worth it: until it diverges, or is pruned."""
    due, curve = points(training.steps), past.curve
    step, state = next(following)
    while step < training.steps:
        step, state = next(following)
        if step in due:
            curve.append(point(step, made.problem, training.solver.readout(state.weights)))
            if not finite(state.weights):
                break
            if pruned(task, made, curve, task.rivals):
                return Trained(state, curve, step, pruned=True)
        saving.note(past.kept, curve, time.perf_counter() - started)
    return Trained(state, curve, step)
