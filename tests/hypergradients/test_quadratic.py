"""The five kinds of things a training starts from, on a least-squares problem of 12 rows and 5 weights over 9 steps:
initial weights, initial velocity, a learning rate for each step, momentum, and a parameter of the training loss.
"""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from hpo.hypergradients.training import Training, hypergradient, train
from solvers.sgd import SGD, SGDState
from solvers.solver import Batch

T, ROWS, WEIGHTS = 9, 12, 5


class Thrown(SGD):
    """SGD whose start is a hyperparameter, too: where from, and how fast."""

    def init(self, weights, hyper, batch):
        return SGDState({"w": hyper["position"]}, {"w": hyper["velocity"]})


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def predicted(weights, inputs):
    return inputs @ weights["w"]


def loss(weights, hyper, batch):
    """Squared errors, on features that are stretched by `meta`."""
    return F.mse_loss(predicted(weights, batch.inputs * torch.exp(hyper["meta"])), batch.targets)


def part(seed, rows):
    return Batch(-1, draw(seed, rows, WEIGHTS), draw(seed + 1, rows))


WHOLE, VALIDATION = part(1, ROWS), part(3, 7)


def batches(t):
    """Four of the rows."""
    rows = slice(4 * (t % 3), 4 * (t % 3) + 4)
    return Batch(t, WHOLE.inputs[rows], WHOLE.targets[rows])


TRAINING = Training(Thrown(loss), predicted, F.mse_loss, batches, T, WHOLE, VALIDATION)
START = {"w": torch.zeros(WEIGHTS, dtype=torch.float64)}
HYPER = {
    "position": draw(5, WEIGHTS),
    "velocity": draw(6, WEIGHTS),
    "learning_rate[t]": torch.linspace(0.15, 0.05, T, dtype=torch.float64),
    "momentum": torch.tensor(0.7, dtype=torch.float64),
    "meta": 0.3 * draw(7, WEIGHTS),
}
METHODS = {
    "exact": ("exact", {}),
    "exact, √T states": ("exact", {"memory": "sqrt"}),
    "forward": ("forward", {}),
    "forward, three at a time": ("forward", {"chunk": 3}),
    "truncated, all steps": ("truncated", {"steps": T}),
}
CASES = [(method, kind) for method in METHODS for kind in HYPER]


@cache
def difference(kind):
    """Central differences, value by value."""
    x, h = HYPER[kind], 1e-5
    slopes = []
    for unit in torch.eye(x.numel(), dtype=x.dtype):
        ends = [
            TRAINING.validation_loss(train(TRAINING, START, {**HYPER, kind: x + share * unit.reshape(x.shape)}).weights)
            for share in (-h, h)
        ]
        slopes.append((ends[1] - ends[0]) / (2 * h))
    return torch.stack(slopes).reshape(x.shape)


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_equals_central_differences(method, kind):
    name, options = METHODS[method]
    found = hypergradient(name, TRAINING, START, HYPER, **options).gradient[kind]
    assert (difference(kind).abs() > 1e-4).all()
    torch.testing.assert_close(found, difference(kind), rtol=1e-6, atol=1e-9)
