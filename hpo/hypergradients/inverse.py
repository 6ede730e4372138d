"""Linear systems (A + diag(d)) x = b from products with a symmetric matrix A `[N, N]` alone; vectors are flat, `[N]`.

`diagonal` d is a number or `[N]`: damping, penalties. No global state, no random numbers but those of a seed made
from N. Where a product or b is not finite, neither is x.
"""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.curvature import Product

TOLERANCE = 1e-8
"""The iterations end once ‖b − (A + diag(d)) x‖ is at most this share of ‖b‖."""

POWERS = 5
"""Products with which `neumann` looks for the largest eigenvalue before its first term."""


class Solution(NamedTuple):
    """x; ‖b − (A + diag(d)) x‖ / ‖b‖; how many products led to x; whether one found the matrix not positive."""

    x: Tensor
    residual: float
    iterations: int
    negative_curvature: bool


def conjugate_gradient(product: Product, b: Tensor, diagonal: Tensor | float, iterations: int) -> Solution:
    """Conjugate gradients (Hestenes, Stiefel 1952).

    Exact after as many steps as there are different eigenvalues; the error falls by (√κ − 1)/(√κ + 1) a step, κ the
    condition number. Where pᵀMp ≤ 0, M = A + diag(d), it stops with the x of the least residual; at
    the first step x is b, scaled. Cost: a product a step; 4 vectors.
    """
    x, r, p = torch.zeros_like(b), b, b
    left = torch.linalg.vector_norm(b)
    best, least = (x, r), left
    enough = TOLERANCE * left
    for step in range(iterations):
        if bool(left <= enough):
            return _solution(x, b, r, step)
        image = product(p) + diagonal * p
        bend = torch.dot(p, image)
        if bool(bend <= 0):  # the last steps before it may have gone far astray along what is nearly flat
            return _stopped(best[0], b, best[1], image, step)
        share = left**2 / bend
        x, r = x + share * p, r - share * image
        before, left = left, torch.linalg.vector_norm(r)
        if bool(left < least):
            best, least = (x, r), left
        p = r + (left / before) ** 2 * p
    return _solution(x, b, r, iterations)


def neumann(product: Product, b: Tensor, diagonal: Tensor | float, iterations: int) -> Solution:
    """The series a Σ_j (I − aM)^j b of M = A + diag(d) (Lorraine, Vicol, Duvenaud 2020, equation 8).

    It converges for a < 2/λ_max, by 1 − a λ_min a term. a = 1/λ, λ the estimate of `POWERS` power iterations from b,
    and raised, at no cost, by every later term that shows it too low: the sum then goes on as Richardson's iteration.
    Where rᵀMr ≤ 0 it stops as `conjugate_gradient` does. Cost: `POWERS` + `iterations` products; 4 vectors.
    """
    top, v = b.new_zeros(()), b
    for _ in range(POWERS):
        v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(b.dtype).tiny)
        v = product(v) + diagonal * v
        top = torch.maximum(top, torch.linalg.vector_norm(v))
    x, r = torch.zeros_like(b), b
    enough = TOLERANCE * torch.linalg.vector_norm(b)
    for step in range(iterations):
        left = torch.linalg.vector_norm(r)
        if bool(left <= enough):
            return _solution(x, b, r, step)
        image = product(r) + diagonal * r
        if bool(torch.dot(r, image) <= 0):
            return _stopped(x, b, r, image, step)
        top = torch.maximum(top, torch.linalg.vector_norm(image) / left)
        x, r = x + r / top, r - image / top
    return _solution(x, b, r, iterations)


def nystrom(product: Product, b: Tensor, diagonal: Tensor | float, iterations: int) -> Solution:
    """A replaced by its Nyström approximation of rank `iterations` (Hataya, Yamada 2023), then solved exactly.

    Of D^-½ A D^-½, so that the diagonal (above 0 throughout) is exact and not part of what is approximated; on an
    orthonormal Gaussian range Ω instead of sampled columns, as (AΩ)(ΩᵀAΩ)⁺(AΩ)ᵀ (Frangella, Tropp, Udell 2023).
    Directions of negative curvature are left out. What the rank does not reach is divided by the diagonal alone, and
    counts too much: see the residual. Cost: `iterations` + 1 products, the last one for the residual; 3 · `iterations`
    vectors.
    """
    root = torch.as_tensor(diagonal, dtype=b.dtype, device=b.device).sqrt()
    generator = torch.Generator().manual_seed(b.numel())
    rank = min(iterations, b.numel())
    basis = torch.linalg.qr(torch.randn(b.numel(), rank, generator=generator, dtype=b.dtype)).Q.to(b.device)
    images = torch.stack([product(q / root) / root for q in basis.unbind(dim=1)], dim=1)
    small = basis.T @ images
    if not bool(torch.isfinite(small).all()):
        return _solution(b, b, torch.full_like(b, torch.nan), rank)
    values, rotation = torch.linalg.eigh((small + small.T) / 2)
    rounding = rank * torch.finfo(b.dtype).eps * values.abs().max()
    kept = values > rounding
    factor = images @ rotation[:, kept] / values[kept].sqrt()
    u, s, _ = torch.linalg.svd(factor, full_matrices=False)
    scaled = b / root
    x = (scaled - u @ (s**2 / (1 + s**2) * (u.T @ scaled))) / root
    return _solution(x, b, b - product(x) - diagonal * x, rank, negative=bool(values[0] < -rounding))


def _solution(x: Tensor, b: Tensor, r: Tensor, steps: int, *, negative: bool = False) -> Solution:
    size = torch.linalg.vector_norm(b)
    residual = float(torch.linalg.vector_norm(r) / size) if bool(size != 0) else 0.0
    return Solution(x if isfinite(residual) else torch.full_like(x, torch.nan), residual, steps, negative)


def _stopped(x: Tensor, b: Tensor, r: Tensor, image: Tensor, steps: int) -> Solution:
    """What is returned at negative curvature: x as it is, or, before the first step, b over the size of its image."""
    if steps:
        return _solution(x, b, r, steps, negative=True)
    size = torch.linalg.vector_norm(image)
    share = torch.linalg.vector_norm(b) / size if bool(size > 0) else 1.0
    return _solution(share * b, b, b - share * image, 1, negative=True)
