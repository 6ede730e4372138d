"""Many steps of the backward loop at once: the adjoint pulled back over one segment of a distilled path.

Between two states kept s steps apart the curvature H and the mixed derivative are taken as constant at the mean of the
steps' positions. The adjoint recursion of a heavy ball v ← μv + ∇L, w ← w − Dv,

    b ← b − D a ;   λ̄ ← λ̄ + (∂∇L/∂λ)ᵀ b ;   a ← a + H b ;   b ← μ b            (s times)

is then linear; in x = D^½ a, y = D^−½ b it has the symmetric matrix A = D^½ H D^½, whose Krylov space of m vectors from
{x, y} carries all s steps at the price of m products.
Derivatives of rates and momentum use the path's own velocity, Σ −v = (w_stop − w_start)/D: no noisy gradient enters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.curvature import Kind, Product, curvature
from hpo.hypergradients.krylov import subspace, sweep
from hpo.hypergradients.training import Training
from solvers.solver import Batch, State, penalty
from solvers.vectors import Tensors, between, flatten, subtract, unflatten


class Segment(NamedTuple):
    """Steps start … stop − 1 of a training, known by the states before the first and after the last of them."""

    start: int
    stop: int
    first: State
    last: State


class Pulled(NamedTuple):
    """The adjoints of weights and velocity before the segment, `[N]`, and its share of the hypergradient by name."""

    a: Tensor
    b: Tensor
    slopes: dict[str, Tensor]


class Reduction(NamedTuple):
    """How a segment is reduced: which matrix, on how many vectors, its eigenvalues clamped to [0, clamp] or not."""

    curvature: Kind
    krylov: int
    clamp: float | None


def pull_back_segment(
    training: Training, hyper: Tensors, segment: Segment, batch: Batch, reduction: Reduction, a: Tensor, b: Tensor
) -> Pulled:
    """Pull the adjoints `a`, `b` back over a segment, with curvature from `batch`.

    Cost, in gradient evaluations on `batch`: 1 and a curvature product for each Krylov vector; memory: 3m vectors.
    """
    start, stop, steps = segment.start, segment.stop, segment.stop - segment.start
    middle = between(segment.first, segment.last, (steps - 1) / (2 * steps))
    with torch.enable_grad():
        knobs = {name: x.detach().requires_grad_() for name, x in hyper.items()}
        local = _averaged(knobs, start, stop)
        after = between(segment.first, segment.last, (steps + 1) / (2 * steps))
        ball = training.solver.heavy_ball(after, local, start + (steps - 1) // 2)
        assert ball is not None  # DrMAD comes here with no other solver
        strengths = {n: penalty(local, n, w, start) for n, w in middle.weights.items()}
    rate = flatten(ball.rate).detach()
    root, moving = rate.sqrt(), rate > 0
    inverse = torch.where(moving, 1 / root, 0.0)  # a weight without a rate stays where it is, and passes nothing on
    strength = flatten({name: _everywhere(strengths[name], w) for name, w in middle.weights.items()})
    product = _scaled(curvature(reduction.curvature, training, middle.weights, batch), root, strength)
    space = subspace(product, [root * a, inverse * b], reduction.krylov)
    drag = 0.0 if ball.drag is None else float(ball.drag)
    swept = sweep(space, root * a, inverse * b, ball.momentum.detach().squeeze(), steps, reduction.clamp, drag)

    step = flatten(subtract(segment.last.weights, segment.first.weights)) / steps
    moved = step * inverse**2
    rate_bar = unflatten(inverse * swept.sum_x * moved, middle.weights)
    weight_bar = unflatten(root * swept.sum_y, middle.weights)
    seen = unflatten(flatten(middle.weights) + drag * step, middle.weights)  # the penalty drags the velocity, too
    momentum_bar = -torch.dot(root * swept.sum_y, moved)
    with torch.enable_grad():
        terms = [(ball.rate[n] * x).sum() for n, x in rate_bar.items()]
        terms += [(r * (seen[n] * weight_bar[n])).sum() for n, r in strengths.items() if r is not None]
        surrogate = torch.stack([*terms, ball.momentum.sum() * momentum_bar]).sum()
        slopes = torch.autograd.grad(surrogate, list(knobs.values()), materialize_grads=True)
    return Pulled(inverse * swept.x, root * swept.y, dict(zip(knobs, slopes, strict=True)))


def _scaled(product: Product, root: Tensor, strength: Tensor) -> Product:
    """x → D^½ (H + r) D^½ x."""

    def scaled(x: Tensor) -> Tensor:
        inside = root * x
        return root * (product(inside) + strength * inside)

    return scaled


def _averaged(hyper: Tensors, start: int, stop: int) -> dict[str, Tensor]:
    """Schedules replaced by their mean over the segment, which also spreads their derivative evenly over its steps."""
    plain = {name: x for name, x in hyper.items() if not name.endswith("[t]")}
    schedules = {name: x for name, x in hyper.items() if name not in plain}
    return plain | {name.removesuffix("[t]"): x[start:stop].mean(dim=0) for name, x in schedules.items()}


def _everywhere(value: Tensor | None, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if value is None else value.detach().expand(weight.shape)
