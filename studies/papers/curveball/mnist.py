"""Training curves on MNIST: CurveBall beside SGD with momentum and Adam, at equal epochs and at equal time.

    python studies/papers/curveball/mnist.py          # at the root of the project, with HPO_DATA set

The paper's perceptron, 784-128-64-32-10 tanh, in minibatches of 64, on 10,000 training rows instead of 60,000. Time is
processor time of the steps alone, of one thread. Seeds draw split, initial weights and minibatches.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hpo import spec
from hpo.problems.problem import Problem, build
from solvers.adam import Adam
from solvers.curveball import CurveBall
from solvers.sgd import SGD
from solvers.solver import Batch, Solver
from solvers.vectors import Tensors

SEEDS, EPOCHS, BATCH = 3, 10, 64
LONGER = 25
"""Epochs of the methods with cheaper steps, so that they have CurveBall's time, too."""

SETTINGS: list[tuple[str, dict[str, float]]] = [
    *(("CurveBall", {"damping": x}) for x in (0.1, 1.0, 10.0)),
    *(("SGD", {"learning_rate": x, "momentum": 0.9}) for x in (0.01, 0.03, 0.1, 0.3)),
    *(("Adam", {"learning_rate": x}) for x in (3e-4, 1e-3, 3e-3, 1e-2)),
]


class Point(NamedTuple):
    """After an epoch: seconds of its steps and those before, loss on training and validation rows, share of errors."""

    seconds: float
    train: float
    validation: float
    error: float


def problem(seed: int) -> Problem:
    given = spec.Problem(
        data="mnist",
        split=spec.Split(train=10000, validation=5000),
        model=spec.Perceptron(mlp=(128, 64, 32), activation="tanh"),
    )
    return build(given, BATCH, seed, Path(os.environ["HPO_DATA"]))


def solver(name: str, problem: Problem) -> Solver[Any]:
    if name == "CurveBall":
        return CurveBall(problem.network.forward, problem.criterion, problem.network.chain)
    return {"SGD": SGD, "Adam": Adam}[name](problem.loss)


def looked_at(problem: Problem, weights: Tensors, seconds: float) -> Point:
    def loss(part: Batch) -> float:
        return problem.criterion(problem.network.forward(weights, part.inputs), part.targets).item()

    wrong = problem.network.forward(weights, problem.test.inputs).argmax(dim=1) != problem.test.targets
    return Point(seconds, loss(problem.train), loss(problem.validation), wrong.float().mean().item())


def curve(name: str, values: dict[str, float], problem: Problem) -> list[Point]:
    """A point for each epoch."""
    made, hyper = solver(name, problem), {key: torch.tensor(x) for key, x in values.items()}
    state = made.init(problem.weights, hyper, problem.batches(0))
    steps, seconds, found = len(problem.train.targets) // BATCH, 0.0, list[Point]()
    with torch.no_grad():
        for epoch in range(EPOCHS if name == "CurveBall" else LONGER):
            begun = time.thread_time()
            for t in range(epoch * steps, (epoch + 1) * steps):
                state = made.step(state, hyper, problem.batches(t))
            seconds += time.thread_time() - begun
            found.append(looked_at(problem, state.weights, seconds))
    return found


def at(points: list[Point], seconds: float) -> Point:
    """The last epoch that ended by then."""
    return [p for p in points if p.seconds <= seconds][-1]


def said(points: list[Point]) -> str:
    train, wrong = [p.train for p in points], [100 * p.error for p in points]
    return f"{statistics.fmean(train):.3f} ± {statistics.stdev(train):.3f}, {statistics.fmean(wrong):.1f} %"


def main() -> None:
    torch.set_num_threads(1)
    problems = [problem(seed) for seed in range(SEEDS)]
    curves = [(name, values, [curve(name, values, p) for p in problems]) for name, values in SETTINGS]
    limit = [max(each[i][-1].seconds for name, _, each in curves if name == "CurveBall") for i in range(SEEDS)]
    longest = statistics.fmean(limit)
    print(f"training loss, test error of {SEEDS} seeds; the time is {longest:.1f} s, CurveBall's longest\n")
    print("| method | epoch 1 | epoch 5 | epoch 10 | validation loss | at that time | ms a step |")
    print("|---|---|---|---|---|---|---|")
    for name, values, each in curves:
        title = f"{name}, " + ", ".join(f"{key} {x:g}" for key, x in values.items())
        cells = [said([points[epoch - 1] for points in each]) for epoch in (1, 5, 10)]
        validation = f"{statistics.fmean(points[EPOCHS - 1].validation for points in each):.3f}"
        same = said([at(points, most) for points, most in zip(each, limit, strict=True)])
        steps = len(each[0]) * (10000 // BATCH)
        cost = 1e3 * statistics.fmean(points[-1].seconds for points in each) / steps
        print(f"| {title} | {' | '.join(cells)} | {validation} | {same} | {cost:.2f} |", flush=True)


if __name__ == "__main__":
    main()
