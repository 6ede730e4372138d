"""Which states of a training are kept, so that its path can be drawn again from a few of them.

Knots late in the training matter most: the adjoint forgets what was learnt early, and what it still holds there is
smooth. Measured on MNIST, Fashion-MNIST and digits, three `late` segments did better than four even ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from solvers.solver import State
from solvers.vectors import Tensors, flatten

Spacing = Literal["late", "time", "arc", "loss"]
"""`late`: at T(1 − (1 − i/P)²); `time`: at T·i/P; `arc`, `loss`: equal shares of the path's length or of the changes of
the training loss, chosen among candidates after the training."""

CANDIDATES = 8
"""States kept for each segment where the knots are chosen afterwards."""


def places(spacing: Spacing, knots: int, steps: int) -> list[int]:
    """The steps whose states must be kept, 0 and T included; their number does not grow with T."""
    segments = knots - 1
    if spacing == "late":
        shares = [1 - (1 - i / segments) ** 2 for i in range(knots)]
    else:
        count = segments if spacing == "time" else CANDIDATES * segments
        shares = [i / count for i in range(count + 1)]
    return sorted({round(share * steps) for share in shares})


def chosen(
    spacing: Spacing, knots: int, states: Mapping[int, State], loss: Callable[[Tensors], Tensor]
) -> Sequence[int]:
    """At most `knots` of the kept steps, the first and the last among them.

    `loss(weights)` is asked at every candidate where the spacing is by loss. Where nothing moved, or a length is not
    finite, the knots are spread evenly over the candidates.
    """
    steps = sorted(states)
    if spacing in ("late", "time"):
        return steps
    if spacing == "arc":
        places = [flatten(states[step].weights) for step in steps]
        lengths = [torch.linalg.vector_norm(b - a) for a, b in pairwise(places)]
    else:
        heights = [loss(states[step].weights) for step in steps]
        lengths = [(b - a).abs() for a, b in pairwise(heights)]
    return [steps[i] for i in _shares(torch.stack(lengths).double().cpu(), knots)]


def _shares(lengths: Tensor, knots: int) -> list[int]:
    """Indices into 0 … C that cut C lengths into knots − 1 parts, as equal as they can be."""
    along = torch.cat([lengths.new_zeros(1), lengths.cumsum(dim=0)])
    if not bool(torch.isfinite(along[-1]) & (along[-1] > 0)):
        along = torch.arange(len(along), dtype=torch.float64)
    inner = along[-1] * torch.arange(1, knots - 1, dtype=torch.float64) / (knots - 1)
    return sorted({0, len(lengths), *(int((along - place).abs().argmin()) for place in inner)})
