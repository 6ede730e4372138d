"""Rosenbrock's function and a linear network: iterations to a loss below 1e-4, as in the paper's first table.

    python studies/papers/curveball/small.py               # or the names of some methods: LBFGS Adam

Rosenbrock as least squares: the squared sum of (10 ε (x₂ − x₁²), 1 − x₁), ε = 1, or drawn from U[0, s] anew at each
iteration; from (−¼, −¼) + (u − ½)/2, the same u for both. The network: y = A x with A = diag(1 … 1e-5) U, U `[10, 6]`
uniform, 1,000 rows x ~ N(0, I), 6-10-10 without biases, W₁ ~ N(0, ⅛²), W₂ ~ N(0, 0.1²), all rows in every iteration.
Its loss, a mean over rows of a squared sum, depends on the rows by XᵀX/N alone: six rows with that product take their
place.
100 starts each, no more than 5,000 iterations; all starts and all settings of a method run side by side.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.adam import Adam
from solvers.curveball import CurveBall
from solvers.sgd import SGD
from solvers.solver import Batch, Solver
from solvers.vectors import Tensors

REPEATS, MOST, SOLVED = 100, 5000, 1e-4
LEARNING_RATES = (0.1, 0.05, 0.01, 0.005, 0.001, 5e-4, 1e-4, 5e-5)
DTYPE = torch.float64


class Problem(NamedTuple):
    """`weights`: starts by name, `[R, …]`; `rows(generator)`: this iteration's (inputs, targets), `[R, …]`."""

    name: str
    forward: Callable[[Tensors, Tensor], Tensor]
    weights: Tensors
    rows: Callable[[torch.Generator], tuple[Tensor, Tensor]]


def rosenbrock(name: str, noise: float | None) -> Problem:
    """mse_loss is a mean over two residuals, hence √2."""
    start = torch.rand(REPEATS, 1, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    targets = torch.zeros(REPEATS, 1, 2, dtype=DTYPE)

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        x = weights["x"]
        return math.sqrt(2) * torch.stack([10 * inputs[0] * (x[1] - x[0] ** 2), 1 - x[0]])[None]

    def rows(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(REPEATS, 1, generator=generator, dtype=DTYPE)
        return torch.ones_like(drawn) if noise is None else noise * drawn, targets

    return Problem(name, forward, {"x": (-0.25 + (start - 0.5) / 2).repeat(1, 2)}, rows)


def linear_network() -> Problem:
    """mse_loss is a mean over rows and outputs: 6 rows of 1,000 and 10 outputs, hence √60."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(REPEATS, *shape, generator=generator, dtype=DTYPE)

    x = normal(1000, 6)
    scale = torch.linspace(1, 1e-5, 10, dtype=DTYPE)[:, None]
    true = scale * torch.rand(REPEATS, 10, 6, generator=generator, dtype=DTYPE)
    inputs = torch.linalg.cholesky(x.mT @ x / 1000).mT * math.sqrt(60)
    targets = inputs @ true.mT
    weights = {"first": normal(10, 6) / 8, "second": normal(10, 10) / 10}
    return Problem("linear", lambda w, x: x @ w["first"].T @ w["second"].T, weights, lambda _: (inputs, targets))


PROBLEMS = [rosenbrock("Rosenbrock", None), rosenbrock("U[0, 1]", 1.0), rosenbrock("U[0, 3]", 3.0), linear_network()]


def iterations(problem: Problem, solver: Solver[Any], settings: list[dict[str, float]]) -> Tensor:
    """The first iteration with a loss below 1e-4, `[settings, repeats]`; beyond `MOST` where there is none."""
    count = len(settings)
    hyper = {n: torch.tensor([s[n] for s in settings], dtype=DTYPE) for n in settings[0]}
    states = torch.vmap(
        lambda h: torch.vmap(lambda w: solver.init(w, h, Batch(0, torch.empty(0), torch.empty(0))))(problem.weights)
    )(hyper)
    solved = torch.full((count, REPEATS), MOST + 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for t in range(MOST):
            rows = problem.rows(generator)

            def iteration(state: Any, hyper: Tensors, inputs: Tensor, targets: Tensor, t: int = t) -> Any:
                loss = F.mse_loss(problem.forward(state.weights, inputs), targets)
                return loss, solver.step(state, hyper, Batch(t, inputs, targets))

            loss, states = torch.vmap(torch.vmap(iteration, (0, None, 0, 0)), (0, 0, None, None))(states, hyper, *rows)
            solved = torch.where((loss < SOLVED) & (solved > MOST), t + 1, solved)
            if (solved <= MOST).all():
                break
    return solved


def lbfgs(problem: Problem) -> Tensor:
    """torch.optim.LBFGS with its strong-Wolfe line search, one iteration a call, `[1, repeats]`; 500 at most."""
    generator = torch.Generator().manual_seed(1)
    rows: list[tuple[Tensor, Tensor]] = []
    solved = torch.full((1, REPEATS), MOST + 1)
    for i in range(REPEATS):
        weights = {n: w[i].clone().requires_grad_() for n, w in problem.weights.items()}
        optimiser = torch.optim.LBFGS(
            weights.values(), max_iter=1, max_eval=100, tolerance_grad=0, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip
        for t in range(500):
            while len(rows) <= t:
                rows.append(problem.rows(generator))
            inputs, targets = (x[i] for x in rows[t])

            closure = partial(evaluated, problem, optimiser, weights, inputs, targets)
            if optimiser.step(closure) < SOLVED:  # the loss before the iteration
                solved[0, i] = t + 1
                break
    return solved


def evaluated(
    problem: Problem, optimiser: torch.optim.Optimizer, weights: Tensors, inputs: Tensor, targets: Tensor
) -> float:
    optimiser.zero_grad()
    loss = F.mse_loss(problem.forward(weights, inputs), targets)
    loss.backward()
    return loss.item()


def settings(**values: tuple[float, ...]) -> list[dict[str, float]]:
    return [dict(zip(values, cell, strict=True)) for cell in product(*values.values())]


def methods(problem: Problem) -> Iterator[tuple[str, list[dict[str, float]], Callable[[], Tensor]]]:
    """(Title, its settings, how to run them all)."""

    def loss(weights: Tensors, hyper: Tensors, batch: Batch) -> Tensor:
        return F.mse_loss(problem.forward(weights, batch.inputs), batch.targets)

    grids: list[tuple[str, Solver[Any], list[dict[str, float]]]] = [
        (
            "CurveBall",
            CurveBall(problem.forward, F.mse_loss, adapt=False),
            settings(damping=(0.0, 0.01, 0.1, 1.0, 10.0), learning_rate=(0.5, 1.0)),
        ),
        ("SGD", SGD(loss), settings(learning_rate=LEARNING_RATES, momentum=(0.9, 0.95, 0.99))),
        ("Adam", Adam(loss), settings(learning_rate=LEARNING_RATES, beta1=(0.9, 0.99), beta2=(0.99, 0.999))),
    ]
    for title, solver, cells in grids:
        yield title, cells, lambda solver=solver, cells=cells: iterations(problem, solver, cells)
    yield "LBFGS", [{}], lambda: lbfgs(problem)


def row(cell: dict[str, float], found: Tensor) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in cell.items())
    lost = int((found > MOST).sum())
    kept = found[found <= MOST].double()
    figure = f"{kept.mean():.1f} ± {kept.std():.1f}" if len(kept) > 1 else "–"
    return f"{figure}{f' ({lost} unsolved)' if lost else ''} | {said}"


def main() -> None:
    torch.set_num_threads(1)
    for problem in PROBLEMS:
        for title, cells, run in methods(problem):
            if len(sys.argv) > 1 and title not in sys.argv[1:]:
                continue
            started = time.perf_counter()
            found = run()
            seconds = time.perf_counter() - started
            best = int(found.double().mean(dim=1).argmin())
            chosen = row(cells[best], found[best])
            print(f"| {problem.name} | {title} | {chosen}, best of {len(cells)} | {seconds:.0f} s |", flush=True)
            if title == "CurveBall":
                for cell, each in zip(cells, found, strict=True):
                    print(f"| {problem.name} | {title} | {row(cell, each)} | |", flush=True)


if __name__ == "__main__":
    main()
