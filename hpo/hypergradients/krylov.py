"""Many steps of a linear recursion at the price of a few products with its matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.curvature import Product


class Subspace(NamedTuple):
    """An orthonormal basis `[N, m]` and the eigen-decomposition of the matrix restricted to it.

    `vectors` `[N, m]` are the approximate eigenvectors, `values` `[m]` (float64) their eigenvalues.
    """

    vectors: Tensor
    values: Tensor


class Swept(NamedTuple):
    """The pair (x, y) after the steps, and the sums over the steps of x (before) and y (after its first update)."""

    x: Tensor
    y: Tensor
    sum_x: Tensor
    sum_y: Tensor


def subspace(product: Product, starts: list[Tensor], dimension: int) -> Subspace:
    """The block Krylov space of a symmetric matrix from one or two start vectors `[N]`, at most `dimension` wide.

    Full re-orthogonalisation, done twice: in float32 one pass is not enough. Cost: `dimension` products at most;
    fewer where the space closes on itself. What is not finite makes every eigenvalue NaN.
    """
    basis: list[Tensor] = []
    images: list[Tensor] = []
    for start in starts:
        _extend(basis, start)
    while len(images) < len(basis):
        images.append(product(basis[len(images)]))
        if len(basis) < dimension:
            _extend(basis, images[-1])
    if not basis:
        empty = starts[0].new_zeros((starts[0].numel(), 0))
        return Subspace(empty, empty.new_zeros(0, dtype=torch.float64))
    q = torch.stack(basis, dim=1)
    small = (q.T @ torch.stack(images, dim=1)).double()
    if not bool(torch.isfinite(small).all()):
        return Subspace(q, torch.full_like(small[0], torch.nan))
    values, rotation = torch.linalg.eigh((small + small.T) / 2)
    return Subspace(q @ rotation.to(q.dtype), values)


def _extend(basis: list[Tensor], vector: Tensor) -> None:
    """Append the part of `vector` that is new, unless it is nothing but rounding."""
    size = torch.linalg.vector_norm(vector)
    fresh = vector
    for _ in range(2):
        for q in basis:
            fresh = fresh - torch.dot(q, fresh) * q
    left = torch.linalg.vector_norm(fresh)
    if not bool(left <= 100 * torch.finfo(vector.dtype).eps * size):  # true of NaN as well, which must show
        basis.append(fresh / left)


def sweep(
    space: Subspace, x: Tensor, y: Tensor, momentum: Tensor, steps: int, clamp: float | None, drag: float = 0.0
) -> Swept:
    """`steps` times  y ← y − x ;  sum_y += y ;  sum_x += x ;  x ← x + A y ;  y ← (momentum − drag·A) y, in the space.

    Eigenvalues of A are clamped to [0, clamp·min(1, 1 + momentum)/(1 + 2·drag)], and with a drag momentum to ±0.99:
    outside [0, 2(1 + momentum)/(1 + 2·drag)) the recursion explodes. Each eigenvalue gives a 4×4 matrix, raised to the
    power `steps` by squaring in float64: O(m log steps).
    """
    usual, theta = momentum.double(), space.values
    if clamp is not None:
        usual = usual.clamp(-0.99, 0.99) if drag else usual
        theta = torch.minimum(theta.clamp(min=0.0), clamp * (1 + usual).clamp(max=1.0) / (1 + 2 * drag))
    one, nought, mu = torch.ones_like(theta), torch.zeros_like(theta), usual - drag * theta
    rows = [
        torch.stack([1 - theta, theta, nought, nought], dim=-1),
        torch.stack([-mu, mu, nought, nought], dim=-1),
        torch.stack([one, nought, one, nought], dim=-1),
        torch.stack([-one, one, nought, one], dim=-1),
    ]
    power = torch.linalg.matrix_power(torch.stack(rows, dim=-2), steps)
    inside = torch.stack([space.vectors.T @ x, space.vectors.T @ y], dim=-1).double()
    ends = (power[:, :, :2] @ inside.unsqueeze(-1)).squeeze(-1).to(x.dtype)
    return Swept(*(space.vectors @ ends).unbind(dim=1))
