"""Facts of each method: torch's own optimisers walk the same way."""

import pytest
import tiny
import torch

from solvers.adam import Adam
from solvers.sgd import SGD
from solvers.solver import gradient, run, setting

L2 = 0.03


def theirs(make, steps):
    """The weights after `steps` steps of a torch optimiser on the same batches, L2 on matrices only."""
    weights = {n: w.clone().requires_grad_() for n, w in tiny.weights().items()}
    matrices = [w for w in weights.values() if w.dim() > 1]
    biases = [w for w in weights.values() if w.dim() == 1]
    optimizer = make([{"params": matrices, "weight_decay": L2}, {"params": biases, "weight_decay": 0.0}])
    batch = tiny.batches(tiny.part(1, 60), 20)
    for t in range(steps):
        optimizer.zero_grad()
        tiny.loss(weights, {}, batch(t)).backward()
        optimizer.step()
    return weights


def ours(solver, hyper, steps):
    batch = tiny.batches(tiny.part(1, 60), 20)
    hyper = {name: tiny.tensor(x) for name, x in hyper.items()}
    return run(solver, solver.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, steps).weights


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torch_sgd(momentum):
    expected = theirs(lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=momentum), 30)
    found = ours(SGD(tiny.loss), {"learning_rate": 0.1, "momentum": momentum, "l2": L2}, 30)
    for n, w in found.items():
        torch.testing.assert_close(w, expected[n].detach(), rtol=1e-12, atol=1e-12)


def test_adam_is_torch_adam():
    expected = theirs(lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.9, 0.99)), 30)
    found = ours(Adam(tiny.loss), {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "l2": L2}, 30)
    for n, w in found.items():
        torch.testing.assert_close(w, expected[n].detach(), rtol=1e-6, atol=1e-8)


def test_adam_keeps_a_finite_derivative_where_the_gradient_is_zero():
    """A pixel that is blank in every row: √ŝ = 0, whose slope is infinite without the ε² under the root."""
    train = tiny.part(1, 60)
    train.inputs[:, 3] = 0
    batch, hyper = tiny.batches(train, 20), {"learning_rate": tiny.tensor(0.01).requires_grad_()}
    solver = Adam(tiny.loss)
    state = solver.init(tiny.weights(), hyper, batch(0))
    for t in range(3):
        state = solver.step(state, hyper, batch(t))
    slope = torch.autograd.grad(tiny.loss(state.weights, hyper, tiny.part(2, 40)), hyper["learning_rate"])[0]
    assert torch.isfinite(slope)


def test_the_objective_is_the_mean_loss_plus_half_r_w_squared():
    weights, batch, hyper = tiny.weights(), tiny.part(1, 20), tiny.per_neuron_l2()
    points = {n: w.clone().requires_grad_() for n, w in weights.items()}
    penalty = sum((0.5 * hyper[f"l2.{n}"] * w * w).sum() for n, w in points.items() if w.dim() > 1)
    whole = tiny.loss(points, hyper, batch) + penalty
    expected = torch.autograd.grad(whole, list(points.values()))
    for slope, other in zip(gradient(tiny.loss, weights, hyper, batch).values(), expected, strict=True):
        torch.testing.assert_close(slope, other)


def test_a_global_l2_leaves_biases_alone():
    weights, batch = tiny.weights(), tiny.part(1, 20)
    free = gradient(tiny.loss, weights, {}, batch)
    held = gradient(tiny.loss, weights, {"l2": tiny.tensor(0.1)}, batch)
    for n in weights:
        assert torch.equal(free[n], held[n]) == (weights[n].dim() == 1)


def test_the_finest_setting_wins():
    hyper = {"r": tiny.tensor(1.0), "r[t]": tiny.tensor(2.0, 3.0), "r.a": tiny.tensor(4.0)}
    assert setting(hyper, "r", "a", 0) == 4
    assert setting(hyper, "r", "b", 1) == 3
    assert setting({"r": tiny.tensor(1.0)}, "r", "b", 1) == 1
    assert setting({}, "r", "b", 1) is None
