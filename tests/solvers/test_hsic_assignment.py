"""The assignment of units to classes against scipy's."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from solvers.assignment import assignment


def scores(seed, size, most):
    return torch.randint(0, most, (size, size), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("most", [2, 1000], ids=["many ties", "few ties"])
def test_the_total_is_scipys(size, most):
    for seed in range(8):
        table = scores(seed, size, most)
        columns = assignment(table)
        assert sorted(columns.tolist()) == list(range(size))
        best = table.numpy()[linear_sum_assignment(table.numpy(), maximize=True)].sum()
        assert table[torch.arange(size), columns].sum() == best


def test_it_is_not_the_greedy_choice():
    assert assignment(torch.tensor([[10, 9], [9, 0]])).tolist() == [1, 0]


def test_replicas_at_once():
    tables = torch.stack([scores(seed, 6, 50) for seed in range(5)])
    together = torch.vmap(assignment)(tables)
    assert torch.equal(together, torch.stack([assignment(table) for table in tables]))
