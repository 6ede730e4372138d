"""Stochastic gradient descent with momentum, in the form of torch.optim.SGD (Polyak 1964; Sutskever et al. 2013):

v ← momentum·v + ∇L(w)          w ← w − learning_rate·v          v_0 = 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.ranges import DECAY, INITIAL_SCALE, L2, LEARNING_RATE, Range
from solvers.solver import Batch, HeavyBall, Loss, Solver, gradient, required, scaled
from solvers.vectors import Tensors, zeros


class SGDState(NamedTuple):
    """Weights and velocity, each by name with the weights' shapes."""

    weights: Tensors
    velocity: Tensors


class SGD(Solver[SGDState]):
    """w ← w − learning_rate·v, v ← momentum·v + ∇L. Cost: one gradient evaluation a step.

    Hyperparameters: `learning_rate` (any grain), `momentum` (one value; 0 if not given), `l2` (global … weight),
    `initial_scale` (global, layer).
    """

    hyperparameters: Mapping[str, Range] = {
        "l2": L2,
        "learning_rate": LEARNING_RATE,
        "momentum": DECAY._replace(default=0.0, auto="global"),
        "initial_scale": INITIAL_SCALE,
    }

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> SGDState:
        """At rest."""
        del batch
        return SGDState(scaled(weights, hyper), zeros(weights))

    def step(self, state: SGDState, hyper: Tensors, batch: Batch) -> SGDState:
        """One step; raises KeyError if a weight has no learning rate."""
        velocity = gradient(self.loss, state.weights, hyper, batch)
        momentum = hyper.get("momentum")
        if momentum is not None:
            velocity = {n: torch.addcmul(g, momentum, state.velocity[n]) for n, g in velocity.items()}
        weights = {
            n: torch.addcmul(w, required(hyper, "learning_rate", n, batch.index), velocity[n], value=-1)
            for n, w in state.weights.items()
        }
        return SGDState(weights, velocity)

    def heavy_ball(self, state: SGDState, hyper: Tensors, index: int) -> HeavyBall:
        """SGD is a heavy ball: rate = learning_rate, exactly."""
        rate = {n: required(hyper, "learning_rate", n, index).expand(w.shape) for n, w in state.weights.items()}
        return HeavyBall(rate, _momentum(hyper, state.weights))


def _momentum(hyper: Tensors, weights: Tensors) -> Tensor:
    value = hyper.get("momentum")
    return next(iter(weights.values())).new_zeros(()) if value is None else value
