"""The HSIC solver against a hand-written loop of the same algorithm: 784-1024-1024-1024-1024-1024-1024-10, batch 256.

    python tests/benchmarks/hsic.py            # one thread, 2 min

Prints the ratio of times (ours / theirs) over 20 minibatches, run by run in turn, and its median; the promise is 1.5 at
most. Then what a step of the solver costs in steps of SGD, for several networks: `HSIC.evaluations`.
"""

import statistics
import time
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from hpo.problems.network import perceptron
from solvers.chain import through
from solvers.hsic import HSIC
from solvers.sgd import SGD
from solvers.solver import Batch, run

BATCH, STEPS, ROUNDS, RATE, DECAY, SIGMA, BETA = 256, 20, 5, 1e-3, 1e-3, 6.0, 200.0


def seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def digits(rows):
    generator = torch.Generator().manual_seed(0)
    return Batch(-1, torch.rand(rows, 784, generator=generator), torch.randint(0, 10, (rows,), generator=generator))


def in_turn(whole, size, t):
    start = t * size % len(whole.targets)
    return Batch(t, whole.inputs[start : start + size], whole.targets[start : start + size])


def dependence(x):
    squares = x.square().sum(1)
    kernel = torch.exp((squares[:, None] + squares - 2 * x @ x.T) / (-2 * SIGMA**2 * x.shape[1]))
    kernel = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    ridge, unit = 1e-5 * len(x), torch.eye(len(x))
    return unit - ridge * torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge * unit))


def by_hand(sizes, batches):
    """Modules, autograd through the factorisation, weights changed in place: what one would write."""
    linear = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    blocks = [nn.Sequential(layer, nn.BatchNorm1d(layer.out_features, affine=False), nn.ReLU()) for layer in linear]
    optimisers = [torch.optim.SGD(block.parameters(), lr=RATE, weight_decay=DECAY) for block in blocks]
    for t in range(STEPS):
        batch = batches(t)
        a = batch.inputs
        bottleneck = dependence(a) - BETA * dependence(F.one_hot(batch.targets, 10).float())
        for block, optimiser in zip(blocks, optimisers, strict=True):
            optimiser.zero_grad()
            (dependence(block(a)) * bottleneck).sum().backward()
            optimiser.step()
            with torch.no_grad():
                a = block(a)


def against_by_hand():
    sizes, whole = [784, *[1024] * 6, 10], digits(4096)
    batches = partial(in_turn, whole, BATCH)
    network, weights = perceptron((784,), sizes[1:-1], 10, "relu", seed=0)
    solver = HSIC(network.chain, F.cross_entropy, whole, readout="assigned")
    values = {"learning_rate": RATE, "l2": DECAY, "sigma": SIGMA, "beta": BETA}
    hyper = {name: torch.tensor(value) for name, value in values.items()}

    def ours():
        run(solver, solver.init(weights, hyper, batches(0)), hyper, batches, 0, STEPS)

    theirs = partial(by_hand, sizes, batches)
    ours(), theirs()
    ratios = [seconds(ours) / seconds(theirs) for _ in range(ROUNDS)]
    print(f"HSIC against a hand-written loop, {STEPS} steps of width 1,024, {ROUNDS} rounds")
    print(f"ratio {statistics.median(ratios):.2f}   (each: {' '.join(f'{r:.2f}' for r in ratios)})")


def against_sgd():
    print("\nnetwork, minibatch           a step / a step of SGD")
    for widths, size in [((50, 50, 50), 100), ((128, 128), 100), ((256,) * 6, 256), ((1024,) * 6, 256)]:
        whole = digits(2048)
        network, weights = perceptron((784,), widths, 10, "relu", seed=0)
        solvers = [
            HSIC(network.chain, F.cross_entropy, whole),
            SGD(
                lambda w, hyper, batch, net=network: F.cross_entropy(through(net.chain, w, batch.inputs), batch.targets)
            ),
        ]
        hyper = {"learning_rate": torch.tensor(RATE), "l2": torch.tensor(DECAY)}
        batches, steps = partial(in_turn, whole, size), 100 if max(widths) < 1000 else 10

        def taken(solver, weights=weights, batches=batches, steps=steps, hyper=hyper):
            return seconds(lambda: run(solver, solver.init(weights, hyper, batches(0)), hyper, batches, 0, steps))

        ratios = [taken(solvers[0]) / taken(solvers[1]) for _ in range(ROUNDS)]
        title = f"784-{'-'.join(map(str, widths))}-10, {size}"
        print(f"{title:<38} {statistics.median(ratios):>5.1f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    against_by_hand()
    against_sgd()
