"""Adagrad (Duchi, Hazan, Singer 2011), diagonal, in the form of torch.optim.Adagrad:

    s ← s + g²          w ← w − learning_rate · g / (√(s + ε²) + ε)          s_0 = 0

with g = ∇L(w). The ε² under the root keeps the derivative finite where a gradient has always been zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.ranges import INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, HeavyBall, Loss, Solver, gradient, required, scaled
from solvers.vectors import Tensors, zeros

EPSILON = 1e-10


class AdagradState(NamedTuple):
    """Weights and the sum of squared gradients, each by name with the weights' shapes."""

    weights: Tensors
    square: Tensors


class Adagrad(Solver[AdagradState]):
    """w ← w − learning_rate·g/√Σg². Cost: one gradient evaluation a step.

    Hyperparameters: `learning_rate` (any grain), `l2` (global … weight), `initial_scale` (global, layer).
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2,
        "learning_rate": LEARNING_RATE._replace(low=1e-4, default=1e-2),
        "initial_scale": INITIAL_SCALE,
    }

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> AdagradState:
        """No squares yet."""
        del batch
        return AdagradState(scaled(weights, hyper), zeros(weights))

    def step(self, state: AdagradState, hyper: Tensors, batch: Batch) -> AdagradState:
        """One step; raises KeyError if a weight has no learning rate."""
        slopes = gradient(self.loss, state.weights, hyper, batch)
        square = {n: torch.addcmul(state.square[n], g, g) for n, g in slopes.items()}
        rate = _rate(square, hyper, batch.index)
        weights = {n: torch.addcmul(w, rate[n], slopes[n], value=-1) for n, w in state.weights.items()}
        return AdagradState(weights, square)

    def heavy_ball(self, state: AdagradState, hyper: Tensors, index: int) -> HeavyBall:
        """The sum of squares held fixed: rate = learning_rate/(√s + ε), no momentum.

        What the sum owes to weights and hyperparameters is cut: that is this form's bias.
        """
        rate = _rate({n: s.detach() for n, s in state.square.items()}, hyper, index)
        return HeavyBall(rate, next(iter(state.weights.values())).new_zeros(()))


def _rate(square: Tensors, hyper: Tensors, index: int) -> dict[str, Tensor]:
    """What multiplies the gradient in the step."""
    return {
        n: required(hyper, "learning_rate", n, index) / (torch.sqrt(s + EPSILON**2) + EPSILON)
        for n, s in square.items()
    }
