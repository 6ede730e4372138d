"""The normalised independence criterion against its definition, and its gradient in closed form."""

import pytest
import torch
import torch.nn.functional as F

from solvers.independence import EPSILON, centred, dependence, indicators, kernel, nhsic, slope

SIGMA = torch.tensor(2.0, dtype=torch.float64)


def rows(seed, count=12, features=5):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(count=60, kinds=4):
    return indicators(torch.arange(count) % kinds, kinds, torch.zeros(0, dtype=torch.float64))


def one_sided(x, sigma):
    """As the authors have it: K H (K H + εm 1)⁻¹, not symmetric."""
    squares = (x[:, None] - x).square().sum(-1)
    gram = torch.exp(squares / (-2 * x.shape[1] * sigma**2)) @ (torch.eye(len(x), dtype=x.dtype) - 1 / len(x))
    return gram @ torch.linalg.inv(gram + EPSILON * len(x) * torch.eye(len(x), dtype=x.dtype))


def test_centring_from_one_side_gives_the_same_trace():
    x, y = rows(0), rows(1, features=3)
    expected = torch.trace(one_sided(x, SIGMA) @ one_sided(y, SIGMA))
    torch.testing.assert_close(nhsic(x, y, SIGMA), expected, rtol=1e-9, atol=0)


def test_the_kernel_is_one_on_the_diagonal_and_gaussian_off_it():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    expected = torch.exp(torch.tensor(-25 / (2 * 4 * 2), dtype=torch.float64))
    torch.testing.assert_close(1 + kernel(x, SIGMA), torch.eye(2).double() * (1 - expected) + expected)


def test_it_stays_below_the_number_of_classes_less_one():
    y = classes()
    assert 2.99 < nhsic(y, y, SIGMA) < 3
    for seed in range(5):
        assert 0 < nhsic(rows(seed, 60), y, SIGMA) < 3


def test_the_order_of_rows_and_a_rotation_of_features_change_nothing():
    x, y = rows(0), rows(1, features=3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(rows(3, 5)).Q
    torch.testing.assert_close(nhsic(x[order], y[order], SIGMA), nhsic(x, y, SIGMA))
    torch.testing.assert_close(nhsic(x @ rotation + 7, y, SIGMA), nhsic(x, y, SIGMA), rtol=1e-9, atol=0)
    assert abs(nhsic(x[order], y, SIGMA) - nhsic(x, y, SIGMA)) > 1e-3


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
def test_first_derivatives_either_way_and_second_ones():
    x, y = rows(0, 6, 3).requires_grad_(), rows(1, 6, 2).requires_grad_()
    sigma = SIGMA.clone().requires_grad_()
    assert torch.autograd.gradcheck(nhsic, (x, y, sigma), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(nhsic, (x, y, sigma), check_fwd_over_rev=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
def test_the_closed_form_is_the_gradient_and_can_be_differentiated():
    z, bottleneck = rows(0).requires_grad_(), centred((a := rows(1, 12, 12)) + a.mT)
    expected = torch.autograd.grad((dependence(z, SIGMA) * bottleneck).sum(), z)[0]
    torch.testing.assert_close(slope(z, bottleneck, SIGMA), expected, rtol=1e-9, atol=1e-9)
    small = (rows(2, 5, 3).requires_grad_(), (b := rows(3, 5, 5)) + b.mT, SIGMA.clone().requires_grad_())
    assert torch.autograd.gradcheck(slope, small, check_forward_ad=True)


def test_leading_axes_are_carried_along():
    z, sigma = torch.stack([rows(0), rows(1)]), torch.tensor([1.0, 3.0], dtype=torch.float64)
    bottleneck = dependence(rows(2), sigma)
    assert bottleneck.shape == (2, 12, 12)
    together = slope(z, bottleneck, sigma)
    for i in range(2):
        torch.testing.assert_close(together[i], slope(z[i], bottleneck[i], sigma[i]))


@pytest.mark.parametrize("sigma", [1.0, 5.0, 50.0])
def test_the_gradient_keeps_three_digits_in_float32(sigma):
    """Differentiating an inverse of K H keeps fewer than two (2.6 % at σ = 5)."""
    width, x, y = torch.tensor(sigma).double(), rows(0, 60, 20), classes()
    z = F.relu(rows(1, 60, 30))
    found = []
    for dtype in (torch.float64, torch.float32):
        x, y, z, width = (a.to(dtype) for a in (x, y, z, width))
        found.append(slope(z, dependence(x, width) - 200 * dependence(y, width), width).double())
    assert (found[1] - found[0]).norm() < 1e-3 * found[0].norm()


def test_a_training_that_has_diverged_is_not_finite_rather_than_an_error():
    z = rows(0)
    z[3] = float("nan")
    assert not torch.isfinite(slope(z, dependence(rows(1), SIGMA), SIGMA)).any()
