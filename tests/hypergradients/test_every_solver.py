"""Hypergradients through every solver: exact ones are, DrMAD's bias is what it was measured to be."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pytest
import tiny
import torch
import torch.nn.functional as F
from solvers_tiny import HYPER, NET, ROWS, STEP, made

from hpo.hypergradients import Training, hypergradient
from hpo.hypergradients.drmad import DrMAD
from hpo.hypergradients.krylov import Subspace, sweep
from hpo.hypergradients.training import train
from solvers import SOLVERS
from solvers.chain import through
from solvers.solver import HeavyBall, Solver, penalty
from solvers.vectors import flatten

LEAST = {
    "sgd": 0.95, "adam": 0.65, "adagrad": 0.7, "adadelta": 0.95, "curveball": 0.7, "dladmm": 0.99, "hsic": 0.99,
}  # fmt: skip
"""The cosine between DrMAD's derivative of all strengths and the exact one, here, rounded down from what it is."""


def training(name, steps):
    solver, net = made(name), NET.get(name, tiny.chain())
    size = 60 if solver.whole else 20
    forward, batches = partial(through, net), tiny.batches(ROWS, size)
    return Training(solver, forward, F.cross_entropy, batches, steps, ROWS, tiny.part(2, 40))


@pytest.fixture(params=sorted(SOLVERS))
def name(request):
    return request.param


def test_the_exact_one_is_that_of_what_is_read_out(name):
    of, hyper, h = training(name, 4), HYPER[name], STEP.get(name, 1e-5)
    found = hypergradient("exact", of, tiny.weights(), hyper)
    assert found.value == of.validation_loss(train(of, tiny.weights(), hyper).weights)
    generator = torch.Generator().manual_seed(4)
    for key, x in hyper.items():
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ends = [
            of.validation_loss(train(of, tiny.weights(), {**hyper, key: x + share * direction}).weights)
            for share in (-h, h)
        ]
        expected = (ends[1] - ends[0]) / (2 * h)
        torch.testing.assert_close((found.gradient[key] * direction).sum(), expected, rtol=2e-5, atol=1e-8)


def strengths(result):
    return torch.cat([slope.reshape(-1) for key, slope in result.gradient.items() if key.startswith("l2")])


def test_drmad_points_where_the_exact_one_does(name):
    """Where hsic moves faster, the exact derivative itself explodes."""
    hyper = {**HYPER[name], **({"learning_rate": tiny.tensor(0.01)} if name == "hsic" else {})}
    of = training(name, 8 if name == "dladmm" else 40)
    of = of._replace(held=[key for key in hyper if not key.startswith("l2")])
    exact, found = (strengths(hypergradient(m, of, tiny.weights(), hyper)) for m in ("exact", "drmad"))
    assert F.cosine_similarity(exact, found, dim=0) > LEAST[name]
    assert 0.3 < found.norm() / exact.norm() < 3


def test_a_pass_is_charged_what_the_steps_of_its_solver_cost():
    of = training("hsic", 30)
    charge = DrMAD().charge(of, tiny.weights(), HYPER["hsic"])
    assert charge.gradient_evaluations == pytest.approx(4 * 30 * of.solver.evaluations + (40 + 60) / 20)
    weights = 8 * sum(w.numel() for w in tiny.weights().values())
    assert charge.memory == 9 * weights


def test_implicit_is_refused_where_there_is_no_loss_or_no_stationary_point():
    with pytest.raises(ValueError, match="implicit needs the loss that is minimised, and HSIC shows none"):
        hypergradient("implicit", training("hsic", 4), tiny.weights(), HYPER["hsic"])
    with pytest.raises(ValueError, match="implicit needs the loss that is minimised, and DLADMM shows none"):
        hypergradient("implicit", training("dladmm", 4), tiny.weights(), tiny.per_neuron_l2())


def test_implicit_through_curveball_where_it_has_arrived():
    hyper = {**HYPER["curveball"], **{k: 10 * r for k, r in tiny.per_neuron_l2().items()}}
    of = training("curveball", 300)._replace(held=["learning_rate", "damping"])
    of = of._replace(batches=lambda t: ROWS._replace(index=t))
    result = hypergradient("implicit", of, tiny.weights(), hyper, damping=0.0, iterations=80)
    assert result.report["stationary"] == 1
    exact = hypergradient("exact", of, tiny.weights(), hyper)
    assert F.cosine_similarity(strengths(exact), strengths(result), dim=0) > 0.999


def test_an_adjoint_that_would_explode_on_the_line_is_bounded():
    """Where hsic moves fast, two knots are far from the path."""
    hyper = HYPER["hsic"]
    of = training("hsic", 40)
    free, bounded = (
        strengths(hypergradient("drmad", of, tiny.weights(), hyper, knots=2, clamp=clamp)) for clamp in (None, 1.9)
    )
    assert free.norm() > 100 * bounded.norm()


def test_what_acts_at_the_start_is_not_sought_later():
    hyper = HYPER["curveball"]
    with pytest.raises(ValueError, match="online cannot move damping, which acts before the first step"):
        hypergradient("online", training("curveball", 20), tiny.weights(), hyper)
    with pytest.raises(ValueError, match="truncated does not reach the first steps, where damping acts"):
        hypergradient("truncated", training("curveball", 20), tiny.weights(), hyper, steps=5)


def test_reading_out_is_charged():
    of, hyper = training("hsic", 20), HYPER["hsic"]
    assert of.solver.readout_rows == 60
    charges = [DrMAD().charge(t, tiny.weights(), hyper).gradient_evaluations for t in (of, training("dladmm", 20))]
    assert charges[0] == pytest.approx(4 * 20 * 7 + (40 + 60) / 20)
    assert charges[1] == pytest.approx(4 * 20 * 3.5 + 40 / 60)


def test_minibatches_for_a_solver_of_all_rows_are_refused():
    of = training("dladmm", 4)._replace(batches=tiny.batches(ROWS, 20))
    with pytest.raises(ValueError, match="DLADMM takes all 60 training rows at every step, in one order, not .* of 20"):
        hypergradient("exact", of, tiny.weights(), HYPER["dladmm"])


def test_nothing_to_differentiate_is_refused():
    with pytest.raises(ValueError, match="hyper is empty: name at least one hyperparameter"):
        hypergradient("exact", training("curveball", 4), tiny.weights(), {})


def test_drmad_through_a_curveball_without_damping():
    hyper = {**HYPER["curveball"], "damping": tiny.tensor(0.0)}
    found = hypergradient("drmad", training("curveball", 6), tiny.weights(), hyper)
    assert all(torch.isfinite(slope).all() for slope in found.gradient.values())


class Moving(NamedTuple):
    weights: dict
    velocity: dict


class Dragged(Solver[Moving]):
    """CurveBall with rho, beta and lambda held fixed, on least squares, where Gauss-Newton is the Hessian."""

    hyperparameters = made("curveball").hyperparameters

    def __init__(self, inputs, rho=0.6, beta=0.3, damping=0.2):
        self.inputs, self.rho, self.beta, self.damping = inputs, rho, beta, damping

    def init(self, weights, hyper, batch):
        return Moving(dict(weights), {"w": torch.zeros_like(weights["w"])})

    def step(self, state, hyper, batch):
        w, z, r = state.weights["w"], state.velocity["w"], penalty(hyper, "w", state.weights["w"], batch.index)
        x, n = batch.inputs, len(batch.inputs)
        delta = 2 * x.T @ (x @ (w + z) - batch.targets) / n + r * (w + z) + self.damping * z
        z = self.rho * z - self.beta * delta
        return Moving({"w": w + hyper["learning_rate"] * z}, {"w": z})

    def heavy_ball(self, state, hyper, index):
        rate = self.beta * hyper["learning_rate"]
        momentum = torch.tensor(self.rho - self.beta * self.damping, dtype=torch.float64)
        return HeavyBall({"w": rate.expand(state.weights["w"].shape)}, momentum, 1 / hyper["learning_rate"].detach())


def test_a_velocity_that_curvature_drags_is_pulled_back_exactly_on_a_quadratic():
    """Up to the mean of the path, which every strength is multiplied with: the more knots, the closer. Of the velocity
    it is the one after a step that is seen, not the one before it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(4, 1, generator=generator, dtype=torch.float64) + 0.1
    part = tiny.part(1, 30)._replace(inputs=x, targets=y)
    held_out = part._replace(inputs=x.flip(0) * 1.3, targets=y)

    def forward(weights, inputs):
        return inputs @ weights["w"]

    of = Training(Dragged(x), forward, F.mse_loss, lambda t: part._replace(index=t), 40, part, held_out)
    hyper = {"l2.w": tiny.tensor(0.1, 0.2, 0.3, 0.4).reshape(4, 1), "learning_rate": tiny.tensor(0.7)}
    start = {"w": torch.ones(4, 1, dtype=torch.float64)}
    exact = flatten(hypergradient("exact", of, start, hyper).gradient)
    errors = []
    for knots in (6, 41):
        options = {"knots": knots, "spacing": "time", "krylov": 4, "rows": 30, "clamp": None}
        found = flatten(hypergradient("drmad", of, start, hyper, **options).gradient)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 5e-3  # 0.02 if the penalty did not drag the velocity
    assert errors[0] < 0.1


def test_eigenvalues_are_clamped_to_where_a_dragged_recursion_is_stable():
    space = Subspace(torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 5.0], dtype=torch.float64))
    start = torch.ones(2, dtype=torch.float64)
    for momentum, drag in ((0.5, 0.0), (0.5, 1.0), (-0.5, 1.0), (1.4, 1.0)):
        swept = sweep(space, start, start, torch.tensor(momentum, dtype=torch.float64), 2000, 1.9, drag)
        assert swept.x.abs().max() < 10, (momentum, drag)
