"""Adagrad and Adadelta against torch's own, and where a gradient has always been zero."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from solvers.adadelta import Adadelta
from solvers.adagrad import Adagrad
from solvers.solver import Batch, run

TORCHS = {
    "adagrad": (Adagrad, torch.optim.Adagrad, {"lr": 0.05}, {"learning_rate": 0.05}),
    "adagrad, l2": (
        Adagrad,
        torch.optim.Adagrad,
        {"lr": 0.05, "weight_decay": 0.01},
        {"learning_rate": 0.05, "l2": 0.01},
    ),
    "adadelta": (Adadelta, torch.optim.Adadelta, {"lr": 1.0}, {"learning_rate": 1.0}),
    "adadelta, decay, l2": (
        Adadelta,
        torch.optim.Adadelta,
        {"lr": 0.5, "rho": 0.8, "weight_decay": 0.01},
        {"learning_rate": 0.5, "decay": 0.8, "l2": 0.01},
    ),
}


@pytest.mark.parametrize("name", TORCHS)
def test_equals_torch(name):
    solver, theirs, options, hyper = TORCHS[name]
    ours = {key: tiny.tensor(x) for key, x in hyper.items()}
    ours |= {f"l2.{n}": ours["l2"] for n in tiny.NAMES if "l2" in ours}  # torch's weight decay takes biases, too
    batch = tiny.batches(tiny.part(1, 60), 20)
    points = {n: w.clone().requires_grad_() for n, w in tiny.weights().items()}
    optimiser = theirs(points.values(), **options)
    for t in range(7):
        optimiser.zero_grad()
        tiny.loss(points, {}, batch(t)).backward()
        optimiser.step()
    made = solver(tiny.loss)
    found = run(made, made.init(tiny.weights(), ours, batch(0)), ours, batch, 0, 7)
    for n, w in points.items():
        torch.testing.assert_close(found.weights[n], w.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", [Adagrad, Adadelta])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivative_is_finite_where_the_gradient_is_zero(solver, dtype):
    """The first input is blank in every row: its weights never have a gradient."""
    inputs = torch.tensor([[0.0, 1.0], [0.0, -2.0], [0.0, 0.5]], dtype=dtype)
    batch = Batch(0, inputs, torch.tensor([0, 1, 0]))
    made = solver(lambda weights, hyper, b: F.cross_entropy(b.inputs @ weights["w"].T, b.targets))
    start = torch.tensor([[0.3, 0.1], [-0.2, 0.4]], dtype=dtype, requires_grad=True)
    rate = torch.tensor(0.1, dtype=dtype, requires_grad=True)
    hyper = {"learning_rate": rate}
    state = made.init({"w": start}, hyper, batch)
    for t in range(3):
        state = made.step(state, hyper, batch._replace(index=t))
    assert torch.equal(state.weights["w"][:, 0], start[:, 0])
    value = F.cross_entropy(inputs @ state.weights["w"].T, batch.targets)
    slopes = torch.autograd.grad(value, [start, rate])
    assert all(torch.isfinite(s).all() for s in slopes)
    assert slopes[1] != 0


def test_heavy_ball_of_adagrad_is_its_step():
    batch = tiny.batches(tiny.part(1, 60), 20)
    made, hyper = Adagrad(tiny.loss), {"learning_rate": tiny.tensor(0.05)}
    before = made.step(made.init(tiny.weights(), hyper, batch(0)), hyper, batch(0))
    after = made.step(before, hyper, batch(1))
    ball = made.heavy_ball(after, hyper, 1)
    slopes = torch.func.grad(lambda w: tiny.loss(w, {}, batch(1)))(before.weights)
    assert ball.momentum == 0
    for n, w in after.weights.items():
        torch.testing.assert_close(w - before.weights[n], -ball.rate[n] * slopes[n], rtol=1e-10, atol=1e-12)


def test_heavy_ball_of_adadelta_has_the_means_after_the_step():
    batch = tiny.batches(tiny.part(1, 60), 20)
    made, hyper = Adadelta(tiny.loss), {"learning_rate": tiny.tensor(0.5)}
    state = run(made, made.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, 40)
    ball = made.heavy_ball(state, hyper, 39)
    after = made.step(state, hyper, batch(40))
    slopes = torch.func.grad(lambda w: tiny.loss(w, {}, batch(40)))(state.weights)
    assert ball.momentum == 0
    moved = torch.cat([(w - state.weights[n]).flatten() for n, w in after.weights.items()])
    foretold = torch.cat([(-ball.rate[n] * slopes[n]).flatten() for n in after.weights])
    assert F.cosine_similarity(moved, foretold, dim=0) > 0.97
    assert 0.7 < foretold.norm() / moved.norm() < 1.4
