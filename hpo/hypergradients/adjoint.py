"""The one backward loop: pull an adjoint back through a training, step by step.

With state s_{t+1} = Φ_t(s_t, λ), adjoint α_T = ∂f/∂s_T and t = T−1 … 0:

    λ̄ ← λ̄ + (∂Φ_t/∂λ)ᵀ α_{t+1}          α_t = (∂Φ_t/∂s)ᵀ α_{t+1}

Methods differ only in where s_t comes from: recorded, on a line between kept states, …
(Domke 2012; Maclaurin, Duvenaud, Adams 2015, Algorithm 2.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from solvers.solver import Batches, Solver, State
from solvers.vectors import Tensors, leaves, rebuild, zeros

Trajectory = Callable[[int], State]
"""Step t → the state before it."""


def final_adjoint(state: State, slopes: Tensors) -> list[Tensor]:
    """α_T: the gradient with respect to the final weights, and zero for every other leaf of the state."""
    blank = [torch.zeros_like(x) for x in leaves(state)]
    names = list(state.weights)
    offset = next(i for i, x in enumerate(leaves(state)) if x is state.weights[names[0]])
    for i, name in enumerate(names):
        blank[offset + i] = slopes[name]
    return blank


def reverse(
    solver: Solver[Any],
    trajectory: Trajectory,
    hyper: Tensors,
    batches: Batches,
    steps: Iterable[int],
    adjoint: list[Tensor],
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The adjoint before the first of `steps` (given last to first), and d/d(hyper), accumulated in float64.

    Cost: four gradient evaluations a step (`GRADIENT_OF_STEP`).
    """
    total = {name: x.double() for name, x in zeros(hyper).items()}
    for t in steps:
        adjoint, slopes = pull_back(solver, trajectory(t), hyper, batches, t, adjoint)
        for name, slope in slopes.items():
            total[name] += slope
    return adjoint, total


def pull_back(
    solver: Solver[Any], state: State, hyper: Tensors, batches: Batches, t: int, adjoint: list[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """One step of the loop: (α_t, its contribution to λ̄)."""
    with torch.enable_grad():
        before = [x.detach().requires_grad_() for x in leaves(state)]
        knobs = {name: x.detach().requires_grad_() for name, x in hyper.items()}
        after = leaves(solver.step(rebuild(state, before), knobs, batches(t)))
        pairs = [(x, a) for x, a in zip(after, adjoint, strict=True) if x.requires_grad]
        slopes = torch.autograd.grad(
            [x for x, _ in pairs], [*before, *knobs.values()], [a for _, a in pairs], materialize_grads=True
        )
    return list(slopes[: len(before)]), dict(zip(knobs, slopes[len(before) :], strict=True))
