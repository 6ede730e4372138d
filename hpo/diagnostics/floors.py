"""Repeated rows, and the losses that no training can go below because their targets differ.

A network gives equal rows equal outputs. With c_gk rows of class k among the c_g rows of group g, N in all:

    cross-entropy  ≥ (1/N) Σ_g Σ_k c_gk ln(c_g/c_gk)          wrong rows ≥ (1/N) Σ_g (c_g − max_k c_gk)
    squared error  ≥ (1/(N D)) Σ_g Σ_{i∈g} ‖y_i − ȳ_g‖²
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpo.diagnostics.findings import Repeats


def groups(rows: Tensor) -> Tensor:
    """Which rows `[N, …]` are equal: the number of each row's group, `[N]`; groups are numbered from 0 by first row."""
    _, group = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    order = torch.empty_like(group)
    first = firsts(group)
    order[group[first]] = torch.arange(len(first), device=group.device)
    return order[group]


def firsts(group: Tensor) -> Tensor:
    """The first row of every group, in the order of the rows."""
    places = torch.arange(len(group), device=group.device)
    first = torch.full_like(group, len(group)).scatter_reduce(0, group, places, "amin")
    return first[first < len(group)].sort().values


def repeats(group: Tensor, targets: Tensor) -> Repeats:
    """What the groups `[N]` of equal rows force on targets: class numbers int64 `[N]`, or quantities `[N, D]`.

    The sums are float64, and exact to rounding.
    """
    count = int(group.max()) + 1
    size = torch.bincount(group, minlength=count)
    if targets.dtype == torch.int64:
        classes = int(targets.max()) + 1
        table = torch.bincount(group * classes + targets, minlength=count * classes).reshape(count, classes).double()
        total = table.sum(dim=1)
        loss = (torch.special.xlogy(total, total) - torch.special.xlogy(table, table).sum(dim=1)).sum() / len(group)
        wrong = total - table.amax(dim=1)
        mixed, error = wrong > 0, float(wrong.sum() / len(group))
    else:
        exact = targets.double()
        mean = exact.new_zeros((count, exact.shape[1])).index_add(0, group, exact) / size[:, None]
        first = exact[firsts(group)]  # against the first, not the mean, whose rounding is no conflict
        mixed = torch.zeros_like(size).index_add(0, group, (exact != first[group]).any(dim=1).long()) > 0
        loss = ((exact - mean[group]).square() * mixed[group, None]).sum() / exact.numel()
        error = None
    conflicting = int(size[mixed].sum())
    return Repeats(len(group), len(group) - count, conflicting, float(loss), error, _example(group, targets, mixed))


def _example(group: Tensor, targets: Tensor, mixed: Tensor) -> tuple[int, int] | None:
    """The first two rows of the first group in conflict that have different targets."""
    conflicting = mixed[group].nonzero()[:, 0]
    if not len(conflicting):
        return None
    first = int(conflicting[0])
    same = (group == group[first]).nonzero()[:, 0]
    differs = (targets[same] != targets[first]).reshape(len(same), -1).any(dim=1)
    return first, int(same[differs][0])
