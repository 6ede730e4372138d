"""The tangent kernel H = J Jᵀ, J = d outputs/d weights (Jacot, Gabriel, Hongler 2018).

Gradient descent moves the outputs by −η H ∂F/∂outputs: where the smallest eigenvalue is not 0, every residual shrinks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from solvers.vectors import Tensors

HELD = 4e7
"""Numbers of the rows of J held at once; twice that while two blocks are multiplied."""
AT_ONCE = 16
"""Rows whose activations are held, once for each output."""


def gram(forward: Callable[[Tensors, Tensor], Tensor], weights: Tensors, inputs: Tensor) -> Tensor:
    """H `[N·D, N·D]` of `forward(weights, inputs [N, …])` → `[N, D]`; entry (i, k) is row i·D + k.

    J is of the weights' type and multiplied in float64: rounding it moves small eigenvalues by its square only.
    A row's outputs must not depend on the other rows. Rows of J that do not fit are computed again for each block.
    Cost: (N·D)²·P multiplications for P weights, and D backward passes through all rows for every block.
    """
    fixed = {name: w.detach() for name, w in weights.items()}
    with torch.no_grad():
        outputs = forward(fixed, inputs[:1]).shape[1]
    slopes = vmap(jacrev(lambda w, x: forward(w, x[None])[0]), in_dims=(None, 0), chunk_size=AT_ONCE)

    def jacobian(rows: Tensor) -> Tensor:
        with torch.no_grad():
            found = slopes(fixed, rows).values()
            return torch.cat([x.reshape(len(rows) * outputs, -1).double() for x in found], dim=1)

    size = max(1, int(HELD / (outputs * sum(w.numel() for w in fixed.values()))))
    blocks, side = inputs.split(size), len(inputs) * outputs
    kernel = inputs.new_empty((side, side), dtype=torch.float64)
    for i, block in enumerate(blocks):
        left, rows = jacobian(block), slice(i * size * outputs, (i * size + len(block)) * outputs)
        for j, other in enumerate(blocks[i:], start=i):
            columns = slice(j * size * outputs, (j * size + len(other)) * outputs)
            product = left @ (left if i == j else jacobian(other)).T
            kernel[rows, columns], kernel[columns, rows] = product, product.T
    return kernel


def ends(kernel: Tensor, precision: torch.dtype) -> tuple[float, float, float]:
    """(smallest, largest eigenvalue, what rounding makes of a 0) of the Gram of a J in `precision`.

    Raises ValueError where the kernel is not finite. Cost: a full decomposition.
    """
    if not bool(torch.isfinite(kernel).all()):
        raise ValueError("the derivatives of the outputs are not all finite")
    values = torch.linalg.eigvalsh(kernel)
    rounding = max(torch.finfo(precision).eps ** 2, torch.finfo(kernel.dtype).eps)
    return float(values[0]), float(values[-1]), float(values[-1]) * len(kernel) * rounding
