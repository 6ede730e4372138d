"""Reverse mode along the training run backwards, from its end alone (Maclaurin, Duvenaud, Adams 2015, Algorithm 2).

SGD with momentum can be undone: v_t = (v_{t+1} − ∇L(w_t))/momentum. In floating point the division lets rounding
errors grow as momentum⁻ᵗ; here weights and velocity are whole multiples of 2⁻⁴⁸, and what a multiplication by momentum
drops is kept (`fixed_point`). With (W, V) these whole numbers, (w, v) their values, ⌊·⌉ rounding to a multiple, and
m = momentum:

    forwards     V ← m·V ;  V ← V + ⌊∇L(w)⌉ ;  W ← W − ⌊rate·v⌉
    backwards    W ← W + ⌊rate·v⌉ ;  V ← V − ⌊∇L(w)⌉ ;  V ← V/m

The floating-point parts are computed twice from the same digits, so they only have to be the same twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor

from hpo.hypergradients.adjoint import final_adjoint, pull_back_start, reverse
from hpo.hypergradients.fixed_point import (
    FINEST,
    LARGEST,
    Remainders,
    Word,
    bounds,
    decoded,
    divided,
    fraction,
    magnitude,
    multiples,
    multiplied,
    nothing,
)
from hpo.hypergradients.kept import Kept, ahead, recall, replace, stand
from hpo.hypergradients.training import (
    GRADIENT_OF_STEP,
    Charge,
    Following,
    Training,
    validation_evaluations,
    validation_gradient,
)
from solvers.sgd import SGD, SGDState
from solvers.solver import Batches, gradient, required
from solvers.vectors import Tensors, flatten, unflatten

UNDOING = 4.0
"""Gradient evaluations charged for a step that is undone: the gradient again, and what whole numbers cost both ways.
Measured 1.5 each way on 784-50-50-50-10 at batch 100, less on larger batches."""


class Reversible:
    """The derivative of the training as it was run, its states not kept: log₂(1/momentum) bits a weight and step are.

    The training is SGD with momentum n/d, d ≤ 2¹⁶, the fraction nearest to the value given; weights and velocity lie
    within ±2¹⁴, and a step is exact to 2⁻⁴⁸ but for momentum's part, exact to d·2⁻⁴⁸ (9/10: 4e-14). Any hyperparameter
    of SGD, momentum among them, which must be one value above 0 and below 1 for the whole training.
    Cost, in gradient evaluations: 8 T, as every gradient is computed again on the way back, and integers take their
    time. Memory, in bytes a weight: 96 while a step is done, and T·log₂(1/momentum)/8, at momentum 0.9 that of 2 states
    of float64 for 400 steps, 13 for 10,000. The training is another one than SGD's in floating point by its rounding:
    beyond the edge of stability the two part, and so do their derivatives.

    The report: `bits_per_step_per_weight` and `store_bytes` of all that multiplications dropped, at the end of the
    training; `recovered`: 1 if the way back ended at the first state bit for bit, else 0, on a device whose gradients
    differ from one evaluation to the next; the derivative is then worth nothing.
    """

    def charge(self, training: Training, weights: Tensors, hyper: Tensors) -> Charge:
        """8 a step, and the validation gradient. Raises ValueError for another solver than SGD and for a momentum that
        is missing, out of range or not one value.
        """
        machine = machinery(training, weights, hyper)
        bytes_each = 12 * 8 + training.steps * -log2(machine.momentum) / 8
        count = sum(w.numel() for w in weights.values())
        evaluations = (UNDOING + GRADIENT_OF_STEP) * training.steps + validation_evaluations(training)
        return Charge(evaluations, round(count * bytes_each))

    def follow(
        self,
        training: Training,
        weights: Tensors,
        hyper: Tensors,
        stops: Collection[int] = (),
        kept: Kept | None = None,
    ) -> Following:
        """The training in whole numbers; then the backward loop along it, undone step by step.

        Raises OverflowError naming the step at which a weight or a velocity leaves ±2¹⁴ or is not finite.
        """
        machine, steps = machinery(training, weights, hyper), training.steps
        start = training.solver.init(weights, hyper, training.batches(0)).weights
        reel, kept = machine.at_rest(start), {} if kept is None else kept
        here = stand(kept, "reel", steps)
        if here:
            reel = recovered(kept, here, machine.momentum)
        for stop in ahead(here, {steps, *stops}):
            reel = machine.run(reel, here, stop)
            put_away(reel, kept, stop)
            here = stop
            yield stop, machine.state(reel)
        size = reel.lost.bytes
        final = machine.state(reel)

        def backwards() -> Iterator[tuple[int, SGDState]]:
            nonlocal reel
            for t in range(steps - 1, -1, -1):
                reel = machine.back(reel, t)
                yield t, machine.state(reel)

        adjoint = final_adjoint(final, validation_gradient(training, final.weights))
        pulled = reverse(training.solver, backwards(), machine.hyper, training.batches, adjoint)
        derivative = pull_back_start(training, weights, machine.hyper, pulled).derivative
        report = {
            "bits_per_step_per_weight": 8 * size / (steps * reel.weights.numel()),
            "store_bytes": float(size),
            "recovered": float(same(reel, machine.at_rest(start))),
        }
        return derivative._replace(report={**derivative.report, **report})


class Reel(NamedTuple):
    """A training at some step, in whole numbers: weights and velocity `[N]` int64, and what was dropped so far."""

    weights: Tensor
    velocity: Tensor
    lost: Remainders


def put_away(reel: Reel, kept: Kept, step: int) -> None:
    """Keep a reel as it is at `step`: its vectors, and the words of its store, "word/0" first, which never change."""
    kept.update({f"word/{i}": word.bits for i, word in enumerate(reel.lost.words)})
    replace(kept, "reel", step, [reel.weights, reel.velocity, reel.lost.register])


def recovered(kept: Kept, step: int, momentum: Fraction) -> Reel:
    """The inverse of `put_away`."""
    weights, velocity, register = recall(kept, "reel", step)
    bound, words = bounds(momentum, step)
    lost = Remainders(register, bound, tuple(Word(kept[f"word/{i}"], full) for i, full in enumerate(words)))
    return Reel(weights, velocity, lost)


def same(a: Reel, b: Reel) -> bool:
    """Whether two reels of the same step agree in every bit."""
    pairs = ((a.weights, b.weights), (a.velocity, b.velocity), (a.lost.register, b.lost.register))
    return all(torch.equal(x, y) for x, y in pairs)


class Machine(NamedTuple):
    """SGD that runs both ways. `like`: names, shapes and dtype of the weights; `hyper`: with the momentum as it is."""

    solver: SGD
    batches: Batches
    hyper: Tensors
    momentum: Fraction
    like: Tensors

    def at_rest(self, weights: Tensors) -> Reel:
        """Before the first step. Raises OverflowError for weights out of range."""
        values = flatten(weights)
        still = torch.zeros_like(values, dtype=torch.int64)
        _check(0, [magnitude(still, values.double())])
        return Reel(multiples(values), still, nothing(still))

    def state(self, reel: Reel) -> SGDState:
        """The values, in the dtype of the weights."""
        return SGDState(self._values(reel.weights), self._values(reel.velocity))

    def run(self, reel: Reel, start: int, stop: int) -> Reel:
        """Steps start … stop − 1; raises OverflowError (see `Reversible.follow`)."""
        sizes: list[Tensor] = []  # looked at once, at the end: a look at each step would wait for the device
        for t in range(start, stop):
            reel, size = self._forth(reel, t)
            sizes.append(size)
        if sizes:
            _check(start, sizes)
        return reel

    def _forth(self, reel: Reel, t: int) -> tuple[Reel, Tensor]:
        """(The reel after step t, the largest weight or velocity in it)."""
        slope = self._slope(reel.weights, t)
        velocity, lost = multiplied(reel.velocity, reel.lost, self.momentum)
        size = magnitude(velocity, slope)
        velocity += multiples(slope)
        move = self._move(velocity, t)
        size = torch.maximum(size, magnitude(reel.weights, -move))
        return Reel(reel.weights - multiples(move), velocity, lost), size

    def back(self, reel: Reel, t: int) -> Reel:
        """The reel before step t, which led to `reel`."""
        weights = reel.weights + multiples(self._move(reel.velocity, t))
        velocity = reel.velocity - multiples(self._slope(weights, t))
        return Reel(weights, *divided(velocity, reel.lost, self.momentum))

    def _slope(self, weights: Tensor, t: int) -> Tensor:
        """∇L at step t, `[N]` float64."""
        with torch.no_grad():
            slopes = gradient(self.solver.loss, self._values(weights), self.hyper, self.batches(t))
        return flatten(slopes).double()

    def _move(self, velocity: Tensor, t: int) -> Tensor:
        """rate·v at step t, `[N]` float64."""
        rates = {n: required(self.hyper, "learning_rate", n, t).detach().expand(w.shape) for n, w in self.like.items()}
        return flatten(rates).double().mul_(decoded(velocity, torch.float64))

    def _values(self, c: Tensor) -> dict[str, Tensor]:
        some = next(iter(self.like.values()))
        return unflatten(decoded(c, some.dtype), self.like)


def machinery(training: Training, weights: Tensors, hyper: Tensors) -> Machine:
    """The machine for a training. Raises ValueError, see `Reversible.charge`."""
    solver = training.solver
    if type(solver) is not SGD:  # not a subclass either: its steps may be others
        raise ValueError(f"reversible runs the steps of SGD backwards, not of {type(solver).__name__}: use exact")
    extra = sorted(name for name in hyper if name.startswith(("momentum.", "momentum[")))
    value = hyper.get("momentum")
    if extra or value is None or value.numel() != 1:
        given = ", ".join(extra) or ("none" if value is None else f"shape {[*value.shape]}")
        raise ValueError(f"reversible needs one momentum for the whole training, given {given}: give one, or use exact")
    momentum = fraction(float(value)) if 0 < value < 1 else Fraction(0)
    if not 0 < momentum < 1:
        raise ValueError(
            f"momentum {float(value):g} must lie between 1/{FINEST} and 1 - 1/{FINEST} for reversible, which divides by"
            " it on the way back: use exact for others"
        )
    knobs = {**hyper, "momentum": torch.full_like(value, float(momentum))}
    return Machine(solver, training.batches, knobs, momentum, weights)


def _check(first: int, sizes: list[Tensor]) -> None:
    fits = (torch.stack(sizes) < LARGEST).tolist()
    if not all(fits):
        raise OverflowError(
            f"step {first + fits.index(False)}: a weight or a velocity is not finite or beyond ±{LARGEST:g}, the range"
            " of reversible's whole numbers: lower the learning rate, or use exact"
        )
