"""The output block of an augmented Lagrangian: each row's z minimises loss(z; y) + (ρ/2)‖z − c‖², c given.

    squared error, (1/D)‖z − y‖² a row:    z = (2y/D + ρc) / (2/D + ρ)
    softmax cross-entropy:                 p − Y + ρ(z − c) = 0, by Newton; the system diag(p) + ρI − ppᵀ has a
                                           solution in closed form (Sherman, Morrison 1950)

Newton begins close by. With t = c + Y/ρ the condition reads z + p/ρ = t; where ρ is small, the largest z are equal, at
the level at which Σ max(t − level, 0) = 1/ρ, and p/ρ is what lies above it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.criteria import SOFTMAX, SQUARES, OutputLoss, one_hot

Proximal = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(centre c `[N, D]`, targets, ρ) → z `[N, D]`."""

ITERATIONS = 16
"""Newton steps taken. From this start 15 were the most that any of 2 to 1,000 classes, ρ from 1e-6 to 100 and centres
of any size took to 1e-10 in float64; 10 with ten classes."""


def proximal(loss: OutputLoss) -> Proximal:
    """The minimiser for this loss; differentiable once in c and ρ."""
    return {SOFTMAX.name: _cross_entropy, SQUARES.name: _squared_error}[loss.name]


def _squared_error(centre: Tensor, targets: Tensor, rho: Tensor) -> Tensor:
    pull = 2 / centre.shape[1]
    return (pull * targets + rho * centre) / (pull + rho)


def _cross_entropy(centre: Tensor, targets: Tensor, rho: Tensor) -> Tensor:
    """The derivative is that of the condition: one more Newton step, which moves nothing, from a constant z.

    Classes are rows here, `[D, N]`: a softmax over few columns is several times slower.
    """
    c, hot = centre.T.contiguous(), one_hot(targets, centre).T.contiguous()
    with torch.no_grad():
        z = _start(c, hot, rho)
        for _ in range(ITERATIONS):
            step = _newton(z, c, hot, rho)
            z = z - step * _safe(step.amax(dim=0) - step.amin(dim=0))
    z = z.detach()
    return (z - _newton(z, c, hot, rho)).T


def _newton(z: Tensor, c: Tensor, hot: Tensor, rho: Tensor) -> Tensor:
    """The system's inverse times the slope."""
    p = z.softmax(dim=0)
    others = p * (1 - hot)
    slope = others - hot * others.sum(dim=0) + rho * (z - c)  # p − Y, without cancellation at y
    share, step = p / (p + rho), slope / (p + rho)
    # 1 − Σp²/(p + ρ) = Σpρ/(p + ρ), without cancellation at small ρ
    return step + share * ((p * step).sum(dim=0) / (share * rho).sum(dim=0))


def _safe(spread: Tensor) -> Tensor:
    """log(1 + d)/d: a length that descends without a search, as the third derivative along a step is at most d, its
    spread over the classes, times the second (Sun, Tran-Dinh 2019: generalised self-concordance of order 2).
    """
    return torch.log1p(spread) / spread.clamp_min(torch.finfo(spread.dtype).tiny)


def _start(c: Tensor, hot: Tensor, rho: Tensor) -> Tensor:
    """p = ρ(t − z) above the level, at most 1; below it p ≈ ρ, as low as classes are pushed, if they are not lower."""
    t = c + hot / rho
    falling = t.sort(dim=0, descending=True).values
    counts = torch.arange(1, len(t) + 1, dtype=t.dtype, device=t.device).unsqueeze(1)
    level = ((falling.cumsum(dim=0) - 1 / rho) / counts).amax(dim=0)
    return torch.minimum(t, level + (rho * (t - level).clamp_min(1)).clamp_max(1).log())
