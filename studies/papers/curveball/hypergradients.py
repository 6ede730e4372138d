"""DrMAD through CurveBall beside exact reverse mode: the derivative of the validation loss in the logarithm of each l2.

    python studies/papers/curveball/hypergradients.py digits 300 1          # data, steps, λ; HPO_DATA set for mnist

30-30 tanh, batches of 50, a strength of 1e-3 per input-side unit. The exact hypergradient of one run is one draw, as
the order of its minibatches is chance: everything is held against the mean of four other orders.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hpo import spec
from hpo.hypergradients.training import Training, hypergradient
from hpo.problems.minibatches import Minibatches
from hpo.problems.problem import build
from solvers.curveball import CurveBall

ROWS = {"digits": (300, 600), "mnist": (2000, 2000)}
ORDERS, SEEN, BATCH = 6, 2, 50


def main(data: str, steps: int, damping: float) -> None:
    torch.set_num_threads(1)
    train, validation = ROWS[data]
    given = spec.Problem(
        data=data,
        split=spec.Split(train=train, validation=validation),
        model=spec.Perceptron(mlp=(30, 30), activation="tanh"),
    )
    problem = build(given, BATCH, 0, Path(os.environ.get("HPO_DATA", ".")))
    solver = CurveBall(problem.network.forward, problem.criterion, problem.network.chain)
    hyper = {f"l2.{n}": torch.full((1, w.shape[1]), 1e-3) for n, w in problem.weights.items() if w.dim() > 1}
    hyper["damping"] = torch.tensor(damping)

    def derivative(method: str, order: int) -> Tensor:
        batches = Minibatches(problem.train.inputs, problem.train.targets, BATCH, order)
        training = Training(
            solver, problem.network.forward, problem.criterion, batches, steps, problem.train, problem.validation,
            held=("damping",),
        )  # fmt: skip
        found = hypergradient(method, training, problem.weights, hyper).gradient
        return torch.cat([(slope * hyper[key]).double().flatten() for key, slope in found.items()])

    exact = torch.stack([derivative("exact", order) for order in range(ORDERS)])
    mean = exact[SEEN:].mean(dim=0)
    for method in ("exact", "drmad"):
        for order in range(SEEN):
            begun = time.thread_time()
            found = derivative(method, order)
            seconds = time.thread_time() - begun
            agreement, size = cosine_similarity(found, mean, dim=0), found.norm() / mean.norm()
            title = f"{data} {steps} λ {damping:g}: {method} {order}"
            print(f"{title}: cosine {agreement:.2f} size {size:.2f} ({seconds:.1f} s)")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
