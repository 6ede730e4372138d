"""The MNIST experiment of DrMAD as its authors parameterised it, which a study file cannot say.

    python studies/papers/drmad_own_form.py chord            # at the root of the project, with HPO_DATA set

Weights are w = z·exp(t), with a t for each of 934 input-side units; the penalty is e⁻⁴ Σ z², biases included, their
t fixed at 0.2. So t sets a unit's strength, 2·e^(−4 − 2t), its initial weights and its learning rate at once, and
stands in the validation loss itself: the derivative has a direct part, ∂f/∂t at the trained z, beside the one through
the training. Every meta-iteration moves each t by 0.07 against the sign of the derivative, from a new split, new
initial weights and new minibatches; with --fixed from the same ones. Printed: test error in %, validation loss.

    chord     200 reverse steps along the straight line, and the direct part
    exact     all 2,000 steps, and the direct part
    indirect  as chord, without the direct part
    direct    the direct part alone: no reverse pass
"""

from __future__ import annotations

import argparse
import os
from math import exp
from pathlib import Path

import torch
import torch.nn.functional as F

from hpo import study_file
from hpo.hypergradients.drmad import DrMAD
from hpo.hypergradients.exact import Exact
from hpo.hypergradients.training import Training, conclude, validation_gradient, walk
from hpo.problems.problem import build
from solvers.sgd import SGD

START = 0.2
MOVE = 0.07


def scaled(z, t):
    """w = z·exp(t), by name."""
    return {name: x * (t[f"t.{name}"].exp() if f"t.{name}" in t else exp(START)) for name, x in z.items()}


def iteration(problem, t, part, momentum, steps):
    """(Trained weights w, derivative by t) of one training."""
    forward = problem.network.forward

    def loss(z, hyper, batch):
        penalty = exp(-4) * sum((x**2).sum() for x in z.values())
        return F.cross_entropy(forward(scaled(z, hyper), batch.inputs), batch.targets) + penalty

    def training(network):
        return Training(
            SGD(loss), network, problem.criterion, problem.batches, steps, problem.train, problem.validation
        )

    inner = training(lambda z, inputs: forward(scaled(z, t), inputs))
    start = {name: w / exp(START) for name, w in problem.weights.items()}
    hyper = {"learning_rate": torch.tensor(0.05 * (1 - momentum)), "momentum": torch.tensor(momentum), **t}
    if part == "direct":
        following = walk(inner, start, hyper)
    else:
        method = Exact() if part == "exact" else DrMAD(knots=2, steps=steps // 10)
        following = method.follow(inner, start, hyper)
    w = scaled(next(state for step, state in following if step == steps).weights, t)
    slopes = validation_gradient(training(forward), w)
    derivative = {key: torch.zeros_like(x) for key, x in t.items()}
    if part != "indirect":
        derivative = {key: (slopes[key[2:]] * w[key[2:]]).sum(dim=0, keepdim=True) for key in t}
    if part != "direct":
        through = conclude(following).gradient
        derivative = {key: x + through[key] for key, x in derivative.items()}
    return w, derivative


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["chord", "exact", "indirect", "direct"])
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--momentum", type=float, default=0.1)
    parser.add_argument("--iterations", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    study = study_file.load(Path(__file__).parent / "drmad-mnist.yaml")
    data = Path(os.environ["HPO_DATA"]) if "HPO_DATA" in os.environ else None
    t = {}
    for i in range(asked.iterations):
        problem = build(study.problem, study.training.batch_size, 0 if asked.fixed else i, data)
        t = t or {f"t.{n}": torch.full((1, w.shape[1]), START) for n, w in problem.weights.items() if w.dim() == 2}
        w, derivative = iteration(problem, t, asked.part, asked.momentum, study.training.steps)
        with torch.no_grad():
            wrong = (problem.network.forward(w, problem.test.inputs).argmax(dim=1) != problem.test.targets).double()
            outputs = problem.network.forward(w, problem.validation.inputs)
            validation_loss = problem.criterion(outputs, problem.validation.targets)
        print(f"{i:3d}  {100 * wrong.mean():5.2f}  {validation_loss:.4f}", flush=True)
        t = {key: x - MOVE * derivative[key].sign().to(x) for key, x in t.items()}


if __name__ == "__main__":
    main()
