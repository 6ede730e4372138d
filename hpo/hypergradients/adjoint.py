"""The one backward loop: pull an adjoint back through a training, step by step.

With state s_{t+1} = Φ_t(s_t, λ), adjoint α_T = ∂f/∂s_T and t = T−1 … 0:

    λ̄ ← λ̄ + (∂Φ_t/∂λ)ᵀ α_{t+1}          α_t = (∂Φ_t/∂s)ᵀ α_{t+1}

Methods differ only in where s_t comes from: recorded, computed again, run backwards, on a line between kept states …
(Domke 2012; Maclaurin, Duvenaud, Adams 2015, Algorithm 2.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from hpo.hypergradients.training import Derivative, Training
from solvers.solver import Batches, Solver, State
from solvers.vectors import Tensors, leaves, rebuild, zeros

Backwards = Iterable[tuple[int, State]]
"""Steps from last to first, each with the state before it."""


class Reversed(NamedTuple):
    """The adjoint before the first step; λ̄ by name in float64; the step at which the adjoint stopped being finite."""

    adjoint: list[Tensor]
    total: dict[str, Tensor]
    exploded: int | None

    @property
    def derivative(self) -> Derivative:
        """λ̄, with what there is to report."""
        return Derivative(self.total, {} if self.exploded is None else {"exploded": self.exploded})


def final_adjoint(state: State, slopes: Tensors) -> list[Tensor]:
    """α_T: the gradient with respect to the final weights, and zero for every other leaf of the state."""
    blank = [torch.zeros_like(x) for x in leaves(state)]
    names = list(state.weights)
    offset = next(i for i, x in enumerate(leaves(state)) if x is state.weights[names[0]])
    for i, name in enumerate(names):
        blank[offset + i] = slopes[name]
    return blank


@contextmanager
def blamed(step: int) -> Iterator[None]:
    """What fails inside is a RuntimeError that names the step; a lack of memory is no fault of the step."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RuntimeError(f"step {step} cannot be differentiated: {error}") from error


def reverse(
    solver: Solver[Any],
    backwards: Backwards,
    hyper: Tensors,
    batches: Batches,
    adjoint: list[Tensor],
    *,
    bounded: bool = False,
) -> Reversed:
    """Pull `adjoint` back through the steps, last to first; raises RuntimeError naming one without a derivative.

    `bounded`: it is shortened wherever it becomes longer than it was at first.
    Cost: four gradient evaluations a step (`GRADIENT_OF_STEP`).
    """
    total = {name: x.double() for name, x in zeros(hyper).items()}
    steps: list[int] = []
    longest = get_total_norm(adjoint)
    sizes: list[Tensor] = []  # looked at once, at the end: a look at each step would wait for the device
    for t, state in backwards:
        with blamed(t):
            adjoint, slopes = pull_back(solver, state, hyper, batches, t, adjoint)
        for name, slope in slopes.items():
            total[name] += slope
        steps.append(t)
        sizes.append(get_total_norm(adjoint))
        if bounded:
            share = (longest / sizes[-1]).clamp(max=1.0)
            adjoint = [x * share for x in adjoint]
    return Reversed(adjoint, total, _exploded(steps, sizes))


def _exploded(steps: list[int], sizes: list[Tensor]) -> int | None:
    if not steps:
        return None
    fine = torch.isfinite(torch.stack(sizes)).tolist()
    return None if all(fine) else steps[fine.index(False)]


def pull_back(
    solver: Solver[Any], state: State, hyper: Tensors, batches: Batches, t: int, adjoint: list[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """One step of the loop: (α_t, its contribution to λ̄)."""
    batch = batches(t)
    return _through(lambda before, knobs: solver.step(before, knobs, batch), state, hyper, adjoint)


def pull_back_start(training: Training, weights: Tensors, hyper: Tensors, reversed_: Reversed) -> Reversed:
    """The start of the training, s_0 = init(w, λ): its contribution to λ̄ (initial_scale) added."""
    first = training.batches(0)
    start = Start(weights)
    _, slopes = _through(
        lambda at, knobs: training.solver.init(at.weights, knobs, first), start, hyper, reversed_.adjoint
    )
    return reversed_._replace(total={name: x + slopes[name] for name, x in reversed_.total.items()})


class Start(NamedTuple):
    """What a training starts from."""

    weights: Tensors


def _through(
    function: Callable[[Any, Tensors], State], state: Any, hyper: Tensors, adjoint: list[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The adjoint pulled back through one function of (state, hyper), by reverse mode."""
    with torch.enable_grad():
        before = [x.detach().requires_grad_() for x in leaves(state)]
        knobs = {name: x.detach().requires_grad_() for name, x in hyper.items()}
        after = leaves(function(rebuild(state, before), knobs))
        pairs = [(x, a) for x, a in zip(after, adjoint, strict=True) if x.requires_grad]
        slopes = torch.autograd.grad(
            [x for x, _ in pairs], [*before, *knobs.values()], [a for _, a in pairs], materialize_grads=True
        )
    return list(slopes[: len(before)]), dict(zip(knobs, slopes[len(before) :], strict=True))
