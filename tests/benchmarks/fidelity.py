"""How well an estimator agrees with the mean exact hypergradient over minibatch orders, and what it costs.

    make bench-fidelity                  every setting and estimator: the tables of studies/hypergradients/README.md
    python tests/benchmarks/fidelity.py --data mnist --rate stable

A setting is a data set and a learning rate, λ one l2 strength per neuron and rates per layer: 784-50-50-50-10 ReLU
(64-50-50-50-10 on digits), T = 2,000 steps of SGD with momentum 0.1 on batches of 100. The exact hypergradient of one
run is one draw: the order of its minibatches is chance. The reference is the mean over other orders than the one an
estimator sees; exact draws are kept in `build/fidelity`, so that a second run only measures the estimators.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo import spec
from hpo.hypergradients.training import Training, conclude, method
from hpo.problems.minibatches import Minibatches
from hpo.problems.problem import build
from solvers.sgd import SGD
from solvers.vectors import Tensors

STEPS, BATCH, ORDERS, SEEN = 2000, 100, 8, 4
L2, MOMENTUM = 1e-3, 0.1

ROWS = {"digits": (300, 600), "mnist": (5000, 5000), "fashion-mnist": (5000, 5000)}
RATES = {"digits": {"stable": 0.05, "edge": 0.2}, "mnist": {"stable": 0.05, "edge": 0.15}}
RATES["fashion-mnist"] = RATES["mnist"]

ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "the paper's chord, S = 200": ("drmad", {"knots": 2, "steps": 200}),
    "the same, stretched": ("drmad", {"knots": 2, "steps": 200, "stretched": True}),
    "truncated, 100 steps": ("truncated", {"steps": 100}),
    "implicit, CG 20": ("implicit", {}),
    "implicit, Neumann 60": ("implicit", {"inverse": "neumann", "iterations": 60}),
    "even 4 × 8 (Hessian)": ("drmad", {"knots": 5, "spacing": "time", "krylov": 8, "curvature": "hessian"}),
    "even 4 × 8": ("drmad", {"knots": 5, "spacing": "time", "krylov": 8}),
    "even 3 × 12": ("drmad", {"spacing": "time"}),
    "arc 3 × 12": ("drmad", {"spacing": "arc"}),
    "loss 3 × 12": ("drmad", {"spacing": "loss"}),
    "late 2 × 16": ("drmad", {"knots": 3, "krylov": 16}),
    "late 3 × 12, 1,000 rows": ("drmad", {"rows": 1000}),
    "late 3 × 12 (default)": ("drmad", {}),
    "late 16 × 24 (Hessian), 1,000 rows": ("drmad", {"knots": 17, "krylov": 24, "curvature": "hessian", "rows": 1000}),
}


class Setting(NamedTuple):
    """A training but for the order of its minibatches."""

    data: str
    rate: str
    training: Training
    weights: Tensors
    hyper: Tensors

    def ordered(self, order: int) -> Training:
        """The training with minibatches in another order; order 0 is the one studies use."""
        whole = self.training.train
        return self.training._replace(batches=Minibatches(whole.inputs, whole.targets, BATCH, order))


class Slopes(NamedTuple):
    """A hypergradient: λ per neuron in logarithms `[K]`, and rates per layer in logarithms `[L]`."""

    l2: Tensor
    rate: Tensor


def setting(data: str, rate: str, folder: Path) -> Setting:
    """l2 per input unit of every matrix, a learning rate per layer."""
    train_rows, validation_rows = ROWS[data]
    problem = build(
        spec.Problem(
            data=data,
            split=spec.Split(train=train_rows, validation=validation_rows),
            model=spec.Perceptron(mlp=(50, 50, 50), activation="relu"),
        ),
        BATCH, 0, folder,
    )  # fmt: skip
    hyper = {"momentum": torch.tensor(MOMENTUM)}
    for name, w in problem.weights.items():
        hyper[f"learning_rate.{name}"] = torch.tensor(RATES[data][rate])
        if w.dim() > 1:
            hyper[f"l2.{name}"] = torch.full((1, w.shape[1]), L2)
    training = Training(
        SGD(problem.loss), problem.network.forward, problem.criterion, problem.batches, STEPS, problem.train,
        problem.validation,
    )  # fmt: skip
    return Setting(data, rate, training, problem.weights, hyper)


def slopes(gradient: Tensors, hyper: Tensors) -> Slopes:
    """The derivative in the coordinates of a descent: value times slope; weight and bias of a layer share a rate."""
    l2 = torch.cat([(gradient[n] * hyper[n]).reshape(-1) for n in hyper if n.startswith("l2.")])
    layers = [n.removeprefix("l2.").removesuffix(".weight") for n in hyper if n.startswith("l2.")]
    rate = [
        sum((gradient[n] * hyper[n]).sum() for n in hyper if n.startswith(f"learning_rate.{layer}."))
        for layer in layers
    ]
    return Slopes(l2, torch.stack([torch.as_tensor(r) for r in rate]))


def trained(setting: Setting, order: int, name: str, options: Mapping[str, Any]) -> tuple[Slopes, float, float]:
    """(The hypergradient, seconds of the training, seconds of the pass after it)."""
    training = setting.ordered(order)
    begun = time.perf_counter()
    following = method(name, **options).follow(training, setting.weights, setting.hyper)
    for step, _ in following:
        if step == STEPS:
            break
    ended = time.perf_counter()
    found = conclude(following)
    return slopes(found.gradient, setting.hyper), ended - begun, time.perf_counter() - ended


def exact_draws(setting: Setting, folder: Path) -> list[tuple[Slopes, float, float]]:
    """The exact hypergradient under each order; kept in a file, so that it is computed once."""
    file = folder / f"{setting.data}-{setting.rate}.pt"
    draws: list[Any] = torch.load(file, weights_only=True) if file.exists() else []
    while len(draws) < ORDERS:
        draws.append(trained(setting, len(draws), "exact", {}))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save([(tuple(found), *seconds) for found, *seconds in draws], file)
    return [(Slopes(*found), *seconds) for found, *seconds in draws]


class Agreement(NamedTuple):
    """Of one estimate with the mean exact one: cosine and share of equal signs for λ, cosine for rates, sizes."""

    l2: float
    l2_median: float
    signs: float
    l2_size: float
    rate: float
    rate_size: float


def agreement(found: Slopes, others: list[Slopes]) -> Agreement:
    """With the mean of `others`, and, for λ, with their entrywise median, which no single outlier moves."""
    l2, rate = (torch.stack([getattr(other, name) for other in others]) for name in Slopes._fields)
    mean, centre, rate_mean = l2.mean(dim=0), l2.median(dim=0).values, rate.mean(dim=0)
    moved = mean != 0
    return Agreement(
        cosine(found.l2, mean),
        cosine(found.l2, centre),
        float((found.l2.sign() == mean.sign())[moved].double().mean()),
        float(found.l2.norm() / mean.norm()),
        cosine(found.rate, rate_mean),
        float(found.rate.norm() / rate_mean.norm()),
    )


def cosine(a: Tensor, b: Tensor) -> float:
    """NaN where either is zero or not finite."""
    return float(torch.dot(a, b) / (a.norm() * b.norm()))


def row(title: str, found: list[Agreement], share: float, memory: float) -> str:
    """A line of the table: means over the orders."""
    means = [statistics.fmean(values) for values in zip(*found, strict=True)]
    cells = [
        *("–" if math.isnan(x) else f"{x:.2f}" if abs(x) < 1000 else f"{x:.0e}" for x in means),
        f"{100 * share:.0f} %",
        f"{memory:.1f}",
    ]
    return f"| {title} | {' | '.join(cells)} |"


def measure(setting: Setting, folder: Path) -> None:
    """Print the table of a setting."""
    draws = exact_draws(setting, folder)
    exact = [found for found, *_ in draws]
    forwards = statistics.median(seconds for _, seconds, _ in draws)
    backwards = statistics.median(seconds for *_, seconds in draws)
    print(f"\n**{setting.data}, {setting.rate} ({RATES[setting.data][setting.rate]:g})**\n")
    print("| estimator | λ | λ, median | signs | size | rates | size | time | MiB |\n|---|" + "---|" * 8)
    alone = [agreement(found, [*exact[:i], *exact[i + 1 :]]) for i, found in enumerate(exact)]
    kept = charge(setting, "exact", {})
    print(row("one exact run", alone, backwards / forwards, kept), flush=True)
    for title, (name, options) in ESTIMATORS.items():
        seen, shares = [], []
        for order in range(SEEN):
            found, training_seconds, pass_seconds = trained(setting, order, name, options)
            seen.append(agreement(found, [*exact[:order], *exact[order + 1 :]]))
            shares.append(pass_seconds / training_seconds)
        print(row(title, seen, statistics.median(shares), charge(setting, name, options)), flush=True)


def charge(setting: Setting, name: str, options: Mapping[str, Any]) -> float:
    """MiB that the pass declares."""
    held = ("learning_rate", "momentum") if name == "implicit" else ()
    training = setting.training._replace(held=held)
    return method(name, **options).charge(training, setting.weights, setting.hyper).memory / 2**20


def main() -> None:
    """The tables asked for."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=sorted(ROWS))
    parser.add_argument("--rate", choices=["stable", "edge"])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HPO_DATA"))
    parser.add_argument("--folder", type=Path, default=Path("build/fidelity"), help="where exact draws are kept")
    asked = parser.parse_args()
    for data in [asked.data] if asked.data else ROWS:
        for rate in [asked.rate] if asked.rate else ["stable", "edge"]:
            measure(setting(data, rate, asked.data_dir), asked.folder)


if __name__ == "__main__":
    main()
