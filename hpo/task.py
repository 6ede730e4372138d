"""What a worker is told, and what it answers before anything is trained. No torch: both cross process borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpo.space import Space
from hpo.spec import Arm, Study
from hpo.trial import Proposal


class InputRow(NamedTuple):
    """One row of inputs as the network gets it: its shape, and the names of its columns, if they have names."""

    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """What an arm amounts to: its resolved space and the charge of one trial, in gradient evaluations.

    `memory`: bytes its hypergradient holds. `derivative`: the options of its hypergradient method. `rows`: training,
    validation, test. `parameters`: weights in the model. `inputs`: what a row of them looks like. `nats`: whether
    losses are in nats, as those of a classification are.
    """

    space: Space
    evaluations: float
    memory: int
    derivative: Mapping[str, Any]
    rows: tuple[int, int, int]
    parameters: int
    inputs: InputRow | None = None
    nats: bool = True


CURVE_POINTS = 10
CURVE_ROWS = 1000
"""A learning curve has this many points, measured on at most this many rows of each part."""

Curve = tuple[float, ...]
"""The validation losses at the points of a learning curve so far."""


@dataclass(frozen=True)
class Probe:
    """What a few steps of a training took on this machine: seconds a gradient evaluation.

    `measuring`: seconds a trial spends on losses and accuracies of its parts, the learning curve's among them.
    `memory`: bytes of the data, the initial weights and the solver's state; activations, the data set as it was read
    and torch itself are left out.
    """

    seconds: float
    memory: int
    measuring: float = 0.0


class OutOfMemory(Exception):
    """A card had no room for a training; the text says what was asked for, and how much was in use."""


@dataclass(frozen=True)
class Task:
    """One evaluation, complete in itself. Weights travel back only from a loss below `incumbent`.

    `rivals`: the curves of the arm's trials that had ended when this one was started, by number; none without a pruner.
    `alone`: no other training is on its cards, and it may take all of their memory.
    """

    study: Study
    arm: Arm
    plan: Plan
    proposal: Proposal
    data_dir: Path | None
    incumbent: float = float("inf")
    rivals: Mapping[int, Curve] = field(default_factory=dict)
    alone: bool = False
