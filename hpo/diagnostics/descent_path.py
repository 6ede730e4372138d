"""Along a training: does the slope keep up with the loss, how far do the weights go, which units change sides.

    q_t = ‖∇F(w_t)‖²/F(w_t)             at least a constant near the start of a wide network (Allen-Zhu et al., Thm 3)
    F_{t+1} ≈ F_t + ⟨∇F_t, Δw_t⟩        where F is nearly linear over a step; F_t (1 − η q_t) for gradient descent

F is the mean loss alone: with a penalty it has a positive floor, and q goes to 0 at any minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import combinations
from math import inf, log
from statistics import linear_regression
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hpo.diagnostics.findings import Flips, Movement, Point, Stall
from solvers.chain import Chain, Stage
from solvers.vectors import Tensors, subtract

BLOCK = 1000
"""Rows whose activations are held at once."""
FALL = 10.0
KEPT = 0.9
"""A stall: the ratio falls at least this many times while this share of the loss is kept."""
ITERATIONS = 50


class Objective(NamedTuple):
    """F(w) = criterion(forward(w, inputs `[N, …]`), targets), a mean over rows without any penalty."""

    forward: Callable[[Tensors, Tensor], Tensor]
    criterion: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor

    def value(self, weights: Tensors) -> float:
        """F, block by block."""
        with torch.no_grad():
            return sum(float(part) for part in self._parts(weights))

    def slope(self, weights: Tensors) -> tuple[float, dict[str, Tensor]]:
        """(F, ∇F by name)."""
        value, total = 0.0, {name: torch.zeros_like(w) for name, w in weights.items()}
        with torch.enable_grad():
            points = {name: w.detach().requires_grad_() for name, w in weights.items()}
            for part in self._parts(points):
                found = torch.autograd.grad(part, list(points.values()), materialize_grads=True)
                value += float(part.detach())
                total = {name: total[name] + slope for name, slope in zip(points, found, strict=True)}
        return value, total

    def _parts(self, weights: Tensors) -> Iterator[Tensor]:
        """The blocks' shares of F."""
        for inputs, targets in zip(self.inputs.split(BLOCK), self.targets.split(BLOCK), strict=True):
            share = len(inputs) / len(self.inputs)
            yield share * self.criterion(self.forward(weights, inputs), targets)


def follow(states: Iterable[tuple[int, Tensors]], looked: Collection[int], objective: Objective) -> Iterator[Point]:
    """A point for every step of `looked` among the states (step, weights), which come in the order of their steps.

    Where the state of the next step comes too, F there and its forecast are part of the point.
    Cost: a gradient on all of the objective's rows a point, and a third of one for what follows it.
    """
    held: tuple[Point, Tensors, Tensors] | None = None
    for step, weights in states:
        if held is not None:
            point, before, slopes = held
            if step == point.step + 1:
                moved = subtract(weights, before)
                forecast = point.loss + sum(float((slopes[n] * d).sum()) for n, d in moved.items())
                point = Point(point.step, point.loss, point.squared_gradient, objective.value(weights), forecast)
            yield point
            held = None
        if step in looked:
            value, slopes = objective.slope(weights)
            held = Point(step, value, _squared(slopes)), weights, slopes
    if held is not None:
        yield held[0]


def _squared(values: Tensors) -> float:
    return sum(float(x.double().square().sum()) for x in values.values())


def log_slope(points: Sequence[Point]) -> float | None:
    """The least-squares slope of log ‖∇F‖² over log F, of the points where both are finite and positive.

    None for fewer than three, and where F stays within a factor of two: then it is noise.
    """
    usable = [(p.loss, p.squared_gradient) for p in points if 0 < p.loss < inf and 0 < p.squared_gradient < inf]
    losses, squares = ([log(pair[k]) for pair in usable] for k in (0, 1))
    if len(usable) < 3 or max(losses) - min(losses) < log(2):
        return None
    return linear_regression(losses, squares).slope


def stall(points: Sequence[Point]) -> Stall | None:
    """The two points between which the ratio falls most, at least 10-fold, while the loss keeps 0.9 of itself.

    There the weights have come to a flat place that is no minimum; None where there is no such pair.
    """
    found = [
        Stall(a, b, a.ratio / b.ratio)
        for a, b in combinations(points, 2)
        if a.ratio >= FALL * b.ratio > 0 and b.loss >= KEPT * a.loss
    ]
    return max(found, key=lambda s: s.fall, default=None)


def movement(first: Tensors, last: Tensors) -> tuple[Movement, ...]:
    """‖W − W₀‖/‖W₀‖ of every tensor of two axes or more, those beyond the first taken as one."""
    found = []
    for name, start in first.items():
        if start.dim() > 1:
            before, moved = (w.flatten(1).double() for w in (start, last[name] - start))
            norms = [(_norm(moved, kind), _norm(before, kind)) for kind in ("fro", 2)]
            found.append(Movement(name, *(a / b if b else None for a, b in norms)))
    return tuple(found)


def _norm(matrix: Tensor, kind: str | int) -> float:
    return float(torch.linalg.matrix_norm(matrix, kind))


def flips(chain: Chain, first: Tensors, last: Tensors, inputs: Tensor) -> tuple[Flips, ...]:
    """Of every stage but the last: the share of (row, unit) pairs whose sign differs under the two sets of weights.

    The sign is that of what goes into a dense stage's activation, and of what comes out of any other stage.
    """
    found: dict[str, int] = {}
    total: dict[str, int] = {}
    with torch.no_grad():
        for block in inputs.split(BLOCK):
            before = after = block
            for i, stage in enumerate(chain[:-1]):
                name = stage.names[0].rpartition(".")[0] if stage.names else f"stage {i}"
                changed = _positive(stage, first, before) != _positive(stage, last, after)
                found[name] = found.get(name, 0) + int(changed.sum())
                total[name] = total.get(name, 0) + changed.numel()
                before, after = stage.forward(first, before), stage.forward(last, after)
    return tuple(Flips(name, count / total[name]) for name, count in found.items())


def _positive(stage: Stage, weights: Tensors, inputs: Tensor) -> Tensor:
    if stage.dense is None:
        return stage.forward(weights, inputs) > 0
    bias = None if stage.dense.bias is None else weights[stage.dense.bias]
    return F.linear(inputs.flatten(1), weights[stage.dense.weight], bias) > 0


def steepest(product: Callable[[Tensor], Tensor], rate: Tensor) -> float:
    """The largest eigenvalue of R^½ G R^½: `product(x)` is Gx for a symmetric G ≥ 0 `[P, P]`, R = diag(`rate` `[P]`).

    The power method from a fixed start, 50 products or until the estimate rises by less than a thousandth; it is a
    lower bound.
    """
    root = rate.clamp(min=0).sqrt()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(rate), generator=generator).to(rate)
    value = 0.0
    for _ in range(ITERATIONS):
        x = x / torch.linalg.vector_norm(x)
        y = root * product(root * x)
        before, value = value, float(x @ y)
        if not abs(value - before) > 1e-3 * abs(value):
            break
        x = y
    return value
