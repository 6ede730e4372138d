"""Adadelta (Zeiler 2012, Algorithm 1), in the form of torch.optim.Adadelta:

    s ← decay·s + (1−decay)·g²     d = g·√(u + ε)/√(s + ε)     u ← decay·u + (1−decay)·d²     w ← w − learning_rate·d

with g = ∇L(w), s_0 = u_0 = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.ranges import DECAY, INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, HeavyBall, Loss, Solver, gradient, required, scaled
from solvers.vectors import Tensors, zeros

EPSILON = 1e-6


class AdadeltaState(NamedTuple):
    """Weights, running means of squared gradients and of squared moves, each by name with the weights' shapes."""

    weights: Tensors
    square: Tensors
    moved: Tensors


class Adadelta(Solver[AdadeltaState]):
    """Moves of the size of the last ones, along the gradient over its own size. Cost: one gradient evaluation a step.

    Hyperparameters: `learning_rate` (any grain; the paper has 1), `decay` (0.9 if not given), `l2` (global … weight),
    `initial_scale` (global, layer).
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2,
        "learning_rate": LEARNING_RATE._replace(low=1e-2, high=10.0, default=1.0),
        "decay": DECAY._replace(low=0.5, high=0.999),
        "initial_scale": INITIAL_SCALE,
    }

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> AdadeltaState:
        """Both means at zero."""
        del batch
        return AdadeltaState(scaled(weights, hyper), zeros(weights), zeros(weights))

    def step(self, state: AdadeltaState, hyper: Tensors, batch: Batch) -> AdadeltaState:
        """One step; raises KeyError if a weight has no learning rate."""
        slopes = gradient(self.loss, state.weights, hyper, batch)
        decay = _decay(hyper, state.weights)
        square = {n: torch.lerp(g * g, state.square[n], decay) for n, g in slopes.items()}
        move = {n: g * _ratio(state.moved[n], square[n]) for n, g in slopes.items()}
        moved = {n: torch.lerp(d * d, state.moved[n], decay) for n, d in move.items()}
        weights = {
            n: torch.addcmul(w, required(hyper, "learning_rate", n, batch.index), move[n], value=-1)
            for n, w in state.weights.items()
        }
        return AdadeltaState(weights, square, moved)

    def heavy_ball(self, state: AdadeltaState, hyper: Tensors, index: int) -> HeavyBall:
        """Both means held fixed: rate = learning_rate·√(u + ε)/√(s + ε), no momentum.

        u is the mean after the step, which took the one before it; and what both owe to weights and hyperparameters,
        `decay` among them, is cut. That is this form's bias.
        """
        rate = {
            n: required(hyper, "learning_rate", n, index) * _ratio(state.moved[n].detach(), s.detach())
            for n, s in state.square.items()
        }
        return HeavyBall(rate, next(iter(state.weights.values())).new_zeros(()))


def _ratio(moved: Tensor, square: Tensor) -> Tensor:
    return torch.sqrt((moved + EPSILON) / (square + EPSILON))


def _decay(hyper: Tensors, weights: Tensors) -> Tensor:
    decay = hyper.get("decay")
    return next(iter(weights.values())).new_tensor(0.9) if decay is None else decay
