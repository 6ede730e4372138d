"""DrMAD: reverse mode along a path distilled from the training (Fu, Luo, Feng, Low, Chua, IJCAI 2016), made stable.

The paper keeps only w_0 and w_T and pulls the adjoint back along the straight line between them; there the loss has
negative and too large curvature for hundreds of steps, and the pass explodes or, cut short, sees only the last steps.
Here a few states ("knots") are kept, still independent of T, and all steps between two of them are pulled back at once
(`segment`), on the Gauss-Newton matrix plus the penalty's r, whose eigenvalues are clamped to where the recursion is
stable. Any solver will do that tells its heavy-ball form: only the knots are read.

`steps: S` asks for the paper's own pass instead: S steps of the backward loop along the line through the knots. That is
also the pass, with S = T, for a solver without a heavy-ball form, the adjoint's length being bounded. It saves memory
there, and no time; a solver says in `between` which leaves of its state follow from the weights on the line. (dlADMM's
do not: made anew by a forward pass they lie far from where its sweeps go, and the pass explodes.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import NamedTuple, get_args

import torch

from hpo.hypergradients.adjoint import Reversed, final_adjoint, pull_back_start
from hpo.hypergradients.afterwards import Afterwards
from hpo.hypergradients.curvature import PRODUCT, Kind
from hpo.hypergradients.kept import States
from hpo.hypergradients.knots import Spacing, chosen, places
from hpo.hypergradients.line import along_the_line
from hpo.hypergradients.segment import Reduction, Segment, pull_back_segment
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Derivative,
    Training,
    families,
    state_bytes,
    validation_evaluations,
    validation_gradient,
)
from solvers.solver import Batch, State
from solvers.vectors import Tensors, flatten, unflatten, zeros

TRUSTED = {"l2", "learning_rate", "momentum", "damping", "initial_scale"}

LOSS = 1 / 3
"""Gradient evaluations charged for a loss: a forward pass without its backward pass."""


class Route(NamedTuple):
    """The steps of the paper's pass, or None for segments; whether its adjoint is bounded; which states are kept."""

    passed: int | None
    bounded: bool
    knots: int
    spacing: Spacing


class DrMAD(Afterwards):
    """Reverse mode over `knots` kept states; memory (knots)·N and 5·`krylov`·N numbers, independent of T.

    `knots`: how many states, first and last included (2 is the paper's chord), 4 if not given; `spacing`: late, time,
    arc or loss (see `knots.Spacing`; the last two keep eight candidates a segment), late if not given; 9 and time
    for a solver without a heavy-ball form. `krylov`: dimension of the space on each segment.
    `curvature`: gauss-newton or hessian. `clamp`: the eigenvalues of D^½HD^½ are clamped to [0, clamp]; None lets all
    through, also of an adjoint that is bounded otherwise. `rows`: training rows in the curvature batch, None for five
    minibatches.
    `steps`: the number S of reverse steps of the paper's pass, or None for the segments, where the solver allows them;
    `stretched`: its rates are multiplied by T/S, so that S steps go as far as T.
    Raises ValueError for a value out of range.

    The curvature of the segments is that of the training's criterion on its outputs: an SGD whose own loss is another
    one needs `exact`. Through Adam, whose rates follow the gradients, they are far less faithful than through SGD.
    Through HSIC those of l2 and head_rate are good, those of learning_rate, sigma and beta may have the wrong sign.
    Serves l2 and learning_rate at any grain, momentum and initial_scale; the paper's pass serves everything.
    Cost, in gradient evaluations: (knots − 1) · (1 + 4/3 krylov) · rows/batch, or 4 S; and the validation gradient.
    """

    def __init__(
        self,
        *,
        knots: int | None = None,
        spacing: Spacing | None = None,
        krylov: int = 12,
        curvature: Kind = "gauss-newton",
        rows: int | None = None,
        clamp: float | None = 1.9,
        steps: int | None = None,
        stretched: bool = False,
    ) -> None:
        if knots is not None and knots < 2:
            raise ValueError(f"knots {knots} must be 2 or more: the first and the last state")
        if spacing is not None and spacing not in get_args(Spacing):
            raise ValueError(f"spacing {spacing!r} must be one of {', '.join(get_args(Spacing))}")
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
        if stretched and steps is None:
            raise ValueError("stretched needs steps, the number of reverse steps of the paper's pass")
        self.knots, self.krylov = knots, krylov
        self.spacing: Spacing | None = spacing
        self.curvature: Kind = curvature
        self.rows, self.clamp, self.steps, self.stretched = rows, clamp, steps, stretched

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """See the class. Raises ValueError for what it does not serve, schedules among it where S is not T.

        Not served, but by the paper's pass: Adam's betas, whose effect the heavy-ball form cuts, and what only a user's
        own loss reads.
        """
        start = training.solver.init(weights, hyper, training.batches(0))
        passed, _, knots, spacing = self._route(training, start, hyper)
        cut = set() if passed is not None else set(families(training.sought(hyper))) - TRUSTED
        if cut:
            names = ", ".join(sorted(cut))
            raise ValueError(f"drmad cannot differentiate {names}: use exact, or leave it out of the space")
        states = len(places(spacing, knots, training.steps))
        memory = states * state_bytes(training, weights, hyper)
        share = self._rows(training) / len(training.batches(0).targets)
        looking = LOSS * share * states if spacing == "loss" else 0.0
        if passed is not None:
            schedules = sorted(name for name in hyper if name.endswith("[t]"))
            if schedules and passed != training.steps:
                raise ValueError(
                    f"a pass of {passed} steps does not see all {training.steps} values of {', '.join(schedules)}:"
                    " leave steps out, or use exact"
                )
            evaluations = GRADIENT_OF_STEP * training.evaluations(passed)
            return Charge(evaluations + looking + validation_evaluations(training), memory)
        segments = min(knots, states) - 1
        count = sum(w.numel() for w in weights.values())
        each = 1 + PRODUCT[self.curvature] * min(self.krylov, count)
        basis = 5 * self.krylov * sum(w.numel() * w.element_size() for w in weights.values())
        return Charge(segments * each * share + looking + validation_evaluations(training), memory + basis)

    def stays(self, training: Training, weights: Tensors, hyper: Tensors) -> Collection[int]:
        """The knots, or the states from which they are chosen."""
        start = training.solver.init(weights, hyper, training.batches(0))
        route = self._route(training, start, hyper)
        return places(route.spacing, route.knots, training.steps)

    def derivative(self, training: Training, weights: Tensors, hyper: Tensors, states: States) -> Derivative:
        """Segment by segment from the last knot to the first."""
        found = self.pull_back(training, hyper, states)
        return pull_back_start(training, weights, hyper, found).derivative

    def pull_back(self, training: Training, hyper: Tensors, states: Mapping[int, State]) -> Reversed:
        """The adjoint at the first knot, and λ̄; `states`: the kept ones by step, from any solver."""
        route = self._route(training, states[0], hyper)
        with torch.no_grad():
            knots = chosen(route.spacing, route.knots, states, lambda w: self._loss(training, w))
        path = [Segment(a, b, states[a], states[b]) for a, b in pairwise(knots)]
        if route.passed is not None:
            bounded = route.bounded and self.clamp is not None
            return along_the_line(training, hyper, path, route.passed, stretched=self.stretched, bounded=bounded)
        reduction = Reduction(self.curvature, self.krylov, self.clamp)
        a = flatten(validation_gradient(training, path[-1].last.weights))
        b = torch.zeros_like(a)
        total = {name: x.double() for name, x in zeros(hyper).items()}
        for number in range(len(path), 0, -1):
            batch = self._batch(training, number)
            a, b, slopes = pull_back_segment(training, hyper, path[number - 1], batch, reduction, a, b)
            for name, slope in slopes.items():
                total[name] += slope
        first = path[0].first
        return Reversed(final_adjoint(first, unflatten(a, first.weights)), total, None)

    def _route(self, training: Training, start: State, hyper: Tensors) -> Route:
        """The paper's pass where it was asked for or the solver is no heavy ball; and the states either needs."""
        with torch.no_grad():
            rolls = training.solver.heavy_ball(start, hyper, 0) is not None
        knots, spacing = (4, "late") if rolls else (9, "time")
        passed = self.steps if self.steps is not None else None if rolls else training.steps
        return Route(passed, not rolls, self.knots or knots, self.spacing or spacing)

    def _rows(self, training: Training) -> int:
        wanted = 5 * len(training.batches(0).targets) if self.rows is None else self.rows
        return min(wanted, len(training.train.targets))

    def _batch(self, training: Training, segment: int) -> Batch:
        """Rows of the training part, other ones for each segment while there are enough."""
        rows, whole = self._rows(training), training.train
        part = (torch.arange(rows, device=whole.targets.device) + (segment - 1) * rows) % len(whole.targets)
        return Batch(segment, whole.inputs[part], whole.targets[part])

    def _loss(self, training: Training, weights: Tensors) -> torch.Tensor:
        batch = self._batch(training, 1)
        return training.criterion(training.forward(training.solver.readout(weights), batch.inputs), batch.targets)
