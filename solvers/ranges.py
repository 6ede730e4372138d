"""What a solver says about each of its hyperparameters: where it lives, how it is measured, what is sensible."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Grain = Literal["global", "layer", "neuron", "weight", "step", "layer-step"]
GRAINS: tuple[Grain, ...] = ("global", "layer", "neuron", "weight", "step", "layer-step")
SCHEDULES: tuple[Grain, ...] = ("step", "layer-step")
"""Grains that change in time: a value for each step, or for each step of each layer."""


class Range(NamedTuple):
    """Bounds and default of one hyperparameter, and the grains at which it may be given.

    `target` says which weights a value touches: `outgoing` (a unit's outgoing weights; biases never),
    `incoming` (a unit's incoming weights and its bias) or `solver` (no weight in particular: one value a solver).
    `log` measures it on a logarithmic scale. `limits`: beyond them the method makes no sense, whatever a user asks for.
    `required`: the solver cannot run without it. `in_loss`: it acts through the training loss alone, so that where the
    training converges to depends on it and not on the way there. `at_start`: it acts before the first step alone.
    `auto`: the grain at which it is searched when a user leaves the choice to the solver; None: it then stays fixed.
    """

    low: float
    high: float
    default: float
    log: bool = True
    grains: tuple[Grain, ...] = ("global",)
    target: Literal["outgoing", "incoming", "solver"] = "solver"
    limits: tuple[float, float] = (0.0, math.inf)
    required: bool = False
    in_loss: bool = False
    at_start: bool = False
    auto: Grain | None = None


L2 = Range(
    1e-6, 1.0, 1e-3, grains=("global", "layer", "neuron", "weight"), target="outgoing", in_loss=True, auto="neuron"
)
LEARNING_RATE = Range(
    1e-3, 1.0, 5e-2, grains=GRAINS, target="incoming", limits=(1e-12, math.inf), required=True, auto="layer"
)
DECAY = Range(0.0, 0.99, 0.9, log=False, limits=(0.0, 1 - 1e-6))
INITIAL_SCALE = Range(0.1, 10.0, 1.0, grains=("global", "layer"), target="incoming", at_start=True)
"""What the initial weights are multiplied by."""
