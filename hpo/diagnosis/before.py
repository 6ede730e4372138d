"""Before the training: how far apart the rows are, what their targets force, the tangent kernel of the initial network.

A function of the study's problem and of a seed; no solver has a part in it.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

from torch import Tensor

from hpo.diagnosis.part import WORK, LeftOut, affordable, outputs, part
from hpo.diagnostics.findings import BeforeTraining, Finding, Kernel, Repeats, Separation, Theory
from hpo.diagnostics.floors import firsts, groups, repeats
from hpo.diagnostics.separation import closest
from hpo.diagnostics.tangent_kernel import ends, gram
from hpo.diagnostics.theory import log10_width
from hpo.problems.problem import Problem
from hpo.problems.sources import load
from hpo.problems.split import rows
from hpo.recipe import recipe
from hpo.spec import Arm, Study

SEPARATED = 20_000
"""Rows that are compared with one another."""
KERNEL_SIDE = 2000
"""Rows × outputs of the tangent kernel at most: its full decomposition then takes seconds."""


def before_training(study: Study, arm: Arm, data_dir: Path | None) -> BeforeTraining:
    """What the training rows and the initial weights of an arm's seed say. Raises what `hpo.recipe.recipe` raises."""
    problem = recipe(study, arm, data_dir).problem
    inputs, places = problem.train.inputs, _places(study, arm, data_dir)
    repeated = part(lambda: _repeats(problem, places))
    distinct = firsts(groups(inputs))
    separation = part(lambda: _separation(problem, distinct, places))
    theory = part(lambda: _theory(problem, len(distinct), separation))
    kernel = part(lambda: _kernel(problem, inputs[distinct]))
    return BeforeTraining(
        study.problem.data, len(inputs), inputs[0].numel(), outputs(problem), repeated, separation, theory, kernel
    )


def _places(study: Study, arm: Arm, data_dir: Path | None) -> list[int]:
    """The number of each training row among the rows of the data set."""
    data = load(study.problem.data, data_dir, study.problem.task)
    total = len(data.rows.targets)
    return rows(data.name, total, study.problem.split, data.test is not None, arm.seed).train.tolist()


def _repeats(problem: Problem, places: list[int]) -> Repeats:
    found = repeats(groups(problem.train.inputs), problem.train.targets)
    if found.example is None:
        return found
    first, second = found.example
    return replace(found, example=(places[first], places[second]))


def _separation(problem: Problem, distinct: Tensor, places: list[int]) -> Separation:
    found = closest(problem.train.inputs[distinct[:SEPARATED]])
    first, second = (int(distinct[row]) for row in (found.first, found.second))
    targets = _target(problem, first), _target(problem, second)
    return Separation(found, len(distinct), (places[first], places[second]), targets)


def _target(problem: Problem, row: int) -> str:
    target = problem.train.targets[row]
    return problem.classes[int(target)] if problem.classes else ", ".join(f"{y:.4g}" for y in target.tolist())


def _theory(problem: Problem, distinct: int, separation: Finding[Separation]) -> Theory:
    chain = problem.network.chain
    hidden = [stage.dense for stage in chain[:-1] if stage.dense] if chain else []
    if chain is None or not hidden or len(hidden) + 1 < len(chain):
        raise LeftOut("the theorem is about fully connected networks with a hidden layer")
    if separation.found is None:
        raise LeftOut("it needs the separation of the rows")
    width = min(len(problem.weights[stage.weight]) for stage in hidden)
    padded = separation.found.closest.padded
    asked = log10_width(distinct, len(hidden), outputs(problem), padded)
    return Theory(asked, distinct, len(hidden), outputs(problem), padded, width)


def _kernel(problem: Problem, distinct: Tensor) -> Kernel:
    weights, per_row = problem.weights, outputs(problem)
    count = sum(w.numel() for w in weights.values())
    side = min(KERNEL_SIDE, sqrt(WORK / (2 * count)))  # of a product [side, count] · [count, side]
    inputs = distinct[: max(1, min(int(side / per_row), affordable(problem, 6 * per_row)))]
    kernel = gram(problem.network.forward, weights, inputs)
    smallest, largest, resolution = ends(kernel, inputs.dtype)
    return Kernel(smallest, largest, resolution, len(inputs), len(distinct), per_row, count)
