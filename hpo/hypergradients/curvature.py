"""Curvature of the training loss as a product with a vector, on one fixed batch.

Both build one graph and then pay only for the extra backward passes of each vector; vectors are flat, `[N]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from hpo.hypergradients.training import Training
from solvers.solver import Batch
from solvers.vectors import Tensors, flatten, unflatten

Product = Callable[[Tensor], Tensor]
"""A flat vector `[N]` → the matrix times it, `[N]`."""

Kind = Literal["gauss-newton", "hessian"]

PRODUCT: Mapping[Kind, float] = {"gauss-newton": 4 / 3, "hessian": 2.0}
"""Gradient evaluations charged for a product on a training batch, by arithmetic: a gradient is a forward and a backward
pass, 1 + 2 units; Jx and Jᵀx are 2 each; a double backward pass is 6. The graph they share is charged 1."""


def curvature(kind: Kind, training: Training, weights: Tensors, batch: Batch) -> Product:
    """The chosen matrix at `weights`, without the penalty's part."""
    return (gauss_newton if kind == "gauss-newton" else hessian)(training, weights, batch)


def gauss_newton(training: Training, weights: Tensors, batch: Batch) -> Product:
    """x → Jᵀ H_z J x: J the Jacobian of the outputs, H_z the criterion's Hessian at them (Schraudolph 2002).

    Positive semi-definite for cross-entropy and squared error. Jx is the derivative of u → Jᵀu, so only
    backward passes are needed. Cost of a product: 4/3 gradient evaluations on `batch`.
    """
    with torch.enable_grad():
        points = {name: w.detach().requires_grad_() for name, w in weights.items()}
        inside = list(points.values())
        outputs = training.forward(points, batch.inputs)
        seed = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, inside, seed, create_graph=True, materialize_grads=True)
        tips = outputs.detach().requires_grad_()
        slope = torch.autograd.grad(training.criterion(tips, batch.targets), tips, create_graph=True)[0]

    def product(x: Tensor) -> Tensor:
        parts = list(unflatten(x, weights).values())
        moved = torch.autograd.grad(pulled, seed, parts, retain_graph=True)[0]
        bent = torch.autograd.grad(slope, tips, moved, retain_graph=True)[0]
        back = torch.autograd.grad(outputs, inside, bent, retain_graph=True, materialize_grads=True)
        return flatten(dict(zip(weights, back, strict=True)))

    return product


def hessian(training: Training, weights: Tensors, batch: Batch) -> Product:
    """x → ∇²loss x by double backward (Pearlmutter 1994). Cost of a product: 2 gradient evaluations on `batch`."""
    with torch.enable_grad():
        points = {name: w.detach().requires_grad_() for name, w in weights.items()}
        inside = list(points.values())
        loss = training.criterion(training.forward(points, batch.inputs), batch.targets)
        slopes = torch.autograd.grad(loss, inside, create_graph=True, materialize_grads=True)

    def product(x: Tensor) -> Tensor:
        parts = list(unflatten(x, weights).values())
        back = torch.autograd.grad(slopes, inside, parts, retain_graph=True, materialize_grads=True)
        return flatten(dict(zip(weights, back, strict=True)))

    return product
