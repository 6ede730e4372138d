"""The gradient of a stage's weights from that of its outputs, where a loss has a slope in closed form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from solvers.chain import Stage
from solvers.solver import Batch
from solvers.vectors import Tensors, transformed

Slope = Callable[[Tensor], Tensor]
Pull = Callable[[Stage, Tensors, Tensor, Slope], dict[str, Tensor]]
"""(stage, weights, inputs, slope) → gᵀ ∂outputs/∂w of the stage's weights w, by name, with g = slope(outputs)."""


def pullback(weights: Tensors, hyper: Tensors, batch: Batch) -> Pull:
    """The way to do so in a step on these: with a graph exactly when grad mode is on and one of them requires grad.

    With a graph g is on the tape, too, but the gradient is the same.
    """
    given = (*weights.values(), *hyper.values(), batch.inputs, batch.targets)
    if transformed(*given):
        return _transformed
    return partial(_by_graph, torch.is_grad_enabled() and any(x.requires_grad for x in given))


def _transformed(stage: Stage, weights: Tensors, inputs: Tensor, slope: Slope) -> dict[str, Tensor]:
    own = {n: weights[n] for n in stage.names}
    outputs, pull, *_ = torch.func.vjp(lambda w: stage.forward(w, inputs), own)
    return pull(slope(outputs))[0]


def _by_graph(record: bool, stage: Stage, weights: Tensors, inputs: Tensor, slope: Slope) -> dict[str, Tensor]:
    own = {n: weights[n] for n in stage.names}
    with torch.enable_grad():
        points = {n: w if record and w.requires_grad else w.detach().requires_grad_() for n, w in own.items()}
        outputs = stage.forward(points, inputs)
    with torch.set_grad_enabled(record):
        slopes = torch.autograd.grad(outputs, list(points.values()), slope(outputs), create_graph=record)
    return dict(zip(points, slopes, strict=True))
