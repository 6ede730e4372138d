"""How many trainings a card or a processor does at once: stacked replicas, and how near they come to what it can do.

    PYTHONPATH=.:tests python tests/benchmarks/replicas.py [--device cuda] [--compile] [--most 4096]

Momentum SGD with an L2 strength per neuron, as a study trains, on random rows that all replicas share. The share of the
bandwidth counts weights, velocity and gradient once read and once written a step; that of the matrix rate, the products
of the forward and the backward pass. With a card, then: four trainings on it, and one that has no room beside others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from replicas_cards import on_cards
from torch import Tensor

from hpo.execution import cards
from hpo.problems.network import perceptron
from solvers.sgd import SGD
from solvers.solver import Batch
from solvers.stacked import Stacked
from solvers.traced import traced
from solvers.vectors import leaves

REPLICAS = (1, 4, 16, 64, 256, 1024, 4096)
TRAINING = 600
"""Steps of the training that is counted by the second."""

Step = Callable[..., Sequence[Tensor]]
"""(leaves of the state, hyperparameters, step number, inputs, targets) → leaves."""


class Network(NamedTuple):
    """A perceptron `sizes` trained on minibatches of `rows`."""

    sizes: tuple[int, ...]
    rows: int

    @property
    def products(self) -> float:
        """Floating-point operations of a step's matrix products: forward, by the weights, and by the layers' inputs."""
        each = [a * b for a, b in pairwise(self.sizes)]
        return 2.0 * self.rows * (3 * sum(each) - each[0])

    @property
    def traffic(self) -> float:
        """Bytes of weights, velocity and gradient, each read and written once."""
        return 6 * 4.0 * sum(a * b + b for a, b in pairwise(self.sizes))


NETWORKS = (Network((64, 50, 50, 50, 10), 50), Network((784, 50, 50, 50, 10), 100))


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str, least: float) -> float:
    """Of one call: the median of three rounds of at least so many seconds, after one that is not counted."""
    call()
    wait(device)
    times, rounds = 1, list[float]()
    while len(rounds) < 3:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        wait(device)
        took = time.perf_counter() - begun
        if took >= least:
            rounds.append(took / times)
        else:
            times *= 2 if took > least / 4 else 4
    return statistics.median(rounds)


class Limits(NamedTuple):
    """What the device does: bytes copied and float operations of large matrix products, a second, by precision."""

    copied: float
    products: dict[str, float]


def limits(device: str, least: float) -> Limits:
    size, width = (2**28, 8192) if device == "cuda" else (2**24, 1024)
    large = torch.rand(size, device=device)
    copied = 2 * 4 * size / seconds(partial(torch.empty_like(large).copy_, large), device, least)
    del large
    x, y = (torch.rand(width, width, device=device) for _ in range(2))
    rates = {}
    for precision in precisions(device):
        set_precision(precision)
        rates[precision] = 2 * width**3 / seconds(lambda: x @ y, device, least)
    return Limits(copied, rates)


def precisions(device: str) -> tuple[str, ...]:
    return ("float32", "tf32") if device == "cuda" else ("float32",)


def set_precision(precision: str) -> None:
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def prepared(network: Network, replicas: int, device: str) -> tuple[Step, list[Tensor], list[Tensor]]:
    """The stacked step as the solver traces it, the leaves it moves, and what else it is given."""
    first, *widths, last = network.sizes
    net, start = perceptron((first,), widths, last, "relu", seed=0)

    def loss(w: Any, hyper: Any, batch: Batch) -> Tensor:
        return F.cross_entropy(net.forward(w, batch.inputs), batch.targets)

    def full(value: float, *shape: int) -> Tensor:
        return torch.full((replicas, *shape), value, device=device)

    hyper = {"momentum": full(0.9)}
    for name, w in start.items():
        hyper[f"learning_rate.{name}"] = full(0.05, *(1,) * w.dim())
        if w.dim() > 1:
            hyper[f"l2.{name}"] = full(1e-3, 1, w.shape[1])
    weights = {name: w.to(device).expand(replicas, *w.shape).contiguous() for name, w in start.items()}
    inputs = torch.rand(network.rows, first, device=device)
    targets = torch.randint(0, last, (network.rows,), device=device)
    stacked = Stacked(SGD(loss), replicas, shared=True)
    state = stacked.init(weights, hyper, Batch(0, inputs, targets))
    moved, rest = leaves(state), [*hyper.values(), torch.tensor(0), inputs, targets]
    return traced(stacked._flat(state, list(hyper)), *moved, *rest), moved, rest


def step_seconds(step: Step, moved: list[Tensor], rest: list[Tensor], device: str, least: float) -> float:
    held = list(moved)

    def call() -> None:
        held[:] = step(*held, *rest)

    with torch.no_grad():
        return seconds(call, device, least)


def stacks(device: str, most: int, least: float, compiled: bool) -> None:
    found = limits(device, least)
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {precision}" for precision, rate in found.products.items())
    print(f"\ncopying {found.copied / 1e9:,.4g} GB/s (read and written); large products {rates}")
    for network in NETWORKS:
        print(f"\n{'-'.join(map(str, network.sizes))}, batch {network.rows}\n")
        print("| replicas | products | step | ms/step | trainings/s | of bandwidth | of matrix rate | MB | made in s |")
        print("|---:|---|---|---:|---:|---:|---:|---:|---:|")
        for replicas in (r for r in REPLICAS if r <= most):
            try:
                _rows(network, replicas, device, least, compiled, found)
            except torch.OutOfMemoryError as error:
                print(f"\n{replicas} replicas: no room: {str(error).partition('. ')[0]}")
                break


def _rows(network: Network, replicas: int, device: str, least: float, compiled: bool, found: Limits) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    step, moved, rest = prepared(network, replicas, device)
    made = time.perf_counter() - begun
    for precision in precisions(device):
        set_precision(precision)
        kinds = {"traced": (step, made)}
        if compiled:
            torch.compiler.reset()
            begun = time.perf_counter()
            fused = torch.compile(step)
            with torch.no_grad():
                fused(*moved, *rest)
            wait(device)
            kinds["compiled"] = fused, made + time.perf_counter() - begun
        for kind, (one, before) in kinds.items():
            took = step_seconds(one, moved, rest, device, least)
            copied = network.traffic * replicas / took / found.copied
            products = network.products * replicas / took / found.products[precision]
            held = f"{torch.cuda.max_memory_allocated() / 2**20:,.0f}" if device == "cuda" else ""
            print(
                f"| {replicas:,} | {precision} | {kind} | {1e3 * took:.3f} | {replicas / took / TRAINING:,.2f} "
                f"| {copied:.1%} | {products:.1%} | {held} | {before:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Trainings per second of stacked replicas.")
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=there)
    parser.add_argument("--compile", action="store_true", help="through torch.compile as well")
    parser.add_argument("--most", type=int, default=REPLICAS[-1], help="replicas")
    parser.add_argument("--quick", action="store_true", help="short rounds and few trials, to see that it works")
    options = parser.parse_args()
    if options.device == "cuda" and there == "cpu":
        parser.error("--device cuda: torch sees no card here")
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"{name}, torch {torch.__version__}")
    stacks(options.device, options.most, 0.02 if options.quick else 0.3, options.compile)
    if options.device == "cuda" and cards.visible():
        torch.cuda.empty_cache()
        on_cards(8 if options.quick else 32)
    else:
        print("\nno card: trainings that share one, and one that has no room on it, were not tried")


if __name__ == "__main__":
    main()
