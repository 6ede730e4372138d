"""A network as a chain of stages, for the methods that look inside: each stage's output is the next one's input.

a_0 = x          a_l = stage_l(weights, a_{l−1})          outputs = a_L
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.vectors import Tensors

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "gelu": F.gelu,
}
"""By name, as torch.nn.functional has them; leaky_relu with its slope of 0.01."""


class Dense(NamedTuple):
    """activation(x Wᵀ + b) on flattened inputs: the names of W `[out, in]` and of b `[out]`, which may be missing."""

    weight: str
    bias: str | None
    activation: str = "identity"


class Stage(NamedTuple):
    """`forward(weights, inputs [B, …])` → `[B, …]`, of the weights called `names` alone; `dense` where it is one."""

    names: tuple[str, ...]
    forward: Callable[[Tensors, Tensor], Tensor]
    dense: Dense | None = None


Chain = tuple[Stage, ...]


def dense(weight: str, bias: str | None, activation: str = "identity") -> Stage:
    """A fully connected stage. Raises KeyError for an activation that is not in `ACTIVATIONS`."""
    function = ACTIVATIONS[activation]

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        return function(F.linear(inputs.flatten(1), weights[weight], None if bias is None else weights[bias]))

    return Stage((weight,) if bias is None else (weight, bias), forward, Dense(weight, bias, activation))


def through(chain: Chain, weights: Tensors, inputs: Tensor) -> Tensor:
    """The outputs of the last stage."""
    for stage in chain:
        inputs = stage.forward(weights, inputs)
    return inputs


def layers(chain: Chain, method: str) -> tuple[Dense, ...]:
    """The stages of a perceptron. Raises ValueError naming `method` and the first stage that is not fully connected."""
    for stage in chain:
        if stage.dense is None:
            raise ValueError(
                f"{method} trains fully connected stages only, a linear layer and one of {', '.join(ACTIVATIONS)}, and "
                f"{', '.join(stage.names)} is none"
            )
    return tuple(stage.dense for stage in chain if stage.dense is not None)
