"""Fully connected stages whose units are standardised in training, and the plain stages that do the same.

    y = x Wᵀ + b      activation((y − mean) / √(variance + 1e-5))      of each unit over the rows (Ioffe, Szegedy 2015)

Over the rows of a minibatch this is how a stage is trained. Over fixed rows it is a plain stage, of other W and b.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.chain import ACTIVATIONS, Stage
from solvers.vectors import Tensors

FLOOR = 1e-5


def standardised(stage: Stage, activation: str, groups: int) -> Stage:
    """A fully connected stage as it is trained, with this activation: `[B, …]` → `[B, out]`.

    Inputs and units fall into `groups` of one size, side by side: of W, only the blocks on its diagonal are read.
    """
    function = ACTIVATIONS[activation]

    def forward(weights: Tensors, inputs: Tensor) -> Tensor:
        weight, bias = (weights[name] for name in stage.names)
        if groups == 1:
            values = F.linear(inputs.flatten(1), weight, bias)
        else:
            values = joined(split(inputs, groups) @ diagonal(weight, groups).mT) + bias
        return function(F.batch_norm(values, None, None, training=True, eps=FLOOR))

    return stage._replace(forward=forward)


def folded(stage: Stage, weights: Tensors, inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """W and b with which the plain stage is the standardised one on these rows, and its `[B, out]` there, before the
    activation.
    """
    weight, bias = (weights[name] for name in stage.names)
    values = F.linear(inputs.flatten(1), weight, bias)
    variance, mean = torch.var_mean(values, 0, correction=0)
    scale = (variance + FLOOR).rsqrt()
    own = (scale[:, None] * weight, scale * (bias - mean))
    return dict(zip(stage.names, own, strict=True)), scale * (values - mean)


def split(features: Tensor, groups: int) -> Tensor:
    """Features `[B, …]` as `[groups, B, units]`."""
    return features.flatten(1).unflatten(1, (groups, -1)).transpose(0, 1)


def joined(features: Tensor) -> Tensor:
    """The inverse of `split` for flat features: `[B, groups × units]`."""
    return features.transpose(0, 1).flatten(1)


def diagonal(weight: Tensor, groups: int) -> Tensor:
    """The blocks on the diagonal of `[out, in]`, as `[groups, out / groups, in / groups]`."""
    blocks = weight.unflatten(1, (groups, -1)).unflatten(0, (groups, -1))
    return blocks.diagonal(dim1=0, dim2=2).movedim(-1, 0)
