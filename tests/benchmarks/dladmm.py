"""A sweep of dlADMM against SGD on the same 5,000 rows: 784-W-W-10, one thread.

    python tests/benchmarks/dladmm.py          # one thread, 1 min

Prints, measured in turn, medians of the processor time of a sweep over that of one gradient on all rows, which is
`DLADMM.evaluations`, and over that of five epochs of SGD at batch 100: the promise is 1 at most.
"""

import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F

from hpo.problems.network import perceptron
from solvers.dladmm import DLADMM
from solvers.sgd import SGD
from solvers.solver import Batch, run

ROWS, BATCH, ROUNDS = 5000, 100, 7


def seconds(call):
    started = time.process_time()
    call()
    return time.process_time() - started


def rows(whole, size, t):
    start = t * size % ROWS
    return Batch(t, whole.inputs[start : start + size], whole.targets[start : start + size])


def compare(width):
    generator = torch.Generator().manual_seed(0)
    whole = Batch(0, torch.rand(ROWS, 784, generator=generator), torch.randint(0, 10, (ROWS,), generator=generator))
    network, weights = perceptron((784,), (width, width), 10, "relu", seed=0)
    sgd = SGD(lambda w, hyper, batch: F.cross_entropy(network.forward(w, batch.inputs), batch.targets))
    hyper = {"learning_rate": torch.tensor(0.05)}

    def steps(solver, size, count):
        batches = partial(rows, whole, size)
        return partial(run, solver, solver.init(weights, hyper, whole), hyper, batches, 0, count)

    calls = {"a gradient": steps(sgd, ROWS, 1), "five epochs of SGD": steps(sgd, BATCH, 5 * ROWS // BATCH)}
    blocks = ("exact", "line-search", "paper")
    calls |= {block: steps(DLADMM(network.chain, F.cross_entropy, block=block), ROWS, 1) for block in blocks}
    times = [{name: seconds(call) for name, call in calls.items()} for _ in range(ROUNDS + 1)][1:]
    for block in blocks:
        for other in ("a gradient", "five epochs of SGD"):
            ratios = [each[block] / each[other] for each in times]
            print(f"width {width:>4}, a sweep ({block}) / {other}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for width in (50, 200, 1000):
        compare(width)
