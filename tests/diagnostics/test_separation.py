"""The closest pair by blocks against all pairs one by one."""

import pytest
import torch

from hpo.diagnostics import separation
from hpo.diagnostics.separation import closest


def drawn(rows, features, seed=0):
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed))


def brute(rows):
    """(smallest distance, first, second) of the unit-normalised rows, in float64."""
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    distances = torch.linalg.vector_norm(unit[:, None] - unit[None], dim=2)
    distances.fill_diagonal_(torch.inf)
    first, second = divmod(int(distances.argmin()), len(rows))
    return float(distances[first, second]), first, second, float(distances.amin(dim=1).median())


@pytest.mark.parametrize("block", [2048, 64, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_that_of_all_pairs(monkeypatch, block, seed):
    monkeypatch.setattr(separation, "BLOCK", block)
    rows = drawn(150, 5, seed) * torch.logspace(-3, 3, 150)[:, None]
    found = closest(rows)
    distance, first, second, typical = brute(rows)
    assert (found.first, found.second) == (first, second)
    assert found.distance == pytest.approx(distance, rel=1e-12)
    assert found.typical == pytest.approx(typical, rel=1e-3)
    assert (found.rows, found.zeros) == (150, 0)


def test_images_are_rows():
    rows = drawn(40, 12)
    assert closest(rows.reshape(40, 3, 2, 2)) == closest(rows)


@pytest.mark.parametrize("distance", [1e-4, 1e-6])
def test_rows_that_nearly_agree_are_told_apart(distance):
    """Around one far direction, single-precision products alone would give distances of nothing but rounding."""
    rows = 1000 + drawn(60, 8)
    rows[17] = rows[41]
    rows[17, 3] += distance * rows[41].norm()
    found = closest(rows)
    assert (found.first, found.second) == (17, 41)
    assert found.distance == pytest.approx(distance, rel=0.1)
    assert found.distance == pytest.approx(brute(rows)[0], rel=1e-9)


def test_the_papers_coordinate():
    rows = drawn(30, 4)
    found = closest(rows)
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    padded = torch.cat([unit / 2**0.5, torch.full((30, 1), 2**-0.5, dtype=torch.float64)], dim=1)
    assert torch.linalg.vector_norm(padded, dim=1).tolist() == pytest.approx([1.0] * 30)
    assert found.padded == pytest.approx(brute(padded)[0], rel=1e-12)


def test_rows_of_the_same_direction_are_at_distance_0():
    rows = drawn(20, 6)
    rows[5] = 3 * rows[11]
    found = closest(rows)
    assert (found.first, found.second) == (5, 11)
    assert found.distance < 1e-7  # 3·x is rounded


def test_rows_of_zeros_have_no_direction():
    rows = drawn(20, 6)
    rows[[0, 3, 12]] = 0
    found = closest(rows)
    kept = [i for i in range(20) if i not in (0, 3, 12)]
    distance, first, second, _ = brute(rows[kept])
    assert (found.zeros, found.rows) == (3, 20)
    assert (found.first, found.second) == (kept[first], kept[second])
    assert found.distance == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("rows", [torch.zeros(4, 3), torch.ones(1, 3), torch.tensor([[0.0, 0.0], [1.0, 0.0]])])
def test_a_distance_needs_two_rows(rows):
    with pytest.raises(ValueError, match=f"of {len(rows)} rows are not 0: a distance needs two"):
        closest(rows)
