"""What the diagnostics find, as plain values that cross process borders. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Finding(Generic[T]):
    """What one part found and the seconds it took; `reason` says why where it found nothing."""

    found: T | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Closest:
    """The two closest of `rows` unit-normalised rows: δ = `distance`, positions `first` < `second`.

    `typical`: the median over rows of the distance to the nearest other one. `zeros`: rows that are all 0, which have
    no direction and are left out.
    """

    distance: float
    first: int
    second: int
    typical: float
    rows: int
    zeros: int

    @property
    def padded(self) -> float:
        """δ with the paper's last coordinate: (x/‖x‖, 1)/√2."""
        return self.distance / math.sqrt(2)


@dataclass(frozen=True)
class Separation:
    """`closest` of the distinct training rows, `of` in all; `places` and `targets` of the pair.

    A place is the row's number in the data set's rows as they were read, from 0; a target is a class name or a number.
    """

    closest: Closest
    of: int
    places: tuple[int, int]
    targets: tuple[str, str]


@dataclass(frozen=True)
class Repeats:
    """Rows with the same inputs, and the losses no training can go below because their targets differ.

    `repeated`: rows that are a copy of an earlier one. `conflicting`: rows in groups of equal inputs with different
    targets, `example` two positions in one of them. `loss`: the floor of the training loss (mean cross-entropy or mean
    squared error); `error`: that of the share of wrong training rows, for a classification.
    """

    rows: int
    repeated: int
    conflicting: int
    loss: float
    error: float | None
    example: tuple[int, int] | None


@dataclass(frozen=True)
class Kernel:
    """Ends of the spectrum of the tangent kernel J Jᵀ `[rows·outputs, rows·outputs]` at the initial weights.

    Below `resolution` an eigenvalue is 0 but for rounding. `of`: the distinct rows there are.
    """

    smallest: float
    largest: float
    resolution: float
    rows: int
    of: int
    outputs: int
    weights: int


@dataclass(frozen=True)
class Theory:
    """The width m that the theorem asks for, as log₁₀, constants left out; `width`: the network's narrowest layer."""

    log10_width: float
    rows: int
    depth: int
    outputs: int
    separation: float
    width: int


@dataclass(frozen=True)
class Point:
    """A place on the way: training loss F without penalty and ‖∇F‖² at a step.

    `following`: F one step later, `forecast`: what the slope says it would be, F + ⟨∇F, Δw⟩ (for gradient descent
    F·(1 − η‖∇F‖²/F)); None where there is no step after it.
    """

    step: int
    loss: float
    squared_gradient: float
    following: float | None = None
    forecast: float | None = None

    @property
    def ratio(self) -> float:
        """‖∇F‖²/F; NaN where F is 0."""
        return self.squared_gradient / self.loss if self.loss else math.nan


@dataclass(frozen=True)
class Movement:
    """How far a weight tensor is from where it began: ‖W − W₀‖/‖W₀‖ in two norms; None where W₀ is 0."""

    name: str
    frobenius: float | None
    spectral: float | None


@dataclass(frozen=True)
class Flips:
    """The share of (row, unit) pairs of a stage whose sign at the end is not the one at the start."""

    name: str
    share: float


@dataclass(frozen=True)
class Stall:
    """Between two points the ratio fell `fall`-fold while the loss did not fall."""

    start: Point
    stop: Point
    fall: float


@dataclass(frozen=True)
class Descent:
    """A training at the default values, looked at on `rows` of `of` training rows.

    `slope`: of log ‖∇F‖² over log F, 1 where the ratio is constant; None where F moves too little.
    `diverged`: the step at which weights were first seen not to be finite.
    """

    points: tuple[Point, ...]
    slope: float | None
    stall: Stall | None
    movement: tuple[Movement, ...]
    rows: int
    of: int
    steps: int
    diverged: int | None


@dataclass(frozen=True)
class Stability:
    """Step size × largest curvature of the training loss, after the first step and after the last.

    Beyond `limit` = 2·(1 + momentum) gradient descent on all rows swings up along that direction.
    """

    first: float
    last: float
    limit: float
    rows: int
    of: int


@dataclass(frozen=True)
class Fit:
    """A width, the step at which all training rows it can fit were first seen fitted (None: never), and how far it got.

    `error`: the share of wrong rows where it was last looked at; for a regression the mean squared error.
    """

    width: int
    step: int | None
    error: float


@dataclass(frozen=True)
class Widths:
    """The widths tried, in order, up to the first that fits; a fit is an error of at most `goal`."""

    tried: tuple[Fit, ...]
    left: tuple[int, ...]
    goal: float
    regression: bool


@dataclass(frozen=True)
class BeforeTraining:
    """What follows from the training rows `[rows, features]` of the data set `data`, and from the initial weights."""

    data: str
    rows: int
    features: int
    outputs: int
    repeats: Finding[Repeats]
    separation: Finding[Separation]
    theory: Finding[Theory]
    kernel: Finding[Kernel]


@dataclass(frozen=True)
class AlongTraining:
    """What one arm's solver does at the default values."""

    descent: Finding[Descent]
    flips: Finding[tuple[Flips, ...]]
    stability: Finding[Stability]
    widths: Finding[Widths]


@dataclass(frozen=True)
class Diagnosis:
    """A study's first seed before training, and along the training of each solver, by name."""

    seed: int
    before: BeforeTraining
    along: Mapping[str, AlongTraining]
