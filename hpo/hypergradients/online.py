"""Hyperparameters that move while the training runs (Clarke, Oldewage, Hernández-Lobato, ICLR 2022, Algorithm 1).

With s ← Φ(s, λ) the last step, s the solver's whole state (momentum included), and ∇f on validation rows after it,

    g = Σ_{j<terms} (∂Φ/∂λ)ᵀ ((∂Φ/∂s)ᵀ)ʲ ∇f

is the derivative of f as if that step had been taken `terms` times from the same state (Equation 6, where s is the
weights alone and Φ = w − u). Every few steps the coordinate z of each hyperparameter takes one step of Adam (Kingma, Ba
2015) along the derivative of f with respect to it, and the training goes on with the new values:

    strengths and rates (a logarithmic range)        z = log λ
    momenta (a linear range within 0 ≤ λ < 1)        z = −log(1 − λ), the logarithm of how many steps they average
    any other linear range                           z = λ in tenths of the range

The paper moves momenta along their logit, which cannot leave 0, where SGD starts; near 1 the two are the same.

Nothing here is exact. The steps before the last are taken for copies of it, which holds only where the training has
converged. What a value does later than `terms` steps from now is not seen: rates come out too low for a long training
(Wu et al. 2018), and a strength is judged by its first steps. One training batch and a few validation rows make g
noisy. The values at the end are those that suited the end, not the best ones to hold throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.adjoint import final_adjoint, reverse
from hpo.hypergradients.kept import Kept, ahead, recall, replace
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Derivative,
    Following,
    Training,
    begun,
    families,
    state_bytes,
    validation_gradient,
)
from solvers.ranges import Range
from solvers.solver import Batch, Solver, State, run
from solvers.vectors import Tensors, finite, leaves, rebuild, zeros

EPSILON = 1e-12
LINEAR_UNITS = 10.0


class Online:
    """One training that tunes itself; its derivative is the last g, its `hyper` are the values at the end.

    `every`: steps between two moves. `terms`: of the sum g. `rows`: validation rows of a move, None for as many as a
    minibatch has; each move takes the next ones. `rate`, `betas`: Adam's step in a coordinate, and its two decays.
    Raises ValueError for a value out of range.

    A move whose g is not finite is left out. A value at 0 on a logarithmic scale stays there.
    Cost of a move, in gradient evaluations: 4 `terms` + rows/batch. Memory: two more states, three numbers a value.
    Report: moves, skipped.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        terms: int = 5,
        rows: int | None = None,
        rate: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        for name, count in (("every", every), ("terms", terms), ("rows", rows)):
            if count is not None and count < 1:
                raise ValueError(f"{name} {count} must be 1 or more")
        if not rate > 0:
            raise ValueError(f"rate {rate:g} must be above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {[*betas]} must be two numbers, each at least 0 and below 1")
        self.every, self.terms, self.rows = every, terms, rows
        self.rate, self.betas = rate, betas

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """See the class. Raises ValueError for schedules and what acts at the start, for a hyperparameter whose range
        the solver does not declare, and for a training that ends before the first move.
        """
        moved = training.sought(hyper)
        scales(training.solver, moved)
        if training.steps < self.every:
            raise ValueError(f"every {self.every} is more than the {training.steps} steps of the training: lower it")
        share = (self._rows(training) + training.solver.readout_rows) / len(training.batches(0).targets)
        moves = training.steps // self.every
        moments = 3 * 8 * sum(x.numel() for x in moved.values())
        memory = 2 * state_bytes(training, weights, hyper) + moments
        return Charge(moves * (GRADIENT_OF_STEP * training.evaluations(self.terms) + share), memory)

    def follow(
        self,
        training: Training,
        weights: Tensors,
        hyper: Tensors,
        stops: Collection[int] = (),
        kept: Kept | None = None,
    ) -> Following:
        """The training with its moves, the last of them after step T if that is one of theirs."""
        moved = training.sought(hyper)
        along = scales(training.solver, moved)
        due = range(self.every, training.steps + 1, self.every)
        halts = {training.steps, *stops, *due, *(step - 1 for step in due)}
        outer = unmoved({name: along[name].coordinate(x.double()) for name, x in moved.items()}, hyper)
        states = begun(training, weights, hyper, kept)
        here = states.last
        if here:
            outer = rebuild(outer, recall(states.kept, "outer", here))
            hyper = reached(outer, along, hyper)
        for stop in ahead(here, halts):
            states[stop] = run(training.solver, states[here], hyper, training.batches, here, stop)
            states.only(stop, stop - 1 if stop in due else stop)
            replace(states.kept, "outer", stop, leaves(outer))
            here = stop
            yield stop, states[stop]
            if stop in due:
                slopes = self.slopes(training, states[stop - 1], states[stop], hyper, stop - 1)
                outer = self._moved(outer, along, hyper, slopes)
                hyper = reached(outer, along, hyper)
        return Derivative(dict(outer.slopes), {"moves": int(outer.moves), "skipped": int(outer.skipped)}, hyper)

    def slopes(self, training: Training, before: State, after: State, hyper: Tensors, t: int) -> dict[str, Tensor]:
        """g after step t, which led from `before` to `after`: by name, in float64 and natural units."""
        ahead = validation_gradient(training._replace(validation=self._held_out(training, t)), after.weights)
        path = repeat((t, before), self.terms)
        return reverse(training.solver, path, hyper, training.batches, final_adjoint(after, ahead)).total

    def _moved(self, outer: Outer, along: Mapping[str, Scale], hyper: Tensors, slopes: Tensors) -> Outer:
        """One step of Adam in every coordinate, within the limits; none along slopes that are not finite."""
        if not finite({name: slopes[name] for name in outer.coordinates}):
            return outer._replace(slopes=slopes, skipped=outer.skipped + 1)
        beta1, beta2 = self.betas
        moves = int(outer.moves) + 1
        found = Outer({}, {}, {}, slopes, outer.moves + 1, outer.skipped)
        for name, z in outer.coordinates.items():
            slope = slopes[name] * along[name].slope(hyper[name].double())
            mean = torch.lerp(slope, outer.mean[name], beta1)
            square = torch.lerp(slope**2, outer.square[name], beta2)
            length = torch.sqrt(square / (1 - beta2**moves)) + EPSILON
            move = mean / (1 - beta1**moves) / length
            found.coordinates[name] = torch.clamp(z - self.rate * move, *along[name].ends)
            found.mean[name], found.square[name] = mean, square
        return found

    def _rows(self, training: Training) -> int:
        wanted = len(training.batches(0).targets) if self.rows is None else self.rows
        return min(wanted, len(training.validation.targets))

    def _held_out(self, training: Training, t: int) -> Batch:
        """The validation rows of the move after step t, other ones each time while there are enough."""
        rows, whole = self._rows(training), training.validation
        first = (t // self.every) * rows
        part = (first + torch.arange(rows, device=whole.targets.device)) % len(whole.targets)
        return Batch(t, whole.inputs[part], whole.targets[part])


class Outer(NamedTuple):
    """Where the moves have led: every hyperparameter's coordinate z, and the two moments of its derivatives; the last
    g; how many moves were made and how many left out, int64 scalars.
    """

    coordinates: dict[str, Tensor]
    mean: dict[str, Tensor]
    square: dict[str, Tensor]
    slopes: Tensors
    moves: Tensor
    skipped: Tensor


def unmoved(coordinates: dict[str, Tensor], hyper: Tensors) -> Outer:
    """Before the first move."""
    slopes, none = {name: x.double() for name, x in zeros(hyper).items()}, torch.zeros((), dtype=torch.long)
    return Outer(coordinates, zeros(coordinates), zeros(coordinates), slopes, none, none)


def reached(outer: Outer, along: Mapping[str, Scale], hyper: Tensors) -> Tensors:
    """The hyperparameters that the moves have led to; as they were given before the first one."""
    if not outer.moves:
        return hyper
    return {**hyper, **{name: along[name].value(z).to(hyper[name]) for name, z in outer.coordinates.items()}}


Map = Callable[[Tensor], Tensor]


class Scale(NamedTuple):
    """How a hyperparameter is measured: λ → z, z → λ, λ → dλ/dz; and the ends of z."""

    coordinate: Map
    value: Map
    slope: Map
    ends: tuple[float, float]


def scales(solver: Solver[Any], hyper: Tensors) -> dict[str, Scale]:
    """The scale of every entry of `hyper`, by what the solver declares. Raises ValueError, see `Online.charge`."""
    schedules = sorted(name for name in hyper if name.endswith("[t]"))
    if schedules:
        raise ValueError(
            f"online makes schedules itself, it cannot move {', '.join(schedules)}: give one value for all"
        )
    declared = solver.hyperparameters
    starting = [name for name in families(hyper) if name in declared and declared[name].at_start]
    if starting:
        raise ValueError(
            f"online cannot move {', '.join(starting)}, which acts before the first step: leave it out, or use exact"
        )
    unknown = [name for name in families(hyper) if name not in solver.hyperparameters]
    if unknown:
        raise ValueError(f"online knows no range of {', '.join(unknown)}: declare it in the solver's hyperparameters")
    return {name: scale(solver.hyperparameters[families([name])[0]]) for name in hyper}


def scale(declared: Range) -> Scale:
    """The scale of a range; its limits are the ends."""
    low, high = declared.limits
    unit = (declared.high - declared.low) / LINEAR_UNITS
    if declared.log:
        return _between(low, high, torch.log, torch.exp, torch.clone)
    if low >= 0 and high < 1:
        return _between(low, high, lambda x: -torch.log1p(-x), lambda z: -torch.expm1(-z), lambda x: 1 - x)
    return _between(low, high, lambda x: x / unit, lambda z: z * unit, lambda x: torch.full_like(x, unit))


def _between(low: float, high: float, coordinate: Map, value: Map, slope: Map) -> Scale:
    least, most = (float(coordinate(torch.tensor(end, dtype=torch.float64))) for end in (low, high))
    return Scale(coordinate, value, slope, (least, most))
