"""R trainings of one shape as one: a solver whose states, weights and hyperparameters have a replica axis in front.

Training a small network spends its time on calling operations, not on arithmetic; with R replicas `[R, …]` in every
operation a call is paid once for all. The step is the solver's own, under `torch.vmap`, and traced: replica i goes
where it would have gone alone, but for the rounding of the kernels (some 1e-7 of a weight a step), whatever the
others do; not even a NaN passes from one to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from solvers.solver import Batch, Solver, State
from solvers.traced import Function, traced
from solvers.vectors import Tensors, leaves, rebuild


class Stacked(Solver[Any]):
    """`solver` for `replicas` trainings at once, on batches that all share, or `[R, B, …]` with one for each.

    Cost of a step: R of the solver's. Raises RuntimeError where a step looks at values.
    """

    def __init__(self, solver: Solver[Any], replicas: int, *, shared: bool) -> None:
        self.solver, self.replicas, self.shared = solver, replicas, shared
        self.hyperparameters = solver.hyperparameters
        self.evaluations, self.whole, self.readout_rows = solver.evaluations, solver.whole, solver.readout_rows
        self._steps: dict[Any, Function | None] = {}

    def init(self, weights: Tensors, hyper: Tensors, batch: Batch) -> State:
        """The states before the first step; `weights` `[R, …]`."""
        found = self._over(lambda w, h, x, y: self.solver.init(w, h, Batch(batch.index, x, y)))
        return found(dict(weights), dict(hyper), batch.inputs, batch.targets)

    def step(self, state: State, hyper: Tensors, batch: Batch) -> State:
        """One step of all."""
        before, values = leaves(state), list(hyper.values())
        index = torch.tensor(batch.index, device=before[0].device)
        given = (*before, *values, index, batch.inputs, batch.targets)
        key = (type(state), *hyper, *((x.shape, x.dtype) for x in given))
        if key not in self._steps:
            self._steps[key] = self._traced(state, list(hyper), given)
        step = self._steps[key] or self._flat(state, list(hyper), batch.index)
        return rebuild(state, step(*given))

    def readout(self, weights: Tensors) -> Tensors:
        """As the solver itself, for each replica."""
        return torch.vmap(self.solver.readout)(dict(weights))

    def between(self, first: State, last: State, share: float, steps: int, hyper: Tensors, batch: Batch) -> State:
        """As the solver itself, for each replica."""
        found = self._over(
            lambda ends, h, x, y: self.solver.between(ends[0], ends[1], share, steps, h, Batch(batch.index, x, y))
        )
        return found((first, last), dict(hyper), batch.inputs, batch.targets)

    def _over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of (something stacked, hyper, inputs, targets) for all replicas."""
        rows = None if self.shared else 0
        return torch.vmap(function, in_dims=(0, 0, rows, rows))

    def _traced(self, like: State, names: list[str], given: tuple[Tensor, ...]) -> Function | None:
        """The list of operations of every step; None for a solver whose steps are not all the same list."""
        try:
            return traced(self._flat(like, names), *given)
        except RuntimeError:
            return None  # it is called as it is; what looks at values fails there again, and says so

    def _flat(self, like: State, names: list[str], index: int | None = None) -> Function:
        """The step as a function of tensors alone: leaves, hyperparameters, step number, inputs, targets.

        `index`: the step's number, in place of the tensor of it.
        """
        count, rows = len(leaves(like)), None if self.shared else 0
        stacked = (0,) * (count + len(names))

        def one(*given: Tensor) -> list[Tensor]:
            hyper = dict(zip(names, given[count:], strict=False))
            number: Any = given[-3] if index is None else index
            return leaves(self.solver.step(rebuild(like, given[:count]), hyper, Batch(number, *given[-2:])))

        return torch.vmap(one, in_dims=(*stacked, None, rows, rows))


def stack(states: list[State]) -> State:
    """One state `[R, …]` of R."""
    return rebuild(states[0], [torch.stack(same) for same in zip(*(leaves(s) for s in states), strict=True)])


def replica(state: State, number: int) -> State:
    """One of the R states."""
    return rebuild(state, [x[number] for x in leaves(state)])
