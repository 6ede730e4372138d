"""Planted conflicts: what the floors say is what the best function of the inputs reaches, to the last digit."""

from math import log

import pytest
import torch
import torch.nn.functional as F

from hpo.diagnostics.floors import firsts, groups, repeats

A, B, C = [1.0, 2.0], [3.0, -1.0], [0.0, 5.0]


def test_groups_are_numbered_by_their_first_row():
    rows = torch.tensor([C, A, C, B, A, A])
    group = groups(rows)
    assert group.tolist() == [0, 1, 0, 2, 1, 1]
    assert firsts(group).tolist() == [0, 1, 3]
    assert groups(rows.reshape(6, 1, 2)).tolist() == group.tolist()


def test_a_negative_zero_is_a_zero():
    assert groups(torch.tensor([[0.0, 1.0], [-0.0, 1.0]])).tolist() == [0, 0]


def test_classes():
    """A: three of class 0, one of class 1. B: one each of 0, 1, 2. C: twice class 2, no conflict."""
    rows = torch.tensor([A, B, A, C, B, A, C, A, B])
    labels = torch.tensor([0, 0, 0, 2, 1, 1, 2, 0, 2])
    found = repeats(groups(rows), labels)
    assert (found.rows, found.repeated, found.conflicting) == (9, 6, 7)
    assert found.loss == pytest.approx((3 * log(4 / 3) + log(4) + 3 * log(3)) / 9, rel=1e-14)
    assert found.error == pytest.approx((1 + 2) / 9, rel=1e-14)
    assert found.example == (0, 5)


def test_the_loss_is_reached_by_the_frequencies():
    generator = torch.Generator().manual_seed(0)
    group = groups(torch.randint(0, 5, (200, 1), generator=generator).float())
    labels = torch.randint(0, 3, (200,), generator=generator)
    counts = torch.zeros(5, 3, dtype=torch.float64).index_put((group, labels), torch.ones(200).double(), True)
    outputs = counts.log()[group]
    found = repeats(group, labels)
    assert found.loss == pytest.approx(float(F.cross_entropy(outputs, labels)), rel=1e-13)
    assert found.error == pytest.approx(float((outputs.argmax(dim=1) != labels).double().mean()), rel=1e-13)


def test_quantities():
    """The means of A, (2, 1), and of B, (0, 0), leave 2·(1 + 1) and nothing."""
    rows = torch.tensor([A, B, A, B, C])
    targets = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    found = repeats(groups(rows), targets)
    assert (found.repeated, found.conflicting, found.example, found.error) == (2, 2, (0, 2), None)
    assert found.loss == 4 / 10
    means = torch.tensor([[2.0, 1.0], [0.0, 0.0], [2.0, 1.0], [0.0, 0.0], [9.0, 9.0]])
    assert found.loss == pytest.approx(float(F.mse_loss(means, targets)))


def test_equal_quantities_are_no_conflict_whatever_their_mean_rounds_to():
    found = repeats(torch.zeros(7, dtype=torch.int64), torch.full((7, 1), 0.1))
    assert (found.repeated, found.conflicting, found.loss, found.example) == (6, 0, 0.0, None)


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 0]), torch.tensor([[0.5], [1.0], [0.5]])])
def test_no_conflict_no_floor(targets):
    found = repeats(groups(torch.tensor([A, B, A])), targets)
    assert (found.repeated, found.conflicting, found.loss, found.example) == (1, 0, 0.0, None)
    assert not found.error
