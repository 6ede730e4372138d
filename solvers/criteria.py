"""The losses on outputs whose derivatives are known in closed form, as means over the batch.

    softmax cross-entropy, targets int64 [B]:    slope = (p − Y)/B            bend(v) = (p∘v − p pᵀv)/B
    mean squared error, targets float [B, D]:    slope = 2(z − y)/(B D)       bend(v) = 2v/(B D)

p = softmax(z), Y the targets one-hot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(outputs `[B, D]`, targets) → mean loss, a scalar."""


class OutputLoss(NamedTuple):
    """`value(z, y)` a scalar, `slope(z, y)` its gradient `[B, D]`, `bend(z, v)` its Hessian times v, `[B, D]`."""

    name: str
    value: Criterion
    slope: Callable[[Tensor, Tensor], Tensor]
    bend: Callable[[Tensor, Tensor], Tensor]


def _softmax_slope(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.softmax(dim=1) - F.one_hot(targets, outputs.shape[1]).to(outputs)) / len(outputs)


def _softmax_bend(outputs: Tensor, v: Tensor) -> Tensor:
    p = outputs.softmax(dim=1)
    return p * (v - (p * v).sum(dim=1, keepdim=True)) / len(outputs)


def _squares_slope(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets) * (2 / outputs.numel())


def _squares_bend(outputs: Tensor, v: Tensor) -> Tensor:
    return v * (2 / outputs.numel())


SOFTMAX = OutputLoss("cross-entropy", F.cross_entropy, _softmax_slope, _softmax_bend)
SQUARES = OutputLoss("squared error", F.mse_loss, _squares_slope, _squares_bend)


def closed(criterion: Criterion, method: str) -> OutputLoss:
    """The closed form of torch's `cross_entropy` or `mse_loss`; raises ValueError naming `method` for another one."""
    for known in (SOFTMAX, SQUARES):
        if criterion is known.value:
            return known
    said = getattr(criterion, "__name__", repr(criterion))
    raise ValueError(f"{method} needs torch.nn.functional's cross_entropy or mse_loss as criterion, not {said}")
