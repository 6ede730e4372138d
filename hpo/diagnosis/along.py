"""Along the training of one arm at the default values: gradients against losses, distances, flips, stability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hpo.diagnosis.part import LeftOut, affordable, part
from hpo.diagnosis.run import Run, default
from hpo.diagnosis.width import first_that_fits
from hpo.diagnostics import descent_path
from hpo.diagnostics.findings import AlongTraining, Descent, Finding, Flips, Stability
from hpo.hypergradients.curvature import gauss_newton
from hpo.spec import Arm, Study
from solvers.solver import Batch
from solvers.vectors import Tensors, finite, flatten

POINTS = 16
"""How often a training is looked at: at T·(k/15)², as most happens early."""
LOOKED, SIDES = 5000, 1000
"""Rows on which the loss and its slopes are measured, and those on which units are seen to change sides."""


def along_training(study: Study, arm: Arm, data_dir: Path | None, widths: Sequence[int] = ()) -> AlongTraining:
    """What an arm's solver does at the default values; `widths`: those tried for one that fits the training rows.

    Cost: one training, the looks at it, and a training for each width until one fits.
    Raises what `hpo.evaluation.plan` raises.
    """
    run = default(study, arm, data_dir)
    followed = part(lambda: _followed(run))
    return AlongTraining(
        Finding(followed.found and followed.found.descent, followed.seconds, followed.reason),
        part(lambda: _flips(run, _moved(followed))),
        part(lambda: _stability(run, _moved(followed))),
        part(lambda: first_that_fits(study, arm, data_dir, widths)),
    )


class _Followed(NamedTuple):
    """The descent, the states (of whatever type the solver's are) before and after the first step, and the last one."""

    descent: Descent
    start: Any
    first: Any
    last: Any
    steps: int


def _moved(followed: Finding[_Followed]) -> _Followed:
    if followed.found is None or not followed.found.steps:
        raise LeftOut("the training did not come beyond its first step")
    return followed.found


def _followed(run: Run) -> _Followed:
    train, steps = run.problem.train, run.training.steps
    count = min(LOOKED, affordable(run.problem, 4 * POINTS))
    objective = descent_path.Objective(
        run.problem.network.forward, run.problem.criterion, train.inputs[:count], train.targets[:count]
    )
    looked = {round(steps * (k / (POINTS - 1)) ** 2) for k in range(POINTS)}
    kept: dict[str, Any] = {}
    reached, diverged = 0, None

    def usable() -> Iterator[tuple[int, Tensors]]:
        nonlocal reached, diverged
        for step, state in run.walk(looked | {min(step + 1, steps) for step in looked}):
            if not finite(state.weights):
                diverged = step
                return
            kept["last"], reached = state, step
            if step < 2:
                kept["start" if step == 0 else "first"] = state
            yield step, run.read(state)

    points = tuple(descent_path.follow(usable(), looked, objective))
    start, last = kept["start"], kept["last"]
    descent = Descent(
        points,
        descent_path.log_slope(points),
        descent_path.stall(points),
        descent_path.movement(start.weights, last.weights),
        len(objective.inputs),
        len(train.inputs),
        steps,
        diverged,
    )
    return _Followed(descent, start, kept.get("first"), last, reached)


def _flips(run: Run, followed: _Followed) -> tuple[Flips, ...]:
    chain = run.problem.network.chain
    if chain is None:
        raise LeftOut("the model is not known to be a chain of layers: a perceptron, or a plain nn.Sequential")
    inputs = run.problem.train.inputs[: min(SIDES, affordable(run.problem, 4))]
    return descent_path.flips(chain, run.read(followed.start), run.read(followed.last), inputs)


def _stability(run: Run, followed: _Followed) -> Stability:
    train, solver = run.problem.train, run.training.solver
    count = min(LOOKED, len(train.targets), affordable(run.problem, 8 * descent_path.ITERATIONS))
    rows = Batch(-1, train.inputs[:count], train.targets[:count])
    found: list[float] = []
    momentum: Tensor | float = 0.0
    for state, index in ((followed.first, 0), (followed.last, followed.steps - 1)):
        ball = solver.heavy_ball(state, run.hyper, index)
        if ball is None or ball.drag is not None:
            raise LeftOut("a step of this solver is not a rate times a gradient")
        product, momentum = gauss_newton(run.training, run.read(state), rows), ball.momentum
        found.append(descent_path.steepest(product, flatten(ball.rate)))
    return Stability(found[0], found[1], 2 * (1 + float(momentum)), count, len(train.targets))
