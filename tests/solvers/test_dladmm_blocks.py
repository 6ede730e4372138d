"""The blocks of dlADMM, each against a slower way to the same."""

import pytest
import torch
import torch.nn.functional as F

from solvers import block_descent
from solvers.criteria import SOFTMAX, SQUARES
from solvers.output_block import proximal


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def weights_problem(seed=0, rows=30, before=6, after=4):
    weight, inputs, target = drawn(seed, after, before), drawn(seed + 1, rows, before), drawn(seed + 2, rows, after)
    return weight, inputs, target - inputs @ weight.T, inputs.T @ inputs


def least(theta, phi, point, slope):
    """The smallest θ that passes the published test, φ(new) ≤ φ − ‖g‖²/(2θ) at new = point − g/θ, by bisection."""
    low, high = theta / 1e3, theta * 1e3
    for _ in range(80):
        middle = (low * high) ** 0.5
        passes = phi(point - slope / middle) <= phi(point) - slope.square().sum() / (2 * middle)
        low, high = (low, middle) if passes else (middle, high)
    return high


def test_theta_is_the_least_that_passes_the_published_test():
    weight, inputs, misfit, gram = weights_problem()
    target, c = misfit + inputs @ weight.T, 0.03

    def phi(w):
        return c / 2 * (target - inputs @ w.T).square().sum()

    slope = -c * misfit.T @ inputs
    moved = weight - block_descent.descended_weights(weight, inputs, misfit, None, gram, None)
    theta = (slope.norm() / moved.norm()).item()
    assert theta == pytest.approx(least(theta, phi, weight, slope), rel=1e-5)
    lowest = phi(weight - moved)
    assert all(phi(weight - k * moved) > lowest for k in (0.99, 1.01))


def test_tau_is_the_least_that_passes_the_published_test():
    a, f, weight, target, tie = drawn(0, 20, 5), drawn(1, 20, 5), drawn(2, 3, 5), drawn(3, 20, 3), number(0.3)

    def phi(x):
        return (target - x @ weight.T).square().sum() / 2 + tie / 2 * (x - f).square().sum()

    slope = -(target - a @ weight.T) @ weight + tie * (a - f)
    moved = a - block_descent.descended_activations(a, f, weight, target - a @ weight.T, tie, None)
    tau = (slope.norm() / moved.norm()).item()
    assert tau == pytest.approx(least(tau, phi, a, slope), rel=1e-5)


@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0, 50.0])
def test_the_papers_theta_is_the_first_doubling_that_passes(c):
    weight, inputs, misfit, gram = weights_problem()
    target = misfit + inputs @ weight.T

    def phi(w):
        return c / 2 * (target - inputs @ w.T).square().sum()

    slope, theta = -c * misfit.T @ inputs, 1.0
    while phi(weight - slope / theta) > phi(weight) - slope.square().sum() / (2 * theta):
        theta *= 2
    found = block_descent.descended_weights(weight, inputs, misfit, None, gram, number(c))
    torch.testing.assert_close(found, weight - slope / theta, rtol=1e-9, atol=1e-12)


def test_the_papers_theta_is_capped():
    slope = torch.ones(3, dtype=torch.float64)
    unit = torch.ones((), dtype=torch.float64)
    assert block_descent.curvature(slope, number(1e300), unit) == 2.0**block_descent.DOUBLINGS


def test_without_a_slope_nothing_moves():
    weight, inputs, misfit, gram = weights_problem()
    for ridge in (None, torch.zeros(())):
        found = block_descent.descended_weights(weight, inputs, 0 * misfit, ridge, gram, None)
        torch.testing.assert_close(found, weight, rtol=0, atol=0)


def test_descent_with_and_without_the_gram_matrix_is_the_same():
    weight, inputs, misfit, gram = weights_problem()
    ridge = torch.linspace(0, 100, 6, dtype=torch.float64)
    one, two = (block_descent.descended_weights(weight, inputs, misfit, ridge, g, None) for g in (gram, None))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ridge", [None, 3.0, "columns", "rows", "entries"])
def test_solved_weights_have_no_slope(ridge):
    weight, inputs, misfit, gram = weights_problem()
    shape = {"columns": (1, 6), "rows": (4, 1), "entries": (4, 6)}.get(ridge)
    r = ridge if ridge is None else drawn(9, *shape).square() if shape else number(ridge)
    found = block_descent.solved_weights(weight, inputs, misfit, r, gram)
    slope = found @ gram - (misfit + inputs @ weight.T).T @ inputs + (0 if r is None else r * found)
    assert slope.abs().max() < 1e-4 * (misfit.T @ inputs).abs().max()  # the floor's pull is 1e-6 of it
    again = block_descent.solved_weights(found, inputs, misfit + inputs @ (weight - found).T, r, gram)
    assert (again - found).abs().max() < 1e-5 * (found - weight).abs().max()  # and is gone where the block stays


def test_a_ridge_for_each_row_is_that_of_the_row_alone():
    weight, inputs, misfit, gram = weights_problem()
    ridge = drawn(9, 4, 6).square()
    together = block_descent.solved_weights(weight, inputs, misfit, ridge, gram)
    for i in range(4):
        alone = block_descent.solved_weights(weight[i : i + 1], inputs, misfit[:, i : i + 1], ridge[i : i + 1], gram)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-12)


def test_weights_of_a_unit_that_is_never_active_stay():
    weight, inputs, misfit, _ = weights_problem()
    inputs = inputs * torch.tensor([1, 1, 0, 1, 1, 1.0])
    found = block_descent.solved_weights(weight, inputs, misfit, None, inputs.T @ inputs)
    torch.testing.assert_close(found[:, 2], weight[:, 2], rtol=0, atol=0)
    assert (found[:, 0] - weight[:, 0]).abs().min() > 1e-4


@pytest.mark.parametrize(("rows", "columns"), [(8, 40), (30, 40), (300, 64)])
def test_fewer_rows_than_columns_are_solved_in_single_precision(rows, columns):
    inputs = drawn(0, rows, 1).float() @ drawn(1, 1, columns).float() + 1e-6 * drawn(2, rows, columns).float()
    found = block_descent.solved_weights(
        torch.zeros(3, columns), inputs, drawn(3, rows, 3).float(), None, inputs.T @ inputs
    )
    assert torch.isfinite(found).all()


def test_a_system_that_cannot_be_solved_gives_nan():
    weight, inputs, misfit, gram = weights_problem()
    assert block_descent.solved_weights(weight, inputs, misfit, None, -gram).isnan().all()


@pytest.mark.parametrize("outputs", [3, 9])
def test_solved_activations_have_no_slope(outputs):
    a, f, weight, target = drawn(0, 20, 5), drawn(1, 20, 5), drawn(2, outputs, 5), drawn(3, 20, outputs)
    for tie in (1e-6, 1.0, 1e6):
        found = block_descent.solved_activations(a, f, weight, target, number(tie))
        slope = (found @ weight.T - target) @ weight + tie * (found - f)
        assert slope.abs().max() < 1e-9 * max(1, tie)


@pytest.mark.parametrize("leak", [0.0, 0.01])
def test_hidden_z_is_no_worse_than_a_fine_grid(leak):
    m, a = 2 * drawn(4, 500), 2 * drawn(5, 500)
    z, grid = block_descent.hidden(m, a, leak), torch.linspace(-9, 9, 18001, dtype=torch.float64)

    def distance(z, m, a):
        return (z - m).square() + (a - torch.where(z > 0, z, leak * z)).square()

    best = distance(grid, m.unsqueeze(1), a.unsqueeze(1)).amin(dim=1)
    excess = distance(z, m, a) - best
    assert excess.max() <= 1e-12
    assert excess.min() > -1e-5  # the grid's own coarseness


@pytest.mark.parametrize("classes", [2, 10, 300])
@pytest.mark.parametrize("rho", [1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0])
def test_output_z_satisfies_its_condition(classes, rho):
    for size in (0.1, 1.0, 10.0, 100.0):
        c = size * drawn(6, 200, classes)
        y = torch.arange(200) % classes
        z = proximal(SOFTMAX)(c, y, number(rho))
        slope = z.softmax(dim=1) - F.one_hot(y, classes) + rho * (z - c)
        assert slope.abs().max() < 1e-10


def test_output_z_in_single_precision():
    c, y = 3 * drawn(6, 200, 10).float(), torch.arange(200) % 10
    z = proximal(SOFTMAX)(c, y, torch.tensor(1e-6)).double()
    wanted = proximal(SOFTMAX)(c.double(), y, torch.tensor(1e-6, dtype=torch.float64))
    torch.testing.assert_close(z, wanted, rtol=1e-4, atol=1e-4)


def test_output_z_of_squared_error_satisfies_its_condition():
    c, y, rho = drawn(6, 20, 3), drawn(7, 20, 3), number(0.7)
    z = proximal(SQUARES)(c, y, rho)
    assert (len(c) * SQUARES.local(z, y).slope + rho * (z - c)).abs().max() < 1e-12


@pytest.mark.parametrize("loss", [SOFTMAX, SQUARES])
def test_output_z_is_differentiable(loss):
    y = torch.tensor([0, 1, 1, 2]) if loss is SOFTMAX else drawn(8, 4, 3)
    c, rho = drawn(7, 4, 3).requires_grad_(), number(0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, rho: proximal(loss)(c, y, rho), (c, rho), rtol=1e-6)
