from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from hpo.dimension import Dimension
from hpo.problems.network import GAINS, perceptron
from hpo.space import Weight, resolve
from hpo.spec import Perceptron
from solvers.ranges import L2, LEARNING_RATE

LAYERS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "gelu": nn.GELU}
LAYERS["leaky_relu"] = nn.LeakyReLU


def test_every_activation_of_the_study_file_is_there():
    assert set(GAINS) == set(get_args(Perceptron.model_fields["activation"].annotation)) == set(LAYERS)


@pytest.mark.parametrize("activation", LAYERS)
def test_the_same_function_as_torchs_own_layers(activation):
    network, weights = perceptron((2, 3), [7, 5], 4, activation, seed=3)
    layers = [nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(5, 4)]
    for i, layer in enumerate(layers):
        layer.load_state_dict({"weight": weights[f"layers.{i}.weight"], "bias": weights[f"layers.{i}.bias"]})
    act = LAYERS[activation]
    theirs = nn.Sequential(nn.Flatten(), layers[0], act(), layers[1], act(), layers[2])
    inputs = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.forward(weights, inputs), theirs(inputs))


def test_without_hidden_layers_it_is_linear():
    network, weights = perceptron((4,), [], 3, "relu", seed=0)
    assert {name: tuple(w.shape) for name, w in weights.items()} == {"layers.0.weight": (3, 4), "layers.0.bias": (3,)}
    assert torch.equal(network.forward(weights, torch.zeros(2, 4)), torch.zeros(2, 3))


@pytest.mark.parametrize(("activation", "gain"), [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "sigmoid")])
def test_initial_weights_are_hes(activation, gain):
    _, weights = perceptron((400,), [300], 200, activation, seed=1)
    for i, fan_in in enumerate((400, 300)):
        deviation = nn.init.calculate_gain(gain) / fan_in**0.5
        assert weights[f"layers.{i}.weight"].std().item() == pytest.approx(deviation, rel=0.02)
        assert abs(weights[f"layers.{i}.weight"].mean().item()) < 0.02 * deviation
        assert not weights[f"layers.{i}.bias"].any()


def test_initial_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (perceptron((5,), [4], 3, "relu", seed)[1] for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_layout_gives_the_published_counts():
    network, weights = perceptron((1, 28, 28), [50, 50, 50], 10, "relu", seed=0)
    assert [w.name for w in network.layout] == list(weights)
    assert network.layout[:2] == (
        Weight("layers.0.weight", (50, 784), "layers.0", outgoing=1, incoming=0),
        Weight("layers.0.bias", (50,), "layers.0", outgoing=None, incoming=0),
    )
    ranges = {"l2": L2, "learning_rate": LEARNING_RATE}
    for name, per, size in [
        ("l2", "neuron", 934),
        ("l2", "layer", 4),
        ("l2", "weight", 44_700),
        ("learning_rate", "neuron", 160),
        ("learning_rate", "layer", 4),
    ]:
        assert resolve({name: Dimension(per=per)}, ranges, network.layout, steps=9).size == size


def test_many_weights_at_once():
    network, weights = perceptron((2, 3), [5], 4, "tanh", seed=0)
    stack = {name: torch.stack([w, 2 * w, -w]) for name, w in weights.items()}
    inputs = torch.ones(7, 2, 3)
    together = torch.vmap(network.forward, in_dims=(0, None))(stack, inputs)
    for k in range(3):
        alone = network.forward({name: w[k] for name, w in stack.items()}, inputs)
        assert torch.allclose(together[k], alone, atol=1e-6)
