"""Networks of papers, for `problem.model`: importable where the command is typed at the root of the project."""

from __future__ import annotations

from itertools import pairwise
from math import exp, prod

from torch import nn


def drmad_mnist(input_shape, outputs):
    """Fu et al. 2016: 784-50-50-50-10, tanh; all weights and biases normal with deviation e⁻³·e^0.2."""
    return _perceptron(input_shape, outputs, std=exp(-3 + 0.2))


def maclaurin_mnist(input_shape, outputs):
    """Maclaurin, Duvenaud, Adams 2015, learning-rate schedules: the same network, deviation e⁻³."""
    return _perceptron(input_shape, outputs, std=exp(-3))


def _perceptron(input_shape, outputs, std):
    sizes = [prod(input_shape), 50, 50, 50, outputs]
    layers = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    network = nn.Sequential(*layers[:-1])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
    return network
