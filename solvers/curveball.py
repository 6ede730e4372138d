"""CurveBall (Henriques, Ehrhardt, Albanie, Vedaldi, ICCV 2019): a heavy ball that solves the Gauss-Newton system as it
rolls, one product a step.

    Δ ← (G + diag r + λ) z + ∇L          z ← ρz − βΔ          w ← w + learning_rate·z          z_0 = 0

G = Jᵀ H J is the minibatch's Gauss-Newton matrix, H the Hessian of the loss in the outputs; r are the l2 strengths,
which are part of ∇L = Jᵀ∂ℓ + r·w as well. ρ and β minimise the damped quadratic model over the plane of Δ and z,

    M(z⁺) = ∇L·z⁺ + ½ z⁺ᵀ(G + diag r + λ)z⁺          A [β, −ρ]ᵀ = b = [∇L·Δ, ∇L·z]ᵀ

where A has the products of Δ and z under G + diag r + λ, for which J Δ and J z are enough. Every five steps λ follows
how well M foretells the change of the minibatch's loss F: with γ = (F(w⁺) − F(w))/M(z⁺), λ is divided by 0.999⁵ where
γ < ½ and multiplied by it where γ > 3/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.chain import Chain, layers
from solvers.criteria import Criterion, closed
from solvers.ranges import INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, HeavyBall, Solver, penalty, scaled, setting
from solvers.tangents import Forward, linearised, perceptron
from solvers.vectors import Tensors, between, flatten, zeros

EVERY = 5
FACTOR = 0.999**EVERY
MEMORY = 20
"""Steps over which the usual ρ and β are averaged."""
PARALLEL = 1e-12
"""det A / (A₁₁A₂₂) up to which Δ and z count as parallel."""


class CurveBallState(NamedTuple):
    """Weights and z, by name with the weights' shapes; λ, ρ and β of the last step and their running means, scalars."""

    weights: Tensors
    velocity: Tensors
    damping: Tensor
    momentum: Tensor
    rate: Tensor
    usual_momentum: Tensor
    usual_rate: Tensor


class CurveBall(Solver[CurveBallState]):
    """Steps of a Gauss-Newton method at the price of a few gradients.

    Hyperparameters: `damping` (λ at the start; 1 if not given), `learning_rate` (any grain; 1 if not given), `l2`
    (global … weight; the original has none), `initial_scale` (global, layer).

    `criterion`: torch's cross_entropy or mse_loss; ValueError for another one. A `chain` of fully connected stages is
    linearised by hand, every other network by automatic differentiation. `adapt`: whether λ changes in time.
    Cost of a step, in gradient evaluations: 7/3, and a forward pass every fifth step for γ.
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2,
        "damping": Range(1e-3, 1e2, 1.0, at_start=True),
        "learning_rate": LEARNING_RATE._replace(low=0.05, high=2.0, default=1.0, required=False),
        "initial_scale": INITIAL_SCALE,
    }

    def __init__(
        self, forward: Forward, criterion: Criterion, chain: Chain | None = None, *, adapt: bool = True
    ) -> None:
        self.output = closed(criterion, "curveball")
        self.forward, self.adapt = forward, adapt
        self.evaluations = 2.4 if adapt else 7 / 3
        self._linearised = partial(linearised, forward)
        if chain is not None and all(stage.dense is not None for stage in chain):
            self._linearised = partial(perceptron, layers(chain, "curveball"))

    def loss(self, weights: Tensors, hyper: Tensors, batch: Batch) -> Tensor:
        """What is minimised, without the penalty."""
        del hyper
        return self.output.value(self.forward(weights, batch.inputs), batch.targets)

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> CurveBallState:
        """At rest."""
        del batch
        some = next(iter(weights.values()))
        damping, nought = hyper.get("damping"), some.new_zeros(())
        damping = nought + 1 if damping is None else damping
        return CurveBallState(scaled(weights, hyper), zeros(weights), damping, nought, nought, nought, nought)

    def step(self, state: CurveBallState, hyper: Tensors, batch: Batch) -> CurveBallState:
        """One step; along −Δ alone (ρ = 0) from rest, and where z is parallel to Δ."""
        weights, velocity, damping = state.weights, state.velocity, state.damping
        strengths = {n: penalty(hyper, n, w, batch.index) for n, w in weights.items()}
        outputs, moved, pull = self._linearised(weights, batch.inputs, velocity)
        slope, bend = self.output.local(outputs, batch.targets)
        bent = bend(moved)
        diagonal = {n: damping if r is None else r + damping for n, r in strengths.items()}
        bent_z = {n: diagonal[n] * z for n, z in velocity.items()}
        own = {n: x if (r := strengths[n]) is None else torch.addcmul(x, r, weights[n]) for n, x in bent_z.items()}
        delta, push = pull(slope + bent, own)
        pushed = push(delta)
        nothing = torch.zeros_like(damping)
        products = [*_products(pushed, bend(pushed), bent, moved), nothing, nothing]
        for n, d in delta.items():
            products += [*_products(d, diagonal[n] * d, bent_z[n], velocity[n]), _dot(d, d), _dot(d, velocity[n])]
        beta, rho, foretold = minimiser(torch.stack(products).double().reshape(-1, 5).sum(dim=0))
        beta, rho = beta.to(damping.dtype), rho.to(damping.dtype)

        ahead = {n: torch.addcmul(rho * z, beta, delta[n], value=-1) for n, z in velocity.items()}
        after = dict[str, Tensor]()
        for n, w in weights.items():
            rate = setting(hyper, "learning_rate", n, batch.index)
            after[n] = w + ahead[n] if rate is None else torch.addcmul(w, rate, ahead[n])
        if self.adapt and batch.index % EVERY == EVERY - 1:
            with torch.no_grad():
                change = self._change(weights, after, strengths, outputs, batch)
            damping = damping * _factor(change / foretold.detach()).to(damping.dtype)
        passed = min(batch.index, MEMORY - 1)
        kept = passed / (passed + 1)
        usual = (torch.lerp(x, old, kept) for x, old in ((rho, state.usual_momentum), (beta, state.usual_rate)))
        return CurveBallState(after, ahead, damping, rho, beta, *usual)

    def heavy_ball(self, state: CurveBallState, hyper: Tensors, index: int) -> HeavyBall:
        """With v = −z/β and the Hessian for G: rate = learning_rate·β, momentum = ρ − βλ, drag = 1/learning_rate.

        ρ and β are the usual ones of the last steps: those of a single minibatch, ρ often above 1, would explode over
        many. They and what the training has made of λ are held fixed; a β below 0 counts as 0. The drag is that of the
        mean rate of all weights.
        """
        given = {n: setting(hyper, "learning_rate", n, index) for n in state.weights}
        rates = {
            n: torch.ones_like(w) if (r := given[n]) is None else r.expand(w.shape) for n, w in state.weights.items()
        }
        rho, beta = state.usual_momentum.detach(), state.usual_rate.detach().clamp(min=0)
        damping = state.damping.detach()
        start = hyper.get("damping")
        if start is not None:
            at = start.detach()
            ratio = torch.where(at > 0, damping / torch.where(at > 0, at, torch.ones_like(at)), torch.ones_like(at))
            damping = damping + ratio * (start - at)
        drag = 1 / flatten(rates).detach().mean()
        return HeavyBall({n: beta * r for n, r in rates.items()}, rho - beta * damping, drag)

    def between(
        self, first: CurveBallState, last: CurveBallState, share: float, steps: int, hyper: Tensors, batch: Batch
    ) -> CurveBallState:
        """On the straight line, with the z that goes along it: (w_last − w_first)/(steps·learning_rate)."""
        velocity = dict[str, Tensor]()
        for n, w in last.weights.items():
            rate = setting(hyper, "learning_rate", n, batch.index)
            moved = (w - first.weights[n]) / steps
            velocity[n] = moved if rate is None else moved / rate
        return between(first, last, share)._replace(velocity=velocity)

    def logs(self, state: CurveBallState, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """ρ, β and λ of the last step, and |z|."""
        del hyper, batch
        size = torch.linalg.vector_norm(flatten(state.velocity))
        return {"rho": state.momentum, "beta": state.rate, "lambda": state.damping, "velocity": size}

    def _change(
        self, before: Tensors, after: Tensors, strengths: Mapping[str, Tensor | None], outputs: Tensor, batch: Batch
    ) -> Tensor:
        """F(after) − F(before), `outputs` being those of `before`."""
        moved = self.forward(after, batch.inputs)
        change = self.output.value(moved, batch.targets) - self.output.value(outputs, batch.targets)
        for n, r in strengths.items():
            if r is not None:
                change = change + _dot(r * (after[n] - before[n]), after[n] + before[n]) / 2
        return change


def _products(d: Tensor, bent_d: Tensor, bent_z: Tensor, z: Tensor) -> list[Tensor]:
    """Shares of A₁₁, A₁₂, A₂₂."""
    return [_dot(d, bent_d), _dot(d, bent_z), _dot(z, bent_z)]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.reshape(-1), b.reshape(-1))


class Minimiser(NamedTuple):
    beta: Tensor
    rho: Tensor
    foretold: Tensor


def minimiser(plane: Tensor) -> Minimiser:
    """β, ρ and M(z⁺) of A₁₁, A₁₂, A₂₂, Δ·Δ, Δ·z `[5]`, in their precision.

    b is what the last two have over A₁₂ and A₂₂, as Δ = (G + diag r + λ)z + ∇L. The branch not taken is kept finite,
    for the sake of derivatives.
    """
    a11, a12, a22, dd, dz = plane.unbind()
    b1, b2 = dd - a12, dz - a22
    both = a11 * a22
    determinant = both - a12 * a12
    parallel = determinant <= PARALLEL * both
    safe = torch.where(parallel, 1.0, determinant)
    alone = b1 / torch.where(a11 > 0, a11, 1.0)
    beta = torch.where(parallel, alone, (a22 * b1 - a12 * b2) / safe)
    rho = torch.where(parallel, 0.0, (a12 * b1 - a11 * b2) / safe)
    return Minimiser(beta, rho, (rho * b2 - beta * b1) / 2)


def _factor(ratio: Tensor) -> Tensor:
    """What λ is multiplied by where the model foretold 1/`ratio` of the change."""
    same = torch.ones_like(ratio)
    return torch.where(ratio < 0.5, same / FACTOR, torch.where(ratio > 1.5, same * FACTOR, same))
