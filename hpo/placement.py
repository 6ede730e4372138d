"""Named vectors of the search space ↔ the solver's hyperparameters.

A method that only differentiates works on the solver's hyperparameters, and `gather` adds up what belongs together.
A method that moves them must not part what belongs together: it works on the vectors, with a `Placed` solver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.space import Group, Space
from hpo.trial import Array, Values
from solvers.ranges import SCHEDULES
from solvers.solver import Batch, HeavyBall, Solver, State
from solvers.vectors import Tensors


def place(space: Space, values: Values | Tensors, fixed: Mapping[str, float], like: Tensor) -> dict[str, Tensor]:
    """Named vectors `[K]` and fixed numbers → the solver's hyperparameters, with the type and device of `like`.

    Differentiable in the vectors.
    """
    hyper = {name: torch.as_tensor(value).to(like) for name, value in fixed.items()}
    for group in space.groups:
        vector = torch.as_tensor(values[group.name]).to(like)
        for piece in group.pieces:
            part = vector[piece.start : piece.stop].reshape(piece.shape)
            hyper[piece.key] = part[torch.from_numpy(piece.windows)] if piece.steps else part
    return hyper


def gather(space: Space, gradient: Tensors) -> dict[str, Array]:
    """The transpose of `place`: derivatives of the solver's hyperparameters → one vector `[K]` per name, summed."""
    vectors = {}
    for group in space.groups:
        vector = np.zeros(group.size)
        for piece in group.pieces:
            slopes = gradient[piece.key].detach().cpu().double().numpy()
            if piece.steps:
                slopes = np.bincount(piece.windows, slopes.reshape(piece.steps), minlength=piece.shape[0])
            vector[piece.start : piece.stop] += slopes.reshape(-1)
        vectors[group.name] = vector
    return vectors


class Placed(Solver[Any]):
    """A solver whose hyperparameters are the vectors of a space, placed anew at each step; the fixed ones are its own.

    Their ranges are the space's, within its bounds. A schedule is called `learning_rate[t]`, and has a row per window.
    """

    def __init__(self, solver: Solver[Any], space: Space, fixed: Mapping[str, float]) -> None:
        self.solver, self.space, self.fixed = solver, space, fixed
        self.evaluations, self.whole, self.readout_rows = solver.evaluations, solver.whole, solver.readout_rows
        self.hyperparameters = {
            g.name: solver.hyperparameters[g.name]._replace(
                low=g.low, high=g.high, default=g.default, log=g.log, limits=(g.low, g.high)
            )
            for g in space.groups
        }

    def vectors(self, values: Values, like: Tensor) -> dict[str, Tensor]:
        """The hyperparameters of this solver, in float64, on the device of `like`."""
        return {_key(g): _rows(g, torch.as_tensor(values[g.name], device=like.device)) for g in self.space.groups}

    def named(self, vectors: Tensors) -> dict[str, Array]:
        """The inverse of `vectors`; also for their derivatives."""
        return {g.name: _row(g, vectors[_key(g)]).detach().cpu().double().numpy() for g in self.space.groups}

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> State:
        """As the solver itself."""
        return self.solver.init(weights, self._placed(weights, hyper), batch)

    def step(self, state: State, hyper: Tensors, batch: Batch) -> State:
        """As the solver itself."""
        return self.solver.step(state, self._placed(state.weights, hyper), batch)

    def heavy_ball(self, state: State, hyper: Tensors, index: int) -> HeavyBall | None:
        """As the solver itself."""
        return self.solver.heavy_ball(state, self._placed(state.weights, hyper), index)

    def readout(self, weights: Tensors) -> Tensors:
        """As the solver itself."""
        return self.solver.readout(weights)

    def between(self, first: State, last: State, share: float, steps: int, hyper: Tensors, batch: Batch) -> State:
        """As the solver itself."""
        return self.solver.between(first, last, share, steps, self._placed(first.weights, hyper), batch)

    def logs(self, state: State, hyper: Tensors, batch: Batch) -> dict[str, Tensor]:
        """As the solver itself."""
        return self.solver.logs(state, self._placed(state.weights, hyper), batch)

    def _placed(self, weights: Tensors, hyper: Tensors) -> dict[str, Tensor]:
        vectors = {g.name: _row(g, hyper[_key(g)]) for g in self.space.groups}
        return place(self.space, vectors, self.fixed, next(iter(weights.values())))


def _key(group: Group) -> str:
    return f"{group.name}[t]" if group.per in SCHEDULES else group.name


def _rows(group: Group, vector: Tensor) -> Tensor:
    """Schedules of layers side by side, `[windows, layers]`: a row for each time, as in every schedule."""
    return vector.reshape(-1, _windows(group)).T if group.per == "layer-step" else vector


def _row(group: Group, rows: Tensor) -> Tensor:
    """The inverse of `_rows`."""
    return rows.T.reshape(-1) if group.per == "layer-step" else rows


def _windows(group: Group) -> int:
    return group.pieces[0].shape[0]
