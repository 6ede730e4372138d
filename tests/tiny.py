"""A network, data and hyperparameters small enough to differentiate by finite differences, in float64."""

import torch
import torch.nn.functional as F

from hpo.hypergradients.training import Training
from solvers.chain import dense
from solvers.solver import Batch

SIZES = [6, 5, 4, 3]
NAMES = [f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")]


def forward(weights, inputs):
    for i in range(3):
        inputs = F.linear(inputs, weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"])
        if i < 2:
            inputs = torch.tanh(inputs)
    return inputs


def loss(weights, hyper, batch):
    return F.cross_entropy(forward(weights, batch.inputs), batch.targets)


def chain(activation="tanh"):
    """The network as a chain, or the same one with another activation."""
    return tuple(dense(f"layers.{i}.weight", f"layers.{i}.bias", activation if i < 2 else "identity") for i in range(3))


def weights(seed=0, scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for i in range(3):
        shape = (SIZES[i + 1], SIZES[i])
        found[f"layers.{i}.weight"] = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        found[f"layers.{i}.bias"] = 0.1 * torch.randn(SIZES[i + 1], generator=generator, dtype=torch.float64)
    return found


def part(seed, rows, features=SIZES[0]):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0.5).long()
    return Batch(-1, inputs, targets)


def batches(whole, size):
    def batch(t):
        start = (t * size) % len(whole.targets)
        return Batch(t, whole.inputs[start : start + size], whole.targets[start : start + size])

    return batch


def training(solver, steps, size=20, train=None):
    train = part(1, 60) if train is None else train
    return Training(solver, forward, F.cross_entropy, batches(train, size), steps, train, part(2, 40))


def tensor(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def per_neuron_l2(low=0.01, high=0.05):
    """One strength per input-side unit of each layer, shape `[1, in]`."""
    return {
        f"l2.layers.{i}.weight": torch.linspace(low, high, SIZES[i], dtype=torch.float64).reshape(1, -1)
        for i in range(3)
    }


def per_neuron_rate(rate=0.2):
    """One rate per unit, for its incoming weights `[out, 1]` and its bias `[out]`."""
    found = {}
    for i in range(3):
        rates = torch.linspace(rate, 1.5 * rate, SIZES[i + 1], dtype=torch.float64)
        found[f"learning_rate.layers.{i}.weight"] = rates.reshape(-1, 1)
        found[f"learning_rate.layers.{i}.bias"] = rates
    return found
