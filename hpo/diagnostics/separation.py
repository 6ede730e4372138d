"""δ-separation: the smallest distance between two rows of length 1.

    δ = min_{i≠j} ‖x_i/‖x_i‖ − x_j/‖x_j‖‖

Distances do not change when the mean m is taken off all rows, and products of what is left round less:

    ‖x_i − x_j‖² = ⟨(−2c_i, ‖c_i‖², 1), (c_j, 1, ‖c_j‖²)⟩          c = x − m
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpo.diagnostics.findings import Closest

BLOCK = 2048
"""Rows of one side of a block of products."""
CANDIDATES, NEAREST, MEASURED = 1000, 4, 256
"""So many rows, with so many neighbours each, are measured again in float64, so many rows at once."""


def closest(rows: Tensor) -> Closest:
    """The two closest of `rows` `[N, …]` after normalisation.

    All N²/2 products in blocks, in the rows' type; the closest candidates again in float64 from direct differences. So
    δ is exact unless more than 1,000 rows have a neighbour within rounding (about 1e-3 in float32).
    Raises ValueError for fewer than two rows that are not 0. Cost: N²F multiplications, N·F + BLOCK² numbers.
    """
    flat = rows.flatten(1)
    kept = flat.ne(0).any(dim=1).nonzero()[:, 0]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} of {len(flat)} rows are not 0: a distance needs two")
    unit = _normalised(flat[kept])
    left, right = _factors(unit.to(flat.dtype))
    nearest = _nearest(left, right)
    candidates = nearest.topk(min(CANDIDATES, len(kept)), largest=False).indices
    distance, first, second = min(_measured(unit, left, right, some) for some in candidates.split(MEASURED))
    first, second = sorted((int(kept[first]), int(kept[second])))
    typical = float(nearest.clamp(min=0).sqrt().median())
    return Closest(distance, first, second, typical, len(flat), len(flat) - len(kept))


def _normalised(rows: Tensor) -> Tensor:
    """Rows of length 1, in float64."""
    exact = rows.double()
    exact = exact / exact.abs().amax(dim=1, keepdim=True)  # so that no square over- or underflows
    return exact / torch.linalg.vector_norm(exact, dim=1, keepdim=True)


def _factors(unit: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices `[N, F + 2]` whose product left·rightᵀ holds all squared distances."""
    centred = unit - unit.mean(dim=0)
    squares = centred.square().sum(dim=1, keepdim=True)
    ones = torch.ones_like(squares)
    return torch.cat([-2 * centred, squares, ones], dim=1), torch.cat([centred, ones, squares], dim=1)


def _nearest(left: Tensor, right: Tensor) -> Tensor:
    """The squared distance of each row to its nearest other one, `[N]`, from one triangle of the products."""
    nearest = left.new_full((len(left),), torch.inf)
    for i in range(0, len(left), BLOCK):
        rows = slice(i, i + BLOCK)
        for j in range(i, len(left), BLOCK):
            columns = slice(j, j + BLOCK)
            squared = left[rows] @ right[columns].T
            if i == j:
                squared.fill_diagonal_(torch.inf)
            nearest[rows] = torch.minimum(nearest[rows], squared.amin(dim=1))
            nearest[columns] = torch.minimum(nearest[columns], squared.amin(dim=0))
    return nearest


def _measured(unit: Tensor, left: Tensor, right: Tensor, some: Tensor) -> tuple[float, int, int]:
    """(distance, row, row) of the closest pair with a row among `some`, in float64."""
    squared = left[some] @ right.T
    squared[torch.arange(len(some), device=some.device), some] = torch.inf
    others = squared.topk(min(NEAREST, len(unit) - 1), dim=1, largest=False).indices
    distances = torch.linalg.vector_norm(unit[some, None] - unit[others], dim=2)
    row, column = divmod(int(distances.argmin()), distances.shape[1])
    return float(distances[row, column]), int(some[row]), int(others[row, column])
