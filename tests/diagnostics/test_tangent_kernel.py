"""The kernel against the explicit Jacobian."""

import pytest
import tiny
import torch
from torch import nn
from torch.func import functional_call

from hpo.diagnostics import tangent_kernel
from hpo.diagnostics.tangent_kernel import ends, gram


def explicit(forward, weights, inputs):
    """J Jᵀ from one backward pass an output."""
    points = {name: w.clone().requires_grad_() for name, w in weights.items()}
    outputs = forward(points, inputs).reshape(-1)
    rows = [torch.autograd.grad(z, list(points.values()), retain_graph=True) for z in outputs]
    jacobian = torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in rows])
    return jacobian @ jacobian.T


@pytest.mark.parametrize("held", [4e7, 3 * 3 * 60, 1])
def test_a_perceptron(monkeypatch, held):
    monkeypatch.setattr(tangent_kernel, "HELD", held)  # in one block, in several, row by row
    inputs, weights = tiny.part(0, 7).inputs, tiny.weights()
    found = gram(tiny.forward, weights, inputs)
    torch.testing.assert_close(found, explicit(tiny.forward, weights, inputs), rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


def test_a_convolution_in_single_precision():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    weights = {name: w.detach() for name, w in net.named_parameters()}

    def forward(weights, inputs):
        return functional_call(net, dict(weights), (inputs,))

    inputs = torch.randn(20, 1, 4, 4)  # more than the rows whose activations are held at once
    found = gram(forward, weights, inputs)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, explicit(forward, weights, inputs).double(), rtol=1e-4, atol=1e-4)


def test_of_a_linear_map_it_is_the_gram_of_the_rows():
    inputs = tiny.part(3, 5).inputs
    found = gram(lambda w, x: x @ w["w"].T, {"w": torch.zeros(2, 6, dtype=torch.float64)}, inputs)
    torch.testing.assert_close(found, torch.kron(inputs @ inputs.T, torch.eye(2, dtype=torch.float64)))
    values = torch.linalg.eigvalsh(inputs @ inputs.T)
    assert ends(found, torch.float64)[:2] == pytest.approx((float(values[0]), float(values[-1])))


def test_a_row_twice_makes_it_singular():
    inputs = tiny.part(0, 6).inputs
    smallest, largest, rounding = ends(gram(tiny.forward, tiny.weights(), inputs), torch.float64)
    assert smallest > 100 * rounding
    inputs[5] = inputs[0]
    smallest, again, rounding = ends(gram(tiny.forward, tiny.weights(), inputs), torch.float64)
    assert abs(smallest) < rounding < 1e-9 * largest
    assert again != largest


def test_single_precision_resolves_small_eigenvalues():
    """A float32 product would round the largest eigenvalue's digits to 1e-7 of it."""
    inputs, weights = tiny.part(0, 8).inputs, tiny.weights()
    inputs[7] = inputs[2] + 1e-3
    exact = ends(gram(tiny.forward, weights, inputs), torch.float64)
    single = ends(gram(tiny.forward, {n: w.float() for n, w in weights.items()}, inputs.float()), torch.float32)
    assert exact[0] < 1e-7 * exact[1]
    assert single[0] == pytest.approx(exact[0], rel=0.02)
    assert single[2] > exact[2] > 0


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not all finite"):
        ends(torch.full((2, 2), torch.nan, dtype=torch.float64), torch.float32)
