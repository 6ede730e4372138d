"""The losses on outputs whose derivatives are known in closed form, as means over the batch.

    softmax cross-entropy, targets int64 [B]:    slope = (p − Y)/B            bend(v) = (p∘v − p pᵀv)/B
    mean squared error, targets float [B, D]:    slope = 2(z − y)/(B D)       bend(v) = 2v/(B D)

p = softmax(z), Y the targets one-hot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(outputs `[B, D]`, targets) → mean loss, a scalar."""


class Local(NamedTuple):
    """A loss around outputs z: its gradient `[B, D]`, and v `[B, D]` → its Hessian times v."""

    slope: Tensor
    bend: Callable[[Tensor], Tensor]


class OutputLoss(NamedTuple):
    """`value(z, y)` a scalar; `local(z, y)` its derivatives, which share what they can."""

    name: str
    value: Criterion
    local: Callable[[Tensor, Tensor], Local]


def one_hot(targets: Tensor, outputs: Tensor) -> Tensor:
    """1 in the column of each row's class, else 0, `[N, D]`; torch's own looks at the values."""
    return (targets[:, None] == torch.arange(outputs.shape[1], device=targets.device)).to(outputs)


def _softmax(outputs: Tensor, targets: Tensor) -> Local:
    p, rows = outputs.softmax(dim=1), len(outputs)

    def bend(v: Tensor) -> Tensor:
        return p * (v - (p * v).sum(dim=1, keepdim=True)) / rows

    return Local((p - one_hot(targets, outputs)) / rows, bend)


def _squares(outputs: Tensor, targets: Tensor) -> Local:
    share = 2 / outputs.numel()
    return Local((outputs - targets) * share, lambda v: v * share)


SOFTMAX = OutputLoss("cross-entropy", F.cross_entropy, _softmax)
SQUARES = OutputLoss("squared error", F.mse_loss, _squares)


def closed(criterion: Criterion, method: str) -> OutputLoss:
    """The closed form of torch's `cross_entropy` or `mse_loss`; raises ValueError naming `method` for another one."""
    for known in (SOFTMAX, SQUARES):
        if criterion is known.value:
            return known
    said = getattr(criterion, "__name__", repr(criterion))
    raise ValueError(f"{method} needs torch.nn.functional's cross_entropy or mse_loss as criterion, not {said}")
