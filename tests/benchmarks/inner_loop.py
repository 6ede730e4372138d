"""The inner loop against a hand-written torch.optim.SGD loop: 784-50-50-50-10, batch 100, one thread.

    python tests/benchmarks/inner_loop.py

Prints the ratio of times (ours / theirs), run by run in turn, and its median; the promise is 1.2 at most. Then the
charges of the hypergradients beside what they took.
"""

import statistics
import time
from itertools import pairwise

import torch
import torch.nn.functional as F

from hpo.hypergradients.training import Training, conclude, method, train
from hpo.problems.network import perceptron
from solvers.sgd import SGD
from solvers.solver import Batch

STEPS, BATCH, ROUNDS = 600, 100, 7


def seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def pass_seconds(derivative, training, weights, hyper):
    following = derivative.follow(training, weights, hyper)
    for step, _ in following:
        if step == training.steps:
            break
    return seconds(lambda: conclude(following))


def data(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return Batch(-1, torch.rand(rows, 784, generator=generator), torch.randint(0, 10, (rows,), generator=generator))


def main():
    torch.set_num_threads(1)
    whole, validation = data(1000, 0), data(5000, 1)
    network, weights = perceptron((784,), (50, 50, 50), 10, "relu", seed=0)

    def batches(t):
        start = t * BATCH % 1000
        return Batch(t, whole.inputs[start : start + BATCH], whole.targets[start : start + BATCH])

    def loss(w, hyper, batch):
        return F.cross_entropy(network.forward(w, batch.inputs), batch.targets)

    hyper = {"momentum": torch.tensor(0.9)}
    for name, w in weights.items():
        hyper[f"learning_rate.{name}"] = torch.full((1,) * w.dim(), 0.05)
        if w.dim() > 1:
            hyper[f"l2.{name}"] = torch.full((1, w.shape[1]), 1e-3)
    training = Training(SGD(loss), network.forward, F.cross_entropy, batches, STEPS, whole, validation)

    def theirs():
        sizes = [784, 50, 50, 50, 10]
        layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
        model = torch.nn.Sequential(*[m for layer in layers for m in (layer, torch.nn.ReLU())][:-1])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        for t in range(STEPS):
            batch = batches(t)
            optimizer.zero_grad()
            F.cross_entropy(model(batch.inputs), batch.targets).backward()
            optimizer.step()

    def ours():
        train(training, weights, hyper)

    theirs(), ours()
    ratios = [seconds(ours) / seconds(theirs) for _ in range(ROUNDS)]
    print(f"per-neuron SGD against torch.optim.SGD, {STEPS} steps, {ROUNDS} rounds")
    print(f"ratio {statistics.median(ratios):.2f}   (each: {' '.join(f'{r:.2f}' for r in ratios)})")

    base = statistics.median(seconds(ours) for _ in range(3))
    print("\nreverse pass         time / training   charged / training")
    for name, options in [
        ("exact", {}),
        ("drmad", {}),
        ("drmad", {"rows": 1000}),
        ("drmad", {"curvature": "hessian"}),
    ]:
        derivative = method(name, **options)
        took = statistics.median(pass_seconds(derivative, training, weights, hyper) for _ in range(3))
        title = name + "".join(f" {k}={v}" for k, v in options.items())
        charged = derivative.charge(training, weights, hyper).gradient_evaluations
        print(f"{title:<22}{took / base:>12.2f}{charged / STEPS:>20.2f}")


if __name__ == "__main__":
    main()
