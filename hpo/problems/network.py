"""A network as a plain function of its weights, and the perceptron of the study file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod, sqrt
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from hpo.space import Weight
from solvers.chain import Chain, Stage, dense, through
from solvers.vectors import Tensors


class Network(NamedTuple):
    """`forward(weights, inputs [B, …])` → outputs `[B, D]`; `layout` says where the units of each weight lie.

    `constants` are tensors that are not trained and yet belong to the network: frozen parameters, buffers.
    `chain`: the same network stage by stage, where it is known to be a chain.
    """

    forward: Callable[[Tensors, Tensor], Tensor]
    layout: tuple[Weight, ...]
    constants: Tensors = MappingProxyType({})
    chain: Chain | None = None


GAINS = {
    "relu": sqrt(2),
    "leaky_relu": sqrt(2 / (1 + 0.01**2)),
    "tanh": 5 / 3,
    "sigmoid": 1.0,
    "softplus": sqrt(2),
    "gelu": sqrt(2),
}
"""What keeps the size of the signal from layer to layer (torch.nn.init.calculate_gain; softplus and gelu, which it
does not list, as relu)."""


def perceptron(
    input_shape: Sequence[int], widths: Sequence[int], outputs: int, activation: str, seed: int
) -> tuple[Network, dict[str, Tensor]]:
    """Fully connected layers on the flattened inputs, the last one linear, and their initial weights.

    `layers.i.weight` `[out, in]` is normal with deviation gain/√in (He, Zhang, Ren, Sun 2015, eq. 10), drawn from the
    seed on the CPU; `layers.i.bias` `[out]` is 0.
    """
    gain = GAINS[activation]
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    layout: list[Weight] = []
    chain: list[Stage] = []
    for i, (fan_in, fan_out) in enumerate(pairwise((prod(input_shape), *widths, outputs))):
        layer = f"layers.{i}"
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        weights[weight] = torch.randn(fan_out, fan_in, generator=generator) * (gain / sqrt(fan_in))
        weights[bias] = torch.zeros(fan_out)
        layout.append(Weight(weight, (fan_out, fan_in), layer, outgoing=1, incoming=0))
        layout.append(Weight(bias, (fan_out,), layer, outgoing=None, incoming=0))
        chain.append(dense(weight, bias, activation if i < len(widths) else "identity"))
    return Network(partial(through, tuple(chain)), tuple(layout), chain=tuple(chain)), weights
