"""How long a gradient evaluation takes on this machine: a few steps of the real training. Nothing of them is kept."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hpo.failures import BadStudy
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.training import Training, state_bytes
from hpo.placement import place
from hpo.problems.imported import said
from hpo.problems.problem import Problem
from hpo.recipe import recipe
from hpo.spec import Arm, Study
from hpo.stack import Replica, kind, stacked
from hpo.task import CURVE_POINTS, CURVE_ROWS, Plan, Probe
from solvers.solver import Batch, State, run
from solvers.vectors import Tensors

log = logging.getLogger(__name__)

WARM_UP = 5
STEPS = 20
SEEN = 200
PATIENCE = 0.25
"""Seconds after which no further step is begun, in the warm-up and again in what is timed."""


def probe(study: Study, arm: Arm, plan: Plan, data_dir: Path | None) -> Probe:
    """The median time of a few steps of an arm's training at the default values, after a few that are not timed.

    Raises BadStudy where a step fails, besides what `hpo.evaluation.plan` raises.
    """
    made = recipe(study, arm, data_dir)
    problem, training = made.problem, made.training
    hyper = place(plan.space, plan.space.defaults(), made.fixed, next(iter(problem.weights.values())))
    try:
        state = training.solver.init(problem.weights, hyper, training.batches(0))
        state, _ = _timed(training, state, hyper, WARM_UP)
        _, seconds = _timed(training, state, hyper, STEPS)
        seconds /= training.evaluations(1) * made.share
        state_size = state_bytes(training, problem.weights, hyper)
        measuring = _looking(problem, training.steps)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise BadStudy(f"training: a step of {arm.title} fails: {said(error)}") from error
    return Probe(seconds, _held(problem) + state_size, measuring)


WIDTHS = (8, 16, 32, 64)
"""Numbers of replicas that are tried."""

WORTH = 0.95
"""A wider stack is taken if its steps cost a replica less than this share of the narrower's."""


def widths(study: Study, arm: Arm, plan: Plan, data_dir: Path | None, most: int) -> dict[int, float]:
    """Seconds of a step for each of so many replicas in a stack, by their number; 1: a training alone.

    Up to `most` replicas, and no further than it gets better. Nothing but 1 for what cannot be stacked: a step that
    looks at values, a hypergradient that works alongside the training. Cost: some 0.3 s a width, for tracing.
    """
    made = recipe(study, arm, data_dir)
    hyper = place(plan.space, plan.space.defaults(), made.fixed, next(iter(made.problem.weights.values())))
    replica = Replica(made, hyper)
    found = {1: _seconds(made.training, made.problem.weights, hyper)}
    if made.derivative is not None and not isinstance(made.derivative, Afterwards):
        return found
    for width in sorted({min(most, width) for width in WIDTHS} - {0, 1}):
        try:
            seconds = _seconds(*stacked(kind(study, arm, replica), [replica] * width)) / width
        except Exception as error:  # whatever a user's module does under vmap
            log.debug("%s is not stacked: %s", arm.title, said(error))
            break
        if seconds > WORTH * min(found.values()) and len(found) > 1:
            break
        found[width] = seconds
    return found


def _seconds(training: Training, weights: Tensors, hyper: Tensors) -> float:
    state = training.solver.init(weights, hyper, training.batches(0))
    state, _ = _timed(training, state, hyper, WARM_UP)
    return _timed(training, state, hyper, STEPS)[1]


def _timed(training: Training, state: State, hyper: Tensors, most: int) -> tuple[Any, float]:
    """(The state after at most so many steps, the median of the seconds of a step)."""

    def batches(t: int) -> Batch:
        return training.batches(t % training.steps)  # a schedule has no value beyond the last step

    seconds: list[float] = []
    while not seconds or (len(seconds) < most and sum(seconds) < PATIENCE):
        began, t = time.perf_counter(), len(seconds)
        state = run(training.solver, state, hyper, batches, t, t + 1)
        _wait()
        seconds.append(time.perf_counter() - began)
    return state, median(seconds)  # not the mean: one interruption lasts as long as many steps


def _looking(problem: Problem, steps: int) -> float:
    """Seconds for the outputs on all rows a trial looks at, from a few of them."""
    few = problem.validation.inputs[:SEEN]
    began = time.perf_counter()
    with torch.no_grad():
        problem.network.forward(problem.weights, few)
    _wait()
    each = (time.perf_counter() - began) / len(few)
    curve = sum(min(len(part.targets), CURVE_ROWS) for part in (problem.train, problem.validation))
    return each * (len(problem.validation.targets) + len(problem.test.targets) + min(steps, CURVE_POINTS) * curve)


def _wait() -> None:
    """Until a GPU, if there is one at work, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _held(problem: Problem) -> int:
    """Bytes of the three parts and of the initial weights."""
    parts = [x for part in (problem.train, problem.validation, problem.test) for x in (part.inputs, part.targets)]
    everything = [*parts, *problem.weights.values(), *problem.network.constants.values()]
    return sum(x.numel() * x.element_size() for x in everything)
