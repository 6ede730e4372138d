"""The smallest width of a list that fits the training rows, by the study's own recipe at its default values."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path

import torch

from hpo.diagnosis.part import LeftOut
from hpo.diagnosis.run import Run, default
from hpo.diagnostics.descent_path import BLOCK
from hpo.diagnostics.findings import Fit, Widths
from hpo.diagnostics.floors import groups, repeats
from hpo.problems.problem import Problem
from hpo.spec import Arm, Perceptron, Study
from solvers.vectors import Tensors, finite

CHECKS = 20
"""How often a training is looked at."""
LEFT = 0.01
"""A regression is fitted when this share of the targets' variance is left, beyond what no training can go below."""


def first_that_fits(study: Study, arm: Arm, data_dir: Path | None, widths: Sequence[int]) -> Widths:
    """Train with all hidden layers of each width, the smallest first, until every row that can be fitted is.

    Raises LeftOut without widths, and for a model that is no perceptron of the study file with hidden layers.
    """
    model = study.problem.model
    if not widths:
        raise LeftOut("no widths were given: --widths 50,100,200 trains a network of each until one fits")
    if not isinstance(model, Perceptron) or not model.mlp:
        raise LeftOut("only a perceptron of the study file with hidden layers can be made wider")
    problem, order, tried = default(study, arm, data_dir).problem, sorted(set(widths)), list[Fit]()
    floor = repeats(groups(problem.train.inputs), problem.train.targets)
    goal = LEFT + floor.loss if floor.error is None else floor.error
    for width in order:
        wide = Perceptron(mlp=(width,) * len(model.mlp), activation=model.activation)
        changed = study.model_copy(update={"problem": study.problem.model_copy(update={"model": wide})})
        tried.append(_fit(default(changed, arm, data_dir), width, goal))
        if tried[-1].step is not None:
            break
    return Widths(tuple(tried), tuple(order[len(tried) :]), goal, floor.error is None)


def _fit(run: Run, width: int, goal: float) -> Fit:
    steps, error = run.training.steps, inf
    for step, state in run.walk({round(steps * (k + 1) / CHECKS) for k in range(CHECKS)}):
        if not finite(state.weights):
            return Fit(width, None, inf)
        error = _error(run.problem, run.read(state))
        if error <= goal + 1e-9:  # what rounding makes of a share
            return Fit(width, step, error)
    return Fit(width, None, error)


def _error(problem: Problem, weights: Tensors) -> float:
    """The share of wrong training rows, or the mean squared error."""
    train, total = problem.train, 0.0
    with torch.no_grad():
        for inputs, targets in zip(train.inputs.split(BLOCK), train.targets.split(BLOCK), strict=True):
            outputs = problem.network.forward(weights, inputs)
            wrong = outputs.argmax(dim=1) != targets if problem.classes else (outputs - targets).square().mean(dim=1)
            total += float(wrong.double().sum())
    return total / len(train.targets)
