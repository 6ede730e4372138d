"""From the names in a study file to the things they mean: one arm's problem, solver and derivative.

Every fault a name can have is found here, before anything is trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo import arithmetic, options, spec
from hpo.dimension import Dimension, searched
from hpo.failures import BadStudy
from hpo.hypergradients import HYPERGRADIENTS
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.agreement import Agreement
from hpo.hypergradients.training import Hypergradient, Training, method
from hpo.problems.minibatches import Minibatches
from hpo.problems.problem import Problem, build
from hpo.pruning.pruners import Pruner, pruner_for
from hpo.registry import AGREEING, ALONGSIDE, DECIDERS, STRATEGIES, TOLD, resolve
from hpo.spec import Arm, Study
from hpo.strategies import limits
from hpo.task import CURVE_POINTS
from solvers import SOLVERS
from solvers.ranges import Range
from solvers.solver import Batch, Batches, Solver
from solvers.vectors import Tensors


class Recipe(NamedTuple):
    """What an arm trains with. `fixed`: hyperparameters that are not searched; `settings`: of derivative and pruner.

    `searched`: what of the study's space this solver has. `share`: rows of this training's batches over rows of the
    study's. `alongside`: the derivative's method works while the training runs, on the vectors of the space. `pruner`:
    what may stop a training at a point of its learning curve.
    """

    problem: Problem
    training: Training
    searched: Mapping[str, Dimension]
    fixed: Mapping[str, float]
    derivative: Hypergradient | None
    settings: Mapping[str, Any]
    share: float
    alongside: bool
    pruner: Pruner | None


def recipe(study: Study, arm: Arm, data_dir: Path | None) -> Recipe:
    """Everything of an arm but its values. Raises BadStudy or BadData naming the key."""
    arithmetic.settle(study)
    problem = _in_precision(study, arm, _problem(study, arm.seed, data_dir))
    solver, dimensions, fixed = _solver(study, arm, problem)
    batches = _batches(arm, solver, problem)
    share = len(batches(0).targets) / len(problem.batches(0).targets)
    training = Training(
        solver,
        problem.network.forward,
        problem.criterion,
        batches,
        arm.solver.steps or _steps(study.training.steps, solver, share),
        problem.train,
        problem.validation,
        held=tuple(fixed),
    )
    derivative, settings = _derivative(arm)
    pruner = pruner_for(arm, min(training.steps, CURVE_POINTS))
    if pruner is not None:
        settings["pruner"] = dict(pruner.settings)
    alongside = arm.method.name in ALONGSIDE
    return Recipe(problem, training, dimensions, fixed, derivative, settings, share, alongside, pruner)


def _batches(arm: Arm, solver: Solver[Any], problem: Problem) -> Batches:
    """The study's minibatches, or the solver's own."""
    size = arm.solver.batch_size
    if solver.whole:
        if size is not None:
            raise BadStudy(f"training.{arm.solver.title}.batch_size: every step takes all rows: leave it out")
        size = len(problem.train.targets)
    if size is None:
        return problem.batches
    return Minibatches(problem.train.inputs, problem.train.targets, size, arm.seed)


def _steps(steps: int, solver: Solver[Any], share: float) -> int:
    """The study's steps; of steps that take all rows, as many as cost the same."""
    return max(1, round(steps / (solver.evaluations * share))) if solver.whole else steps


def _solver(study: Study, arm: Arm, problem: Problem) -> tuple[Solver[Any], dict[str, Dimension], dict[str, float]]:
    """The solver, what it searches, and the hyperparameters the study fixes or leaves to its default."""
    constructor, key = resolve(SOLVERS[arm.solver.name]), f"training.{arm.solver.title}"
    declared: Mapping[str, Range] = constructor.hyperparameters
    given = arm.solver.options
    held = {name: value for name, value in given.items() if name in declared}
    rest = {name: value for name, value in given.items() if name not in declared}
    settings = options.checked(constructor, rest, key, also=[*declared, "steps", "batch_size", "label"])
    try:
        solver = constructor(*_bound(constructor, key, problem), **settings)
    except ValueError as error:
        raise BadStudy(f"{key}: {error}") from error
    idle = sorted(set(held) - set(solver.hyperparameters))
    if idle:
        raise BadStudy(f"{key}: {idle[0]} has nothing to do with these options: leave it out")
    declared = solver.hyperparameters
    others = {n for choice in study.training.solver for n in resolve(SOLVERS[choice.name]).hyperparameters}
    dimensions = searched(study.space, declared, others, held, arm.solver.title)
    fixed = {name: r.default for name, r in declared.items() if r.required}
    fixed |= {name: _number(f"{key}.{name}", value, declared[name]) for name, value in held.items()}
    for name in sorted(set(held) & set(dimensions)):
        raise BadStudy(f"{key}.{name}: {name} is searched (space.{name}) and fixed: leave one of the two out")
    return solver, dimensions, {name: value for name, value in fixed.items() if name not in dimensions}


def _bound(constructor: Callable[..., Any], key: str, problem: Problem) -> list[Any]:
    """What a solver's constructor asks for by the names of its positional parameters."""
    offers = {
        "loss": problem.loss,
        "forward": problem.network.forward,
        "criterion": problem.criterion,
        "chain": problem.network.chain,
        "train": problem.train,
    }
    parameters = inspect.signature(constructor).parameters.values()
    wanted = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if any(p.name == "chain" and p.default is p.empty for p in wanted) and problem.network.chain is None:
        raise BadStudy(
            f"{key}: trains a network layer by layer: the model must be {{mlp: [widths]}} or an nn.Sequential"
        )
    return [offers[p.name] for p in wanted]


def _number(key: str, value: object, declared: Range) -> float:
    least, most = declared.limits
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if not least <= number <= most:
        raise BadStudy(f"{key}: {value!r} must be a number between {least:g} and {most:g}")
    return number


def _derivative(arm: Arm) -> tuple[Hypergradient | None, dict[str, Any]]:
    """The hypergradient method of an arm with the options that are its own (the others are its strategy's)."""
    if arm.method.name not in HYPERGRADIENTS:
        return None, {}
    constructor, key = resolve(HYPERGRADIENTS[arm.method.name]), f"methods.{arm.title}"
    outer = options.names(resolve(STRATEGIES[DECIDERS[arm.method.name]])) - TOLD
    mine = {name: value for name, value in arm.method.options.items() if name not in outer}
    own = {"agreement"} if arm.method.name in AGREEING else set()
    agreement = limits.switch(f"{key}.agreement", mine.pop("agreement", False)) if own else False
    given = options.checked(constructor, mine, key, also={*outer, *own})
    try:
        made = method(arm.method.name, **given)
    except ValueError as error:
        raise BadStudy(f"{key}: {error}") from error
    if not agreement:
        return made, given
    assert isinstance(made, Afterwards)  # as all AGREEING are
    return Agreement(made), {**given, "agreement": True}


def _problem(study: Study, seed: int, data_dir: Path | None) -> Problem:
    if study.resources.gpus and not torch.cuda.is_available():
        raise BadStudy(f"resources.gpus {study.resources.gpus:g}: no usable CUDA device here; set gpus: 0")
    return _built(study.problem, study.training.batch_size, seed, data_dir, study.resources.on)


def _in_precision(study: Study, arm: Arm, problem: Problem) -> Problem:
    """With the loss that is trained in the study's precision; what is measured stays in float32."""
    if study.training.precision != "bf16":
        return problem
    if "chain" in inspect.signature(resolve(SOLVERS[arm.solver.name])).parameters:
        raise BadStudy(
            f"training.precision: bf16: {arm.solver.title} does more with a layer than multiply: take float32, or "
            "sgd, adam, adagrad or adadelta"
        )
    forward = arithmetic.lowered(problem.network.forward, study.resources.on)

    def loss(weights: Tensors, hyper: Tensors, batch: Batch) -> Tensor:
        del hyper
        return problem.criterion(forward(weights, batch.inputs), batch.targets)

    return problem._replace(loss=loss)


@lru_cache(maxsize=4)
def _built(problem: spec.Problem, batch_size: int, seed: int, data_dir: Path | None, device: str) -> Problem:
    return build(problem, batch_size, seed, data_dir, device)
