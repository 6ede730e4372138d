"""dlADMM on MNIST (Wang, Yu, Chen, Zhao, KDD 2019), beside the full-batch methods of the paper.

    python studies/papers/dladmm/reproduce.py curves        # at the root of the project, with HPO_DATA set

    curves          784-200-200-10 on the first 5,000 rows: test accuracy, how far the weights moved, how often L fell
    grid            exact blocks over ν = ρ and l2, 40 sweeps
    times           processor time of a sweep against rows and against width
    large           the paper's own setting, 784-1000-1000-10 on 55,000 rows, as many sweeps as asked for (--steps)
    derivatives     what DrMAD makes of per-neuron strengths, beside the exact hypergradient, and what that leaves out

Weights and biases are N(0, 0.1²) as there; `he` in a name means this project's initial weights instead. The paper's
z_L starts at ±1: an exact z_L forgets its start. dlADMM takes ν = ρ throughout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.hypergradients.training import Training, hypergradient, train
from hpo.problems.network import Network, perceptron
from hpo.problems.sources import load
from solvers.adadelta import Adadelta
from solvers.adagrad import Adagrad
from solvers.adam import Adam
from solvers.chain import Chain
from solvers.dladmm import DLADMM
from solvers.lagrangian import DLADMMState, slope
from solvers.sgd import SGD
from solvers.solver import Batch, Solver
from solvers.sweep import Block
from solvers.vectors import Tensors, flatten

BLOCKS: tuple[Block, ...] = ("exact", "line-search", "paper")
SHOWN = (1, 5, 20, 60, 100, 200)


class Method(NamedTuple):
    """A row of the table: `block` and ν = ρ, or a solver of gradients; steps of seed 0 and of the others."""

    name: str
    block: Block | None = None
    rho: float = 0.0
    steps: tuple[int, int] = (200, 60)
    he: bool = False
    l2: float | None = None


def gradients(weights: Tensors, network: Network) -> dict[str, tuple[Solver[Any], dict[str, float]]]:
    """The paper's baselines on the summed loss; SGD's rate, 1e-6 for 55,000 rows, is for 5,000 here."""

    def loss(w: Tensors, hyper: Tensors, batch: Batch) -> Tensor:
        return F.cross_entropy(network.forward(w, batch.inputs), batch.targets, reduction="sum")

    return {
        "SGD": (SGD(loss), {"learning_rate": 1.1e-5}),
        "Adadelta": (Adadelta(loss), {"learning_rate": 0.1, "decay": 0.95}),
        "Adagrad": (Adagrad(loss), {"learning_rate": 1e-3}),
        "Adam": (Adam(loss), {"learning_rate": 1e-3}),
    }


METHODS = (
    Method("exact, 1e-6", "exact", 1e-6),
    Method("exact, 1e-6, he", "exact", 1e-6, (20, 20), he=True),
    Method("exact, 0.1", "exact", 0.1),
    Method("exact, 0.1, he", "exact", 0.1, (20, 20), he=True),
    Method("exact, 0.1, he, l2 1e-4", "exact", 0.1, (60, 60), he=True, l2=1e-4),
    Method("exact, 2", "exact", 2.0, (60, 20)),
    Method("line-search, 1e-6", "line-search", 1e-6),
    Method("line-search, 0.1", "line-search", 0.1, (60, 60)),
    Method("line-search, 2", "line-search", 2.0, (60, 20)),
    Method("paper, 1e-6 (×10 after 100)", "paper", 1e-6),
    Method("paper, 2", "paper", 2.0, (60, 20)),
    Method("SGD", steps=(200, 200)),
    Method("Adadelta", steps=(200, 200)),
    Method("Adagrad", steps=(200, 200)),
    Method("Adam", steps=(200, 200)),
)


def parts(rows: int) -> tuple[Batch, Batch]:
    """The first rows of the training file and all of the test file, pixels between 0 and 1."""
    found = load("mnist", Path(os.environ["HPO_DATA"]) if "HPO_DATA" in os.environ else None)
    prepare = found.prepare(found.rows.inputs)
    assert found.test is not None
    train, test = (
        Batch(0, torch.from_numpy(prepare(p.inputs)[:n]).flatten(1), torch.from_numpy(p.targets[:n]).long())
        for p, n in ((found.rows, rows), (found.test, None))
    )
    return train, test


def started(width: int, seed: int, he: bool) -> tuple[Network, dict[str, Tensor]]:
    """The network with two hidden layers, and its initial weights."""
    network, weights = perceptron((784,), (width, width), 10, "relu", seed)
    if he:
        return network, weights
    generator = torch.Generator().manual_seed(seed)
    return network, {n: 0.1 * torch.randn(w.shape, generator=generator) for n, w in weights.items()}


def chain(network: Network) -> Chain:
    assert network.chain is not None
    return network.chain


def accuracy(network: Network, weights: Tensors, part: Batch) -> float:
    return (network.forward(weights, part.inputs).argmax(dim=1) == part.targets).double().mean().item()


def solver_of(method: Method, network: Network, weights: Tensors, steps: int) -> tuple[Solver[Any], dict[str, Tensor]]:
    if method.block is None:
        solver, values = gradients(weights, network)[method.name]
        return solver, {name: torch.tensor(value) for name, value in values.items()}
    rho = torch.full((steps,), method.rho)
    if "×10" in method.name:
        rho[100:] *= 10
    hyper = {"nu[t]": rho, "rho[t]": rho}
    if method.l2 is not None:
        hyper["l2"] = torch.tensor(method.l2)
    return DLADMM(chain(network), F.cross_entropy, block=method.block), hyper


class Run(NamedTuple):
    """Test accuracies by step, the last training accuracy, ‖W − W₀‖/‖W₀‖ by step, seconds a step, rises of L, and
    the largest |u + ∇R|.
    """

    test: dict[int, float]
    train: float
    movement: dict[int, list[float]]
    seconds: float
    rises: int
    multiplier: float


def trained(method: Method, seed: int, steps: int, train: Batch, test: Batch, width: int, loud: bool = False) -> Run:
    network, first = started(width, seed, method.he)
    solver, hyper = solver_of(method, network, first, steps)
    state = solver.init(first, hyper, train)
    found, movement, seconds, rises, multiplier, last = {}, {}, 0.0, 0, 0.0, float("inf")
    for t in range(steps):
        begun = process_time()
        state = solver.step(state, hyper, train._replace(index=t))
        seconds += process_time() - begun
        figures = solver.logs(state, hyper, train._replace(index=t))
        if figures:
            value = figures["lagrangian"].item()
            rises, last = rises + (value > last), value
            multiplier = max(multiplier, figures["multiplier"].item())
        if t + 1 in SHOWN or (loud and (t + 1) % 5 == 0):
            found[t + 1] = accuracy(network, state.weights, test)
            movement[t + 1] = [
                (torch.dist(state.weights[n], w) / w.norm()).item() for n, w in first.items() if n.endswith("weight")
            ]
            if loud:
                shown = " ".join(f"{m:.1e}" for m in movement[t + 1])
                print(f"{t + 1:>4} test {found[t + 1]:.4f}  moved {shown}  {seconds / (t + 1):.1f} s", flush=True)
    return Run(found, accuracy(network, state.weights, train), movement, seconds / steps, rises, multiplier)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def curves(only: Iterable[str]) -> None:
    """Means over three seeds; in brackets seed 0 alone."""
    train, test = parts(5000)
    row("method, ν = ρ", *SHOWN, "train", "moved W1 W2 W3 by step 20", "L rose", "max u + ∇R", "s a step")
    row(*["---"] * (len(SHOWN) + 6))
    for method in METHODS:
        if only and not any(method.name.startswith(name) for name in only):
            continue
        runs = [trained(method, seed, method.steps[seed > 0], train, test, 200) for seed in range(3)]
        cells = []
        for t in SHOWN:
            values = [run.test[t] for run in runs if t in run.test]
            mean = f"{sum(values) / len(values):.3f}" if values else ""
            cells.append(f"({mean})" if len(values) == 1 else mean)
        moved = " ".join(f"{sum(m) / 3:.1g}" for m in zip(*(run.movement[20] for run in runs), strict=True))
        steps = sum(method.steps[seed > 0] for seed in range(3))
        rose = f"{sum(run.rises for run in runs)} of {steps}" if method.block else ""
        gap = f"{max(run.multiplier for run in runs):.0e}" if method.block else ""
        row(method.name, *cells, f"{runs[0].train:.3f}", moved, rose, gap, f"{runs[0].seconds:.2f}")


def grid() -> None:
    """Seed 0, He's initial weights, accuracies by sweep."""
    train, test = parts(5000)
    shown = (1, 5, 10, 20, 40)
    row("ν = ρ", "l2", *shown)
    row(*["---"] * (len(shown) + 2))
    for rho, r in [(rho, r) for rho in (1e-3, 1e-2, 0.1, 1.0) for r in (1e-5, 1e-4, 1e-3, 1e-2)]:
        network, weights = started(200, 0, he=True)
        hyper = {"nu": torch.tensor(rho), "rho": torch.tensor(rho), "l2": torch.tensor(r)}
        solver = DLADMM(chain(network), F.cross_entropy)
        state, cells = solver.init(weights, hyper, train), []
        for t in range(shown[-1]):
            state = solver.step(state, hyper, train._replace(index=t))
            if t + 1 in shown:
                cells.append(f"{accuracy(network, state.weights, test):.3f}")
        row(rho, r, *cells)


def times() -> None:
    """Medians of three sweeps."""
    whole, _ = parts(20000)
    row("rows", "width", "exact", "line-search", "paper")
    row(*["---"] * 5)
    sizes = [(n, 200) for n in (1000, 2000, 5000, 10000, 20000)] + [(5000, w) for w in (100, 200, 300, 400, 500, 1000)]
    for rows, width in sizes:
        train = Batch(0, whole.inputs[:rows], whole.targets[:rows])
        cells = []
        for block in BLOCKS:
            network, weights = started(width, 0, he=True)
            solver = DLADMM(chain(network), F.cross_entropy, block=block)
            state = solver.step(solver.init(weights, {}, train), {}, train)
            taken = []
            for _ in range(3):
                begun = process_time()
                solver.step(state, {}, train)
                taken.append(process_time() - begun)
            cells.append(f"{sorted(taken)[1]:.3f}")
        row(rows, width, *cells)


def large(rows: int, width: int, steps: int, block: Block) -> None:
    train, test = parts(rows)
    trained(Method(block, block, 1e-6), 0, steps, train, test, width, loud=True)


class Rebuilt(DLADMM):
    """Along DrMAD's line only the weights are interpolated: a and z by a forward pass, u = −∇R(z_L)."""

    def between(
        self, first: DLADMMState, last: DLADMMState, share: float, steps: int, hyper: Tensors, batch: Batch
    ) -> DLADMMState:
        weights = {n: torch.lerp(w, last.weights[n], share) for n, w in first.weights.items()}
        state = self.init(weights, {}, batch)
        return state._replace(u=-slope(self.layers, self.output, state, batch))


def derivatives() -> None:
    """784-50-50-10 on 1,000 rows: one strength for each unit, ν and ρ; validation on 2,000 others, float64.

    `quotients`: V's difference quotient over ±h in the logarithms of the strengths along the exact gradient, over that
    gradient, for h = 1e-4, 0.01, 0.1 and 1: what the jumps between do.
    """
    whole, _ = parts(3000)
    first, second = (Batch(0, whole.inputs[a:b].double(), whole.targets[a:b]) for a, b in ((0, 1000), (1000, 3000)))
    network, weights = perceptron((784,), (50, 50), 10, "relu", seed=0)
    weights = {n: w.double() for n, w in weights.items()}
    row("ν = ρ", "sweeps", "method", "l2: cosine", "right signs", "size", "dV/dρ", "dV/dν", "quotients")
    row(*["---"] * 9)
    for rho, steps in [(rho, steps) for rho in (1e-3, 0.1, 1.0) for steps in (5, 20)]:
        start = {name: torch.tensor(rho, dtype=torch.float64) for name in ("nu", "rho")}
        start |= {f"l2.{n}": torch.full((1, w.shape[1]), 1e-3).double() for n, w in weights.items() if w.dim() > 1}

        def training(solver: DLADMM, steps: int = steps) -> Training:
            return Training(solver, network.forward, F.cross_entropy, partial(at, first), steps, first, second)

        def strengths(found: Tensors, start: Tensors = start) -> Tensors:
            """The derivatives with respect to log r."""
            return {n: x * start[n] for n, x in found.items() if n.startswith("l2")}

        plain, rebuilt = DLADMM(chain(network), F.cross_entropy), Rebuilt(chain(network), F.cross_entropy)
        exact = hypergradient("exact", training(plain), weights, start).gradient
        slopes = flatten(strengths(exact))
        quotients = []
        for h in (1e-4, 1e-2, 0.1, 1.0):
            moves = {n: h * x / slopes.norm() for n, x in strengths(exact).items()}
            ends = [{**start, **{n: start[n] * (sign * x).exp() for n, x in moves.items()}} for sign in (1, -1)]
            high, low = (training(plain).validation_loss(train(training(plain), weights, e).weights) for e in ends)
            quotients.append(f"{((high - low) / (2 * h * slopes.norm())).item():.3f}")
        row(rho, steps, "exact", "", "", "", f"{exact['rho']:.2g}", f"{exact['nu']:.2g}", " ".join(quotients))
        for name, solver in (("drmad", plain), ("drmad, rebuilt", rebuilt)):
            found = hypergradient("drmad", training(solver), weights, start).gradient
            theirs = flatten(strengths(found))
            same = (slopes.sign() == theirs.sign())[slopes.abs() > 1e-6 * slopes.abs().max()].double().mean()
            cosine, size = F.cosine_similarity(slopes, theirs, dim=0), theirs.norm() / slopes.norm()
            numbers = f"{cosine:.2f}", f"{same:.2f}", f"{size:.2g}", f"{found['rho']:.2g}", f"{found['nu']:.2g}"
            row(rho, steps, name, *numbers, "")


def at(batch: Batch, index: int) -> Batch:
    return batch._replace(index=index)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["curves", "grid", "times", "large", "derivatives"])
    parser.add_argument("--only", nargs="*", default=[], help="curves: rows whose names begin so")
    parser.add_argument("--rows", type=int, default=55000)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--block", default="paper", choices=BLOCKS)
    given = parser.parse_args()
    if given.part == "derivatives":
        derivatives()
        return
    with torch.no_grad():
        if given.part == "curves":
            curves(given.only)
        elif given.part == "grid":
            grid()
        elif given.part == "times":
            times()
        else:
            large(given.rows, given.width, given.steps, given.block)


if __name__ == "__main__":
    main()
