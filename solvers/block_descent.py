"""The blocks of dlADMM that are not the output's, each a least-squares problem in units of its own stiffness:

    W   ½‖T − A Wᵀ‖² + ½ Σ ridge·W²             A = a_{l−1} `[N, in]`, T = z_l + û_l − b_l `[N, out]`
    a   ½‖T − a Wᵀ‖² + ½ tie·‖a − f‖²           T and W of the next layer, f = f_l(z_l) `[N, in]`
    z   (z − m)² + (a − f_l(z))², elementwise   m = W_l a_{l−1} + b_l

`solved_*` minimise; `descended_*` go along the slope g. On a quadratic, the test on which the paper doubles its θ until
φ(new) is below its model reads ‖A gᵀ‖² ≤ θ‖g‖²: the smallest θ that passes is known without a search, and is also that
of the exact line search. Nothing here increases its problem.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

FLOOR = 1e-6
"""Ridge of the systems in W, relative to the mean diagonal, which pulls to the old W: the column of a unit that is
never active would have no solution, and stays."""

DOUBLINGS = 40
"""The paper's θ and τ are at most 2 to this power; the largest curvature of 60,000 images at ρ = 10 is below 2³⁰."""


def solved_weights(weight: Tensor, inputs: Tensor, misfit: Tensor, ridge: Tensor | None, gram: Tensor) -> Tensor:
    """The minimiser in W; misfit = T − A Wᵀ, `gram` = AᵀA. One factorisation serves all rows of W if they share the
    ridge, a scalar or `[1, in]`; otherwise each row has its own, in 2·out·in² numbers of memory.
    """
    system = _raised(gram, FLOOR * (gram.diagonal().mean() + FLOOR) + _rounding(gram))
    slope = misfit.T @ inputs
    if ridge is None:
        return weight + _solve(system, slope.T).T
    slope = slope - ridge * weight
    if ridge.dim() < 2 or len(ridge) == 1:
        return weight + _solve(system + torch.diag_embed(ridge.broadcast_to(gram.shape)[0]), slope.T).T
    systems = system + torch.diag_embed(ridge.broadcast_to(weight.shape))
    return weight + _solve(systems, slope.unsqueeze(-1)).squeeze(-1)


def solved_activations(a: Tensor, f: Tensor, weight: Tensor, target: Tensor, tie: Tensor) -> Tensor:
    """The minimiser in a: with anchor f, anchor + (T − anchor Wᵀ)·gain, gain = (WWᵀ + tie·I)⁻¹W = W(WᵀW + tie·I)⁻¹
    `[out, in]`, whichever system is smaller. Where rounding drowns `tie`, it is raised, and the anchor drawn to old a.
    """
    wide = weight.shape[0] < weight.shape[1]
    gram = weight @ weight.T if wide else weight.T @ weight
    raised = tie + _rounding(gram)
    system = _raised(gram, raised)
    gain = _solve(system, weight) if wide else _solve(system, weight.T).T
    anchor = torch.lerp(a, f, tie / raised)
    return anchor + (target - anchor @ weight.T) @ gain


def descended_weights(
    weight: Tensor, inputs: Tensor, misfit: Tensor, ridge: Tensor | None, gram: Tensor | None, doubled: Tensor | None
) -> Tensor:
    """W − g/θ, g = −misfitᵀA; with a ridge (θW − g)/(θ + ridge), but no further than the minimum on that way.

    `doubled`: the stiffness c, for the paper's θ: the smallest power of two, from 1, that is no less than cθ*.
    """
    slope = -misfit.T @ inputs
    theta = curvature(slope, _stretched(slope, inputs, gram), doubled)
    if ridge is None:
        return weight - slope / theta
    slope = slope + ridge * weight
    step = slope / (theta + ridge)
    bent = _stretched(step, inputs, gram) + (ridge * step.square()).sum()
    furthest = (slope * step).sum() / (bent + torch.finfo(bent.dtype).tiny)
    return weight - step * furthest.clamp_max(1)


def descended_activations(
    a: Tensor, f: Tensor, weight: Tensor, misfit: Tensor, tie: Tensor, doubled: Tensor | None
) -> Tensor:
    """a − g/τ, g = −misfit W + tie·(a − f); misfit = T − a Wᵀ."""
    slope = torch.addcmul(-misfit @ weight, tie, a - f)
    stretched = (slope @ weight.T).square().sum() + tie * slope.square().sum()
    return a - slope / curvature(slope, stretched, doubled)


def curvature(slope: Tensor, stretched: Tensor, doubled: Tensor | None = None) -> Tensor:
    """θ* = ⟨g, Hg⟩/‖g‖² from g and ⟨g, Hg⟩: the smallest θ for which φ(w) + ⟨g, v − w⟩ + (θ/2)‖v − w‖² is no less than
    φ(v) at v = w − g/θ. `doubled`: see `descended_weights`; the doublings are constants to a derivative.
    """
    tiny = torch.finfo(slope.dtype).tiny  # without a slope there is no step, and no 0/0
    theta = (stretched + tiny) / (slope.square().sum() + tiny)
    if doubled is None:
        return theta
    return torch.exp2(torch.log2(doubled * theta.detach()).ceil().clamp(0, DOUBLINGS)) / doubled


def hidden(m: Tensor, a: Tensor, leak: float) -> Tensor:
    """The z whose point (z, f(z)) is closest to (m, a), where f(z) = z above 0 and leak·z below.

    The points form two rays from 0, and a ray is as close as the inner product with its unit vector is large.
    """
    above, below = m + a, m + leak * a
    nearer = above / sqrt(2) + below / sqrt(1 + leak**2) > 0
    return torch.where(nearer, above.clamp_min(0) / 2, below.clamp_max(0) / (1 + leak**2))


def _stretched(slope: Tensor, inputs: Tensor, gram: Tensor | None) -> Tensor:
    """‖A gᵀ‖²."""
    return (inputs @ slope.T).square().sum() if gram is None else (slope @ gram * slope).sum()


def _rounding(gram: Tensor) -> Tensor:
    """What makes a Gram matrix definite that rounding has left indefinite: measured up to half of this in float32."""
    return 4 * torch.finfo(gram.dtype).eps * gram.diagonal().sum()


def _raised(gram: Tensor, by: Tensor) -> Tensor:
    return gram + torch.diag_embed(by.expand(len(gram)))


def _solve(system: Tensor, right: Tensor) -> Tensor:
    """By Cholesky's factors; NaN where the system is not definite or not finite, no exception."""
    factor, failed = torch.linalg.cholesky_ex(system)
    return torch.cholesky_solve(right, torch.where(failed[..., None, None] > 0, torch.nan, factor))
