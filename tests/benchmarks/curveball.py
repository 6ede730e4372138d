"""A step of CurveBall against a step of SGD with momentum, l2 per neuron, in one run, one thread.

    python tests/benchmarks/curveball.py

Ratios of processor time, the median of steps taken in turn; "with λ" over five steps, of which one looks at λ. The
perceptrons are linearised by hand and, for comparison, automatically; the convolutional network can only be the latter.
"""

import statistics
import time
from math import prod

import torch
import torch.nn.functional as F

from hpo.problems.network import perceptron
from solvers.curveball import EVERY, CurveBall
from solvers.sgd import SGD
from solvers.solver import Batch

ROUNDS = 20


def dense(sizes, activation, rows):
    network, weights = perceptron(sizes[:1], sizes[1:-1], sizes[-1], activation, seed=0)
    return network.forward, network.chain, weights, (rows, sizes[0])


def convolutional(activation, pool, shape, channels):
    """Two 5 × 5 convolutions with pooling, and a linear layer, as LeNet begins."""
    generator = torch.Generator().manual_seed(0)
    first, second = channels
    side = ((shape[2] - 4) // 2 - 4) // 2
    shapes = {"first": (first, shape[1], 5, 5), "second": (second, first, 5, 5), "last": (10, second * side**2)}
    weights = {n: torch.randn(s, generator=generator) / prod(s[1:]) ** 0.5 for n, s in shapes.items()}
    weights |= {f"{n}.bias": torch.zeros(s[0]) for n, s in shapes.items()}

    def forward(w, x):
        for name in ("first", "second"):
            x = pool(activation(F.conv2d(x, w[name], w[f"{name}.bias"])), 2)
        return F.linear(x.flatten(1), w["last"], w["last.bias"])

    return forward, None, weights, shape


NETWORKS = {
    "784-256-256-10 tanh, batch 256": lambda: dense((784, 256, 256, 10), "tanh", 256),
    "784-50-50-50-10 relu, batch 100": lambda: dense((784, 50, 50, 50, 10), "relu", 100),
    "784-128-64-32-10 tanh, batch 64": lambda: dense((784, 128, 64, 32, 10), "tanh", 64),
    "convolutions 16, 32 of 28 × 28, relu, max, batch 64": lambda: convolutional(
        F.relu, F.max_pool2d, (64, 1, 28, 28), (16, 32)
    ),
    "convolutions 16, 32 of 28 × 28, tanh, mean, batch 64": lambda: convolutional(
        torch.tanh, F.avg_pool2d, (64, 1, 28, 28), (16, 32)
    ),
}


def step(solver, states, name, hyper, batch):
    begun = time.thread_time()
    states[name] = solver.step(states[name], hyper, batch)
    return time.thread_time() - begun


def measure(title, forward, chain, weights, shape):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(shape, generator=generator)
    targets = torch.randint(0, 10, shape[:1], generator=generator)
    hyper = {f"l2.{n}": torch.full((1, w.shape[1]), 1e-3) for n, w in weights.items() if w.dim() == 2}
    rates = {"learning_rate": torch.tensor(0.01), "momentum": torch.tensor(0.9), **hyper}
    solvers = {"SGD": SGD(lambda w, h, b: F.cross_entropy(forward(w, b.inputs), b.targets))}
    if chain is not None:
        solvers["by hand"] = CurveBall(forward, F.cross_entropy, chain)
    solvers["automatic"] = CurveBall(forward, F.cross_entropy)
    given = {name: rates if name == "SGD" else hyper for name in solvers}
    states = {name: s.init(weights, given[name], Batch(0, inputs, targets)) for name, s in solvers.items()}
    taken = {name: [] for name in solvers}
    with torch.no_grad():
        for t in range(EVERY * (ROUNDS + 1)):
            for name, solver in solvers.items():
                taken[name].append(step(solver, states, name, given[name], Batch(t, inputs, targets)))
    base = statistics.median(taken["SGD"][EVERY:])
    for name, seconds in taken.items():
        plain = [x for t, x in enumerate(seconds) if t >= EVERY and t % EVERY != EVERY - 1]
        looking = seconds[EVERY + EVERY - 1 :: EVERY]
        one, other = statistics.median(plain), statistics.median(looking)
        mean = (one * (EVERY - 1) + other) / EVERY
        if name != "SGD":
            print(
                f"{title:<54}{name:<12}{one / base:>6.2f}{mean / base:>8.2f}    (SGD {1e3 * base:.2f} ms)", flush=True
            )


def main():
    torch.set_num_threads(1)
    print(f"{'step of CurveBall / step of SGD':<66}{'plain':>6}{'with λ':>8}")
    for title, network in NETWORKS.items():
        measure(title, *network())


if __name__ == "__main__":
    main()
