"""DrMAD: reverse mode along a path distilled from the training (Fu, Luo, Feng, Low, Chua, IJCAI 2016), made stable.

The paper keeps only w_0 and w_T and pulls the adjoint back along the straight line between them; there the loss has
negative and too large curvature for hundreds of steps, and the pass explodes or, cut short, sees only the last steps.
Here P + 1 states ("knots") are kept, still independent of T. Between two knots curvature and mixed derivative are
taken as constant at the mean of its steps' positions, so that the adjoint recursion of a heavy ball
v ← μv + ∇L,  w ← w − Dv,

    b ← b − D a ;   λ̄ ← λ̄ + (∂∇L/∂λ)ᵀ b ;   a ← a + H b ;   b ← μ b            (s = T/P times)

is linear; in x = D^½ a, y = D^−½ b it has the symmetric matrix A = D^½ H D^½, whose Krylov space of m vectors from
{x, y} carries all s steps at the price of m products, whatever T is. H is the Gauss-Newton matrix plus the penalty's r.
Derivatives of rates and momentum use the knots' own velocity, Σ −v = (w_{j+1} − w_j)/D: no noisy gradient enters.

`steps: S` asks for the paper's own pass instead: S steps of the backward loop along the line through the knots.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import get_args

import torch
from torch import Tensor

from hpo.hypergradients.adjoint import Reversed, final_adjoint, pull_back_start, reverse
from hpo.hypergradients.curvature import Kind, Product, curvature
from hpo.hypergradients.krylov import subspace, sweep
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Following,
    Training,
    families,
    state_bytes,
    validation_evaluations,
    validation_gradient,
    walk,
)
from solvers.solver import Batch, State, penalty
from solvers.vectors import Tensors, flatten, leaves, rebuild, subtract, unflatten, zeros

PRODUCT: Mapping[Kind, float] = {"gauss-newton": 4 / 3, "hessian": 2.0}
"""Gradient evaluations charged for a curvature product on a training batch, by arithmetic: a gradient is a forward
and a backward pass, 1 + 2 units; Jx and Jᵀx are 2 each; a double backward pass is 6. A segment's graph is charged 1."""


TRUSTED = {"l2", "learning_rate", "momentum", "initial_scale"}


class DrMAD:
    """Reverse mode over `knots` kept states; memory (knots)·N and `krylov`·N, independent of T.

    `knots`: how many states are kept, evenly in time, first and last included (2 is the paper's chord).
    `krylov`: dimension of the space on each segment. `curvature`: gauss-newton or hessian (clamped either way).
    `rows`: training rows in the curvature batch, None for five minibatches.
    `clamp`: the eigenvalues of A are clamped to [0, clamp]; None lets all through.
    `steps`: None, or the number S of reverse steps of the paper's pass. Raises ValueError for a value out of range.
    Cost, in gradient evaluations: (knots − 1) · (1 + 4/3 krylov) · rows/batch, or 4 S; and the validation gradient.
    """

    def __init__(
        self,
        *,
        knots: int = 5,
        krylov: int = 8,
        curvature: Kind = "gauss-newton",
        rows: int | None = None,
        clamp: float | None = 1.9,
        steps: int | None = None,
    ) -> None:
        if knots < 2:
            raise ValueError(f"knots {knots} must be 2 or more: the first and the last state")
        if krylov < 2:
            raise ValueError(f"krylov {krylov} must be 2 or more: the adjoints of weights and velocity")
        if curvature not in get_args(Kind):
            raise ValueError(f"curvature {curvature!r} must be one of {', '.join(get_args(Kind))}")
        if rows is not None and rows < 1:
            raise ValueError(f"rows {rows} must be 1 or more")
        if clamp is not None and not 0 < clamp < 2:
            raise ValueError(f"clamp {clamp} must lie between 0 and 2, where the recursion is stable")
        if steps is not None and steps < 1:
            raise ValueError(f"steps {steps} must be 1 or more")
        self.knots, self.krylov = knots, krylov
        self.curvature: Kind = curvature
        self.rows, self.clamp, self.steps = rows, clamp, steps

    def keeps(self, steps: int) -> Collection[int]:
        """`knots` steps from 0 to T, evenly spaced."""
        return sorted({round(i * steps / (self.knots - 1)) for i in range(self.knots)})

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """See the class. Raises ValueError for Adam's betas, whose effect the heavy-ball form cuts, and for S > T with
        a
        schedule.
        """
        cut = set(families(hyper)) - TRUSTED
        if cut:
            names = ", ".join(sorted(cut))
            raise ValueError(f"drmad cannot differentiate {names}: use exact, or leave it out of the space")
        memory = len(self.keeps(training.steps)) * state_bytes(training, weights, hyper)
        if self.steps is not None:
            if self.steps > training.steps and any("[t]" in n for n in hyper):
                raise ValueError(
                    f"steps {self.steps} is more than the training's {training.steps}, which a schedule does not cover"
                )
            return Charge(GRADIENT_OF_STEP * self.steps + validation_evaluations(training), memory)
        segments = len(self.keeps(training.steps)) - 1
        share = self._rows(training) / len(training.batches(0).targets)
        each = 1 + PRODUCT[self.curvature] * self.krylov
        basis = 3 * self.krylov * sum(w.numel() * w.element_size() for w in weights.values())
        return Charge(segments * each * share + validation_evaluations(training), memory + basis)

    def follow(self, training: Training, weights: Tensors, hyper: Tensors, stops: Collection[int] = ()) -> Following:
        """The training, keeping the knots; then segment by segment from the last knot to the first."""
        kept, states = set(self.keeps(training.steps)), dict[int, State]()
        for step, state in walk(training, weights, hyper, {*stops, *kept}):
            if step in kept:
                states[step] = state
            yield step, state
        found = self.pull_back(training, hyper, states)
        return pull_back_start(training, weights, hyper, found).derivative

    def pull_back(self, training: Training, hyper: Tensors, states: Mapping[int, State]) -> Reversed:
        """The adjoint at the first knot, and λ̄."""
        if self.steps is not None:
            return self._along_the_line(training, hyper, states, self.steps)
        a = flatten(validation_gradient(training, states[training.steps].weights))
        b = torch.zeros_like(a)
        total = {name: x.double() for name, x in zeros(hyper).items()}
        kept = sorted(self.keeps(training.steps))
        for segment in range(len(kept) - 1, 0, -1):
            start, stop = kept[segment - 1], kept[segment]
            batch = self._batch(training, segment)
            a, b, slopes = self._segment(training, hyper, states, (start, stop), batch, a, b)
            for name, slope in slopes.items():
                total[name] += slope
        return Reversed(final_adjoint(states[0], unflatten(a, states[0].weights)), total, None)

    def _segment(
        self, training: Training, hyper: Tensors, states: Mapping[int, State], ends: tuple[int, int], batch: Batch,
        a: Tensor, b: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
        """(a, b) pulled back over one segment, and the segment's share of the hypergradient."""
        start, stop = ends
        steps = stop - start
        middle = between(states[start], states[stop], (steps - 1) / (2 * steps))
        with torch.enable_grad():
            knobs = {name: x.detach().requires_grad_() for name, x in hyper.items()}
            local = _averaged(knobs, start, stop)
            after = between(states[start], states[stop], (steps + 1) / (2 * steps))
            ball = training.solver.heavy_ball(after, local, start + (steps - 1) // 2)
            strengths = {n: penalty(local, n, w, start) for n, w in middle.weights.items()}
        rate = flatten(ball.rate).detach()
        root = rate.sqrt()
        matrix = self._matrix(training, middle.weights, strengths, root, batch)
        space = subspace(matrix, [root * a, b / root], self.krylov)
        swept = sweep(space, root * a, b / root, ball.momentum.detach(), steps, self.clamp)

        moved = flatten(subtract(states[stop].weights, states[start].weights)) / rate / steps
        rate_bar = unflatten(swept.sum_x / root * moved, middle.weights)
        weight_bar = unflatten(root * swept.sum_y, middle.weights)
        momentum_bar = -torch.dot(root * swept.sum_y, moved)
        with torch.enable_grad():
            terms = [(ball.rate[n] * x).sum() for n, x in rate_bar.items()]
            terms += [(r * (middle.weights[n] * weight_bar[n])).sum() for n, r in strengths.items() if r is not None]
            surrogate = torch.stack([*terms, ball.momentum * momentum_bar]).sum()
            slopes = torch.autograd.grad(surrogate, list(knobs.values()), materialize_grads=True)
        return swept.x / root, root * swept.y, dict(zip(knobs, slopes, strict=True))

    def _matrix(
        self, training: Training, weights: Tensors, strengths: Mapping[str, Tensor | None], root: Tensor, batch: Batch
    ) -> Product:
        """x → D^½ (H + r) D^½ x."""
        loss_product = curvature(self.curvature, training, weights, batch)
        strength = flatten({name: _everywhere(strengths[name], w) for name, w in weights.items()})

        def product(x: Tensor) -> Tensor:
            inside = root * x
            return root * (loss_product(inside) + strength * inside)

        return product

    def _along_the_line(self, training: Training, hyper: Tensors, states: Mapping[int, State], steps: int) -> Reversed:
        """The paper's pass: S states on the piecewise line through the knots, minibatch i at reverse step i."""
        kept = sorted(self.keeps(training.steps))

        def backwards() -> Iterator[tuple[int, State]]:
            for i in range(steps - 1, -1, -1):
                place = (i + 0.5) / steps * (len(kept) - 1)
                segment = min(int(place), len(kept) - 2)
                yield i, between(states[kept[segment]], states[kept[segment + 1]], place - segment)

        final = states[training.steps]
        start = final_adjoint(final, validation_gradient(training, final.weights))
        return reverse(training.solver, backwards(), hyper, training.batches, start)

    def _rows(self, training: Training) -> int:
        wanted = 5 * len(training.batches(0).targets) if self.rows is None else self.rows
        return min(wanted, len(training.train.targets))

    def _batch(self, training: Training, segment: int) -> Batch:
        """Rows of the training part, other ones for each segment while there are enough."""
        rows, whole = self._rows(training), training.train
        part = (torch.arange(rows, device=whole.targets.device) + (segment - 1) * rows) % len(whole.targets)
        return Batch(segment, whole.inputs[part], whole.targets[part])


def between(a: State, b: State, share: float) -> State:
    """(1 − share)·a + share·b, leaf by leaf."""
    mixed = [torch.lerp(x, y, share) for x, y in zip(leaves(a), leaves(b), strict=True)]
    return rebuild(a, mixed)


def _averaged(hyper: Tensors, start: int, stop: int) -> dict[str, Tensor]:
    """Schedules replaced by their mean over the segment, which also spreads their derivative evenly over its steps."""
    return {
        name.removesuffix("[t]"): x[start:stop].mean(dim=0) if name.endswith("[t]") else x for name, x in hyper.items()
    }


def _everywhere(value: Tensor | None, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if value is None else value.detach().expand(weight.shape)
