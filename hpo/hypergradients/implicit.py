"""Implicit differentiation at the end of the training (Bengio 2000; Pedregosa 2016; Lorraine, Vicol, Duvenaud 2020).

Where ∇_w L(w_T, λ) = 0, with L = loss + ½ Σ r·w², the implicit function theorem gives, for the validation loss f,

    dF/dλ = −∇_w f(w_T)ᵀ (H + damping)⁻¹ ∂²L/∂w∂λ

whatever way led to w_T: no state is kept, and T does not enter the cost. It knows only what shapes the loss: the
strengths of l2 and whatever the user's own loss reads. f has no hyperparameters of its own: no direct term.

Off a stationary point the error is of the order of ‖H⁻¹ ∇L(w_T)‖, so the gradient that was left is reported. In flat
directions no training of T steps arrives: where curvature times rate is h, T steps have gone 1 − (1 − h)^T of the way,
about h/(h + 1/T) of it. Damping of (1 − momentum)/(learning_rate·T) therefore makes H⁻¹ what the training made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.curvature import PRODUCT, Kind, Product, gauss_newton
from hpo.hypergradients.inverse import POWERS, Solution, conjugate_gradient, neumann, nystrom
from hpo.hypergradients.kept import States
from hpo.hypergradients.training import (
    Charge,
    Derivative,
    Training,
    families,
    validation_evaluations,
    validation_gradient,
)
from solvers.solver import Batch, Loss, State, gradient, loss_gradient, penalty
from solvers.vectors import Tensors, flatten

STATIONARY = 0.01
"""A training counts as stationary once its gradient is this small beside the one it started with."""

Inverse = Literal["cg", "neumann", "nystrom"]

INVERSES: Mapping[Inverse, Callable[[Product, Tensor, Tensor, int], Solution]] = {
    "cg": conjugate_gradient,
    "neumann": neumann,
    "nystrom": nystrom,
}


class Implicit(Afterwards):
    """The derivative of the point the training converges to; no state is kept on the way.

    `inverse`: how the linear system is solved, by conjugate gradients, a Neumann series or Nyström's approximation;
    `iterations`: its steps, terms or rank. `damping` is added to the curvature's diagonal, beside the penalty; None:
    what T steps amount to, (1 − momentum)/(rate·T), rate and momentum from the solver's heavy-ball form at the end.
    `curvature`: hessian (of the solver's own loss) or gauss-newton (of the criterion; never negative, and farther off
    where the rows are not fitted). `rows`: training rows, evenly spread, on which loss and curvature are taken; None
    for all. Raises ValueError for a value out of range.

    Cost, in gradient evaluations on `rows`: 1 at the start, 1 for the graph (2 with gauss-newton), 2 (hessian) or 4/3
    (gauss-newton) a product, 2 for the mixed derivative where the loss reads hyperparameters of its own; and the
    validation gradient. Products: `iterations`, 5 more for neumann, 1 more for nystrom.
    Report: gradient_norm ‖∇L(w_T)‖ on `rows`, relative_gradient_norm ‖∇L(w_T)‖/‖∇L(w_0)‖, stationary (1 where that
    is at most 0.01), residual of the linear system (relative), negative_curvature (1 where it was met), iterations.
    """

    def __init__(
        self,
        *,
        inverse: Inverse = "cg",
        iterations: int = 20,
        damping: float | None = None,
        curvature: Kind = "hessian",
        rows: int | None = None,
    ) -> None:
        if inverse not in get_args(Inverse):
            raise ValueError(f"inverse {inverse!r} must be one of {', '.join(get_args(Inverse))}")
        if iterations < 1:
            raise ValueError(f"iterations {iterations} must be 1 or more")
        if damping is not None and not damping >= 0:
            raise ValueError(f"damping {damping:g} must be 0 or more")
        if inverse == "nystrom" and damping == 0:
            raise ValueError("damping 0 must be above 0 for inverse nystrom, which divides by it")
        if curvature not in get_args(Kind):
            raise ValueError(f"curvature {curvature!r} must be one of {', '.join(get_args(Kind))}")
        if rows is not None and rows < 1:
            raise ValueError(f"rows {rows} must be 1 or more")
        self.inverse: Inverse = inverse
        self.iterations, self.damping = iterations, damping
        self.curvature: Kind = curvature
        self.rows = rows

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """See the class; cg and neumann may need fewer products than they are charged.

        Raises ValueError for hyperparameters that act outside the loss; with gauss-newton, for those of a loss of the
        user's own, as that matrix is made of the criterion alone; and for a solver without a `loss`.
        """
        _loss(training)
        declared = training.solver.hyperparameters
        acting = {name for name in families(hyper) if name not in declared or declared[name].in_loss}
        outside = [name for name in families(training.sought(hyper)) if name not in acting]
        if outside:
            raise ValueError(
                f"implicit cannot differentiate {', '.join(outside)}, which act outside the loss: use exact, drmad or "
                "forward, or fix it"
            )
        own = sorted(acting - {"l2"})
        if own and self.curvature == "gauss-newton":
            raise ValueError(
                f"curvature gauss-newton knows the criterion only, not the loss that reads {', '.join(own)}: use "
                "curvature hessian"
            )
        products = self.iterations + {"cg": 0, "neumann": POWERS, "nystrom": 1}[self.inverse]
        graphs = 2 if self.curvature == "gauss-newton" else 1
        mixed = PRODUCT["hessian"] if own else 0
        each = 1 + graphs + PRODUCT[self.curvature] * products + mixed
        share = self._rows(training) / len(training.batches(0).targets)
        count = sum(w.numel() for w in weights.values())
        vectors = 5 * min(self.iterations, count) if self.inverse == "nystrom" else 16
        memory = vectors * sum(w.numel() * w.element_size() for w in weights.values())
        return Charge(each * share + validation_evaluations(training), memory)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """None."""
        del training, weights, hyper
        return ()

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """The linear system at the end."""
        del weights
        return self.differentiate(training, hyper, states.start.weights, states[training.steps])

    def differentiate(self, training: Training, hyper: Tensors, start: Tensors, final: State) -> Derivative:
        """The derivative at `final` as if it were stationary; 0 for what acts outside the loss."""
        batch, weights = self._batch(training), final.weights
        slope = _slope(training, weights, hyper, batch)
        product = slope.hessian if self.curvature == "hessian" else gauss_newton(training, weights, batch)
        b = flatten(validation_gradient(training, weights))
        damping = unreached(training, hyper, final) if self.damping is None else self.damping
        solution = INVERSES[self.inverse](product, b, slope.strength.detach() + damping, self.iterations)
        before = gradient(_loss(training), start, hyper, batch)
        report = _report(flatten(before), slope.total.detach(), solution)
        return Derivative({name: x.double() for name, x in slope.mixed(-solution.x).items()}, report)

    def _rows(self, training: Training) -> int:
        count = len(training.train.targets)
        return count if self.rows is None else min(self.rows, count)

    def _batch(self, training: Training) -> Batch:
        whole, rows = training.train, self._rows(training)
        count = len(whole.targets)
        part = torch.arange(rows, device=whole.targets.device) * count // rows
        return whole if rows == count else Batch(whole.index, whole.inputs[part], whole.targets[part])


def unreached(training: Training, hyper: Tensors, final: State) -> Tensor:
    """(1 − momentum)/(rate·T) of each weight, `[N]`: T steps do not arrive where curvature is below. Schedules count by
    their mean.
    """
    local = {n.removesuffix("[t]"): x.mean(dim=0) if n.endswith("[t]") else x for n, x in hyper.items()}
    with torch.no_grad():
        ball = training.solver.heavy_ball(final, local, training.steps - 1)
        if ball is None:
            name = type(training.solver).__name__
            raise ValueError(f"implicit cannot tell what damping {training.steps} steps of {name} amount to: give one")
        return ((1 - ball.momentum) / (flatten(ball.rate) * training.steps)).clamp(min=0.0)


class _Slope(NamedTuple):
    """∇_w loss, r and ∇_w L = ∇_w loss + r·w, each `[N]`, as graphs that begin at `weights` and `hyper`."""

    loss: Tensor
    strength: Tensor
    total: Tensor
    weights: Tensors
    hyper: Tensors

    def hessian(self, x: Tensor) -> Tensor:
        """∇²loss x, without the penalty's part."""
        ends = list(self.weights.values())
        back = torch.autograd.grad(self.loss, ends, x, retain_graph=True, materialize_grads=True)
        return flatten(dict(zip(self.weights, back, strict=True)))

    def mixed(self, x: Tensor) -> dict[str, Tensor]:
        """(∂²L/∂w∂λ)ᵀ x, by name."""
        back = torch.autograd.grad(self.total, list(self.hyper.values()), x, materialize_grads=True)
        return dict(zip(self.hyper, back, strict=True))


def _slope(training: Training, weights: Tensors, hyper: Tensors, batch: Batch) -> _Slope:
    with torch.enable_grad():
        points = {name: w.detach().requires_grad_() for name, w in weights.items()}
        knobs = {name: x.detach().requires_grad_() for name, x in hyper.items()}
        loss = flatten(loss_gradient(_loss(training), points, knobs, batch))
        strengths = {name: penalty(knobs, name, w, batch.index) for name, w in points.items()}
        strength = flatten(
            {n: torch.zeros_like(w) if (r := strengths[n]) is None else r.expand(w.shape) for n, w in points.items()}
        )
        return _Slope(loss, strength, loss + strength * flatten(points), points, knobs)


def _loss(training: Training) -> Loss:
    """The solver's own loss, which may read hyperparameters."""
    loss: Loss | None = getattr(training.solver, "loss", None)
    if loss is None:
        name = type(training.solver).__name__
        raise ValueError(f"implicit needs the loss that is minimised, and {name} shows none as `loss`: use exact")
    return loss


def _report(before: Tensor, after: Tensor, solution: Solution) -> dict[str, float]:
    start, left = (float(torch.linalg.vector_norm(x)) for x in (before, after))
    relative = left / start if start > 0 else left
    return {
        "gradient_norm": left,
        "relative_gradient_norm": relative,
        "stationary": float(relative <= STATIONARY),
        "residual": solution.residual,
        "negative_curvature": float(solution.negative_curvature),
        "iterations": solution.iterations,
    }
