"""Adam (Kingma, Ba 2015, Algorithm 1), L2 as a penalty inside the loss as for every solver here:

    m ← β₁m + (1−β₁)g      s ← β₂s + (1−β₂)g²      w ← w − learning_rate · m̂ / (√(ŝ + ε²) + ε)

with m̂ = m/(1−β₁^{t+1}), ŝ = s/(1−β₂^{t+1}). The ε² under the root keeps the derivative finite where a gradient has
always been zero (a blank pixel); there m̂ = 0, so the step is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.ranges import DECAY, INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, HeavyBall, Loss, Solver, gradient, required, scaled
from solvers.vectors import Tensors, zeros

EPSILON = 1e-8


class AdamState(NamedTuple):
    """Weights, first and second moment of the gradient, each by name with the weights' shapes."""

    weights: Tensors
    mean: Tensors
    square: Tensors


class Adam(Solver[AdamState]):
    """Adam with bias correction. Cost: one gradient evaluation a step.

    Hyperparameters: `learning_rate` (any grain), `l2` (global … weight), `beta1`, `beta2` (0.9 and 0.999 if not given),
    `initial_scale` (global, layer).
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2,
        "learning_rate": LEARNING_RATE._replace(low=1e-5, high=1e-1, default=1e-3),
        "beta1": DECAY,
        "beta2": DECAY._replace(low=0.9, high=0.9999, default=0.999),
        "initial_scale": INITIAL_SCALE,
    }

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> AdamState:
        """No moments yet."""
        del batch
        return AdamState(scaled(weights, hyper), zeros(weights), zeros(weights))

    def step(self, state: AdamState, hyper: Tensors, batch: Batch) -> AdamState:
        """One step; raises KeyError if a weight has no learning rate."""
        slopes = gradient(self.loss, state.weights, hyper, batch)
        beta1, beta2 = _betas(hyper, state.weights)
        mean = {n: torch.lerp(g, state.mean[n], beta1) for n, g in slopes.items()}
        square = {n: torch.lerp(g * g, state.square[n], beta2) for n, g in slopes.items()}
        moved = AdamState(state.weights, mean, square)
        rate = self._rate(moved, hyper, batch.index, beta1, beta2)
        weights = {n: torch.addcmul(w, rate[n], mean[n], value=-1) for n, w in state.weights.items()}
        return AdamState(weights, mean, square)

    def heavy_ball(self, state: AdamState, hyper: Tensors, index: int) -> HeavyBall:
        """The second moment held fixed: with v = m/(1−β₁), rate = (1−β₁)·learning_rate/((1−β₁^{t+1})(√ŝ + ε)).

        ŝ is a constant here: what it owes to weights and hyperparameters, β₂ among them, is cut. That is this form's
        bias.
        """
        beta1, beta2 = _betas(hyper, state.weights)
        frozen = AdamState(state.weights, state.mean, {n: s.detach() for n, s in state.square.items()})
        rate = self._rate(frozen, hyper, index, beta1, beta2.detach())
        return HeavyBall({n: (1 - beta1) * r.expand(state.weights[n].shape) for n, r in rate.items()}, beta1)

    def _rate(self, state: AdamState, hyper: Tensors, index: int, beta1: Tensor, beta2: Tensor) -> dict[str, Tensor]:
        """What multiplies the first moment in the step."""
        correction1, correction2 = 1 - beta1 ** (index + 1), 1 - beta2 ** (index + 1)
        rate = {}
        for name, square in state.square.items():
            scale = torch.sqrt(square / correction2 + EPSILON**2) + EPSILON
            rate[name] = required(hyper, "learning_rate", name, index) / (correction1 * scale)
        return rate


def _betas(hyper: Tensors, weights: Tensors) -> tuple[Tensor, Tensor]:
    some = next(iter(weights.values()))
    beta1, beta2 = hyper.get("beta1"), hyper.get("beta2")
    return (
        some.new_tensor(0.9) if beta1 is None else beta1,
        some.new_tensor(0.999) if beta2 is None else beta2,
    )
