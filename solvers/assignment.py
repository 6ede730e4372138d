"""Which class each unit stands for: the one-to-one assignment of highest total score, in whole numbers.

Row after row enters along a shortest augmenting path (Kuhn 1955, Munkres 1957), found by relaxing all paths at once
(Bellman 1958, Ford 1956). Fixed loops over tensors, no value is looked at: it runs inside `torch.vmap`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def assignment(scores: Tensor) -> Tensor:
    """`[K]`: the column of each row of `scores` `[K, K]`, int64 and below 2⁴⁰, no column twice, of highest sum.

    Cost: K(K+1)/2 passes over a K × K table; 5 ms for 10 classes, 0.4 s for 100.
    """
    count = scores.shape[-1]
    columns = torch.arange(count, device=scores.device)
    owner = torch.full_like(columns, -1)  # of each column, the row that has it so far
    for row in range(count):
        owner = _entered(-scores, owner, row, columns)
    return (owner[:, None] == columns).to(columns.dtype).argmax(0)


def _entered(costs: Tensor, owner: Tensor, row: int, columns: Tensor) -> Tensor:
    """The owners after `row` has been let in, along the cheapest chain of handovers to a free column."""
    free, never = owner < 0, costs.new_tensor(1 << 60)
    held = costs.index_select(0, owner.clamp_min(0))  # [column, column]: the costs of the column's owner
    handover = torch.where(free[:, None], never, held - held.diagonal()[:, None])
    price, via = costs[row], torch.full_like(owner, -1)  # of each column, and the column that is handed over before
    for _ in range(row):
        through, before = (price[:, None] + handover).min(0)
        price, via = torch.where(through < price, through, price), torch.where(through < price, before, via)
    end = torch.where(free, price, never).argmin(0, keepdim=True)
    for _ in range(row + 1):
        before = via.gather(0, end)
        owner = torch.where(columns == end, torch.where(before < 0, row, owner.gather(0, before.clamp_min(0))), owner)
        end = torch.where(before < 0, end, before)
    return owner
