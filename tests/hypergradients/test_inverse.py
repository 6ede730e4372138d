"""Iterative inverses against torch.linalg.solve, at the places where implementations are known to go wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.hypergradients.inverse import POWERS, conjugate_gradient, neumann, nystrom

INVERSES = [conjugate_gradient, neumann, nystrom]


def positive(seed, size, low=0.5, high=5.0):
    """A symmetric matrix with eigenvalues spread evenly from low to high, and a right-hand side."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    b = torch.randn(size, generator=generator, dtype=torch.float64)
    return turn @ torch.diag(torch.linspace(low, high, size, dtype=torch.float64)) @ turn.T, b


def product(matrix):
    return lambda x: matrix @ x


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("damping", [1e-2, vector(*torch.linspace(0.1, 2.0, 12).tolist())], ids=["number", "vector"])
@pytest.mark.parametrize(("inverse", "iterations"), [(conjugate_gradient, 12), (neumann, 400), (nystrom, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_equal_a_direct_solution(inverse, iterations, damping, seed):
    matrix, b = positive(seed, 12)
    damped = matrix + torch.diag(torch.as_tensor(damping, dtype=b.dtype).expand(12))
    found = inverse(product(matrix), b, damping, iterations)
    torch.testing.assert_close(found.x, torch.linalg.solve(damped, b), rtol=1e-6, atol=1e-7)
    assert found.residual == pytest.approx(float((b - damped @ found.x).norm() / b.norm()), abs=1e-12)
    assert found.residual < 1e-7
    assert found.iterations <= iterations
    assert not found.negative_curvature


@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.1, 1.0), st.floats(1.0, 50.0), st.floats(-6, 6))
@settings(deadline=None)
def test_conjugate_gradients_are_done_after_as_many_steps_as_dimensions(seed, size, low, high, magnitude):
    matrix, b = positive(seed, size, low, high)
    b = 10**magnitude * b
    found = conjugate_gradient(product(matrix), b, 0.0, 2 * size)  # rounding may ask for a few more
    expected = torch.linalg.solve(matrix, b)
    assert float((found.x - expected).norm()) <= 1e-6 * float(expected.norm())


def test_conjugate_gradients_store_the_step_that_converges():
    """Implementations that test for convergence before they add the last step answer 0 and [.9, .6, .3] here."""
    once = conjugate_gradient(lambda x: 2 * x, vector(1, 2, 3), 0.0, 20)
    assert torch.equal(once.x, vector(0.5, 1.0, 1.5))
    assert (once.iterations, once.residual) == (1, 0.0)
    thrice = conjugate_gradient(lambda x: vector(1, 2, 3) * x, vector(1, 1, 1), 0.0, 20)
    torch.testing.assert_close(thrice.x, vector(1, 1 / 2, 1 / 3), rtol=1e-12, atol=0)
    assert thrice.iterations == 3
    one_step = conjugate_gradient(lambda x: vector(1, 2, 3) * x, vector(1, 1, 1), 0.0, 1)
    torch.testing.assert_close(one_step.x, vector(0.5, 0.5, 0.5))  # the steepest descent step bᵀb/bᵀAb


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e4, 1e12])
def test_the_neumann_series_finds_its_own_scale(scale):
    """The largest eigenvalue is not given: a fixed rate diverges on one end of this list, stands still on the other."""
    matrix, b = positive(4, 10)
    found = neumann(product(scale * matrix), b, 0.0, 300)
    torch.testing.assert_close(scale * found.x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-7)


def test_the_neumann_series_recovers_from_an_estimate_that_is_too_low():
    """b hardly has a part in the steepest direction, so that the power iterations see 1 of the 1000 that is there."""
    diagonal, b = vector(1000.0, 1.0, 0.5), vector(1e-25, 1.0, 1.0)
    found = neumann(lambda x: diagonal * x, b, 0.0, 30_000)
    assert found.residual < 1e-7
    torch.testing.assert_close(found.x, b / diagonal, rtol=1e-6, atol=1e-9)


def test_the_neumann_series_is_the_sum_it_says():
    matrix, b = positive(5, 6)
    terms = 7
    top = b
    for _ in range(POWERS):
        top = matrix @ (top / top.norm())
    a, term, total = 1 / top.norm(), b, torch.zeros_like(b)
    for _ in range(terms):
        total, term = total + a * term, term - a * matrix @ term
    found = neumann(product(matrix), b, 0.0, terms)
    torch.testing.assert_close(found.x, total, rtol=1e-12, atol=1e-14)
    assert found.iterations == terms


@pytest.mark.parametrize(
    ("inverse", "most"),
    [(conjugate_gradient, 9), (neumann, 9 + POWERS), (nystrom, 9 + 1)],
    ids=["cg", "neumann", "nystrom"],
)
def test_takes_as_many_products_as_it_says(inverse, most):
    matrix, b = positive(9, 30)
    taken = 0

    def counted(x):
        nonlocal taken
        taken += 1
        return matrix @ x

    found = inverse(counted, b, 0.1, 9)
    assert taken == most
    assert found.iterations == 9


@pytest.mark.parametrize("rank", [3, 5])
def test_nystrom_is_exact_on_a_matrix_of_its_rank(rank):
    generator = torch.Generator().manual_seed(6)
    half = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(30, generator=generator, dtype=torch.float64)
    matrix, diagonal = half @ half.T, torch.linspace(0.01, 1.0, 30, dtype=torch.float64)
    found = nystrom(product(matrix), b, diagonal, rank)
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix + torch.diag(diagonal), b), rtol=1e-8, atol=1e-10)
    assert (found.iterations, found.negative_curvature) == (rank, False)


def test_nystrom_of_nothing_divides_by_the_diagonal():
    found = nystrom(lambda x: 0 * x, vector(1, 2, 3), 0.5, 2)
    torch.testing.assert_close(found.x, vector(2, 4, 6))


def test_the_error_falls_with_the_iterations():
    matrix, b = positive(7, 40, 0.01, 10.0)
    expected = torch.linalg.solve(matrix + 0.01 * torch.eye(40, dtype=torch.float64), b)
    for inverse in INVERSES:
        errors = [
            float((inverse(product(matrix), b, 0.01, n).x - expected).norm() / expected.norm()) for n in (2, 8, 20, 39)
        ]
        assert errors == sorted(errors, reverse=True), inverse.__name__


@pytest.mark.parametrize("inverse", [conjugate_gradient, neumann])
def test_negative_curvature_stops_the_iteration(inverse):
    """At the first step: b over the size of its image. Later: what was found so far."""
    first = inverse(lambda x: -4 * x, vector(2, 0, 0), 0.0, 20)
    torch.testing.assert_close(first.x, vector(0.5, 0, 0))
    assert (first.iterations, first.negative_curvature, first.residual) == (1, True, 2.0)
    null = inverse(lambda x: 0 * x, vector(2, 0, 0), 0.0, 20)
    assert torch.equal(null.x, vector(2, 0, 0))
    assert null.negative_curvature

    diagonal = vector(4.0, 1.0, -0.5)
    later = inverse(lambda x: diagonal * x, vector(1, 1, 0.5), 0.0, 20)
    assert later.negative_curvature
    assert 1 <= later.iterations < 20
    assert torch.isfinite(later.x).all()
    if inverse is conjugate_gradient:
        assert later.residual < 1  # better than nothing, which later steps need not be

    damped = inverse(lambda x: diagonal * x, vector(1, 1, 0.5), 1.0, 400)
    torch.testing.assert_close(damped.x, vector(1, 1, 0.5) / (diagonal + 1), rtol=1e-6, atol=1e-7)
    assert not damped.negative_curvature


def test_nystrom_leaves_negative_curvature_out():
    diagonal = vector(4.0, 1.0, -0.5)
    found = nystrom(lambda x: diagonal * x, vector(1, 1, 1), 1.0, 3)
    torch.testing.assert_close(found.x, vector(0.2, 0.5, 1.0))
    assert found.negative_curvature


@pytest.mark.parametrize("inverse", INVERSES)
def test_zero_is_the_solution_for_zero(inverse):
    matrix, b = positive(8, 6)
    found = inverse(product(matrix), 0 * b, 0.1, 5)
    assert torch.equal(found.x, torch.zeros_like(b))
    assert (found.residual, found.negative_curvature) == (0.0, False)


@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["product", "right-hand side"])
def test_what_is_not_finite_stays_visible(inverse, wrong, where):
    """Not an error either: a trial goes on without its hypergradient, and must not get one that looks fine."""
    bad = vector(1.0, wrong, 1.0)
    b = bad if where == "right-hand side" else vector(1, 1, 1)
    found = inverse(lambda x: x + bad if where == "product" else 2 * x, b, 0.1, 1)
    assert torch.isnan(found.x).all()
    assert not math.isfinite(found.residual)


@pytest.mark.parametrize("inverse", INVERSES)
def test_single_precision_is_not_mistaken_for_negative_curvature(inverse):
    """Long after the residual is down to rounding errors nothing underflows to zero."""
    b = torch.linspace(-1, 1, 50)
    found = inverse(lambda x: 3 * x, b, 0.7, 200)
    torch.testing.assert_close(found.x, b / 3.7)
    assert not found.negative_curvature
