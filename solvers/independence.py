"""How much two sets of features have to do with one another: the normalised Hilbert-Schmidt independence criterion.

    K[i, j] = exp(−‖x_i − x_j‖² / (2σ²d))      d: the number of features            Gaussian kernel
    R = HKH (HKH + εm 1)⁻¹                     m rows, H = 1 − 11ᵀ/m                 what is left of K, centred
    nHSIC(X, Y) = tr(R_X R_Y)                  between 0 and the rank of either, so below K − 1 for K classes

(Fukumizu, Gretton, Sun, Schölkopf 2008; σ√d and ε = 1e-5 as in Ma, Lewis, Kleijn 2020, whose K is centred from one
side: the trace is the same.) Everything holds for leading axes, which are carried along, and may be differentiated.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

EPSILON = 1e-5


def kernel(x: Tensor, sigma: Tensor) -> Tensor:
    """K − 1 of the rows of `x` `[…, m, d]` as `[…, m, m]`, for widths `[…]` in units of √d.

    K is close to 1 everywhere where σ is large. All that follows centres it, and the constant would only cost digits.
    """
    squares = x.square().sum(-1)
    distances = (squares[..., :, None] + squares[..., None, :] - 2 * (x @ x.mT)).clamp_min(0)
    return torch.expm1(distances / (-2 * x.shape[-1] * sigma.square()[..., None, None]))


def centred(matrix: Tensor) -> Tensor:
    """H A H for a symmetric A `[…, m, m]`."""
    means = matrix.mean(-1, keepdim=True)
    return matrix - means - means.mT + means.mean(-2, keepdim=True)


class _Inverse(torch.autograd.Function):
    """S⁻¹ of a symmetric positive definite S `[…, m, m]` by its Cholesky factor; dS⁻¹ = −S⁻¹ dS S⁻¹.

    The factor's own derivatives are slower, and that of `cholesky_inverse` is wrong in forward mode (PyTorch #196682).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        del inputs
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (inverse,), (slope,) = ctx.saved_tensors, grad_outputs
        return -(inverse @ slope @ inverse)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor) -> Tensor:
        return _Inverse.backward(ctx, *grad_inputs)


def resolvent(gram: Tensor) -> Tensor:
    """(H K H + εm 1)⁻¹ of a kernel matrix `[…, m, m]`; not finite where the kernel is not. Cost: m³ flops."""
    ridge = EPSILON * gram.shape[-1] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return cast(Tensor, _Inverse.apply(centred(gram) + ridge))


def dependence(x: Tensor, sigma: Tensor) -> Tensor:
    """R of the rows of `x` `[…, m, d]`, `[…, m, m]`."""
    inverse = resolvent(kernel(x, sigma))
    unit = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    return unit - EPSILON * x.shape[-2] * inverse


def nhsic(x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
    """tr(R_X R_Y) `[…]` of rows `[…, m, d]` and `[…, m, c]`, both with width `sigma` `[…]`."""
    return (dependence(x, sigma) * dependence(y, sigma)).sum((-2, -1))


def slope(z: Tensor, bottleneck: Tensor, sigma: Tensor) -> Tensor:
    """The gradient of ⟨R_Z, M⟩ with respect to `z` `[…, m, d]`, for a symmetric M `[…, m, m]`, as `[…, m, d]`:

        −2/(σ²d) (diag(P1) − P) z       P = K ∘ H G H       G = εm S⁻¹ M S⁻¹       S = HKH + εm 1

    Cost: 7m³ + 4m²d flops, a third of the time of differentiating tr(R_Z M). It can be differentiated itself.
    """
    gram = kernel(z, sigma)
    inverse = resolvent(gram)
    pull = (1 + gram) * centred(inverse @ bottleneck @ inverse)
    rate = 2 * EPSILON * z.shape[-2] / (z.shape[-1] * sigma.square()[..., None, None])
    return rate * (pull @ z - pull.sum(-1, keepdim=True) * z)


def indicators(classes: Tensor, count: int, like: Tensor) -> Tensor:
    """Classes `[m]` as rows of zeros and a one, `[m, count]`, typed as `like`."""
    return (classes[:, None] == torch.arange(count, device=classes.device)).to(like.dtype)
