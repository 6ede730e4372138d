"""A network as a plain function of its weights, and the perceptron of the study file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.space import Weight
from solvers.vectors import Tensors


class Network(NamedTuple):
    """`forward(weights, inputs [B, …])` → outputs `[B, D]`; `layout` says where the units of each weight lie.

    `constants` are tensors that are not trained and yet belong to the network: frozen parameters, buffers.
    """

    forward: Callable[[Tensors, Tensor], Tensor]
    layout: tuple[Weight, ...]
    constants: Tensors = MappingProxyType({})


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, sqrt(2)),
    "tanh": (torch.tanh, 5 / 3),
    "sigmoid": (torch.sigmoid, 1.0),
    "softplus": (F.softplus, sqrt(2)),
    "gelu": (F.gelu, sqrt(2)),
}
"""The function, and the gain that keeps the size of the signal from layer to layer (torch.nn.init.calculate_gain;
softplus and gelu, which it does not list, as relu)."""


def perceptron(
    input_shape: Sequence[int], widths: Sequence[int], outputs: int, activation: str, seed: int
) -> tuple[Network, dict[str, Tensor]]:
    """Fully connected layers on the flattened inputs, the last one linear, and their initial weights.

    `layers.i.weight` `[out, in]` is normal with deviation gain/√in (He, Zhang, Ren, Sun 2015, eq. 10), drawn from the
    seed on the CPU; `layers.i.bias` `[out]` is 0.
    """
    function, gain = ACTIVATIONS[activation]
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    layout: list[Weight] = []
    for i, (fan_in, fan_out) in enumerate(pairwise((prod(input_shape), *widths, outputs))):
        layer = f"layers.{i}"
        weights[f"{layer}.weight"] = torch.randn(fan_out, fan_in, generator=generator) * (gain / sqrt(fan_in))
        weights[f"{layer}.bias"] = torch.zeros(fan_out)
        layout.append(Weight(f"{layer}.weight", (fan_out, fan_in), layer, outgoing=1, incoming=0))
        layout.append(Weight(f"{layer}.bias", (fan_out,), layer, outgoing=None, incoming=0))
    *hidden, last = [(f"layers.{i}.weight", f"layers.{i}.bias") for i in range(len(widths) + 1)]

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        x = inputs.flatten(1)
        for weight, bias in hidden:
            x = function(F.linear(x, weights[weight], weights[bias]))
        return F.linear(x, weights[last[0]], weights[last[1]])

    return Network(forward, tuple(layout)), weights
