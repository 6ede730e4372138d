"""Cases small enough to work out by hand, and linear regression, where eigenvalues bound everything."""

from math import inf, nan, sqrt

import pytest
import tiny
import torch
import torch.nn.functional as F

from hpo.diagnostics import descent_path
from hpo.diagnostics.descent_path import Objective, flips, follow, log_slope, movement, stall, steepest
from hpo.diagnostics.findings import Point
from solvers.chain import Stage, dense


def linear(weights, inputs):
    return inputs @ weights["w"].T


def regression(rows, features, seed=0):
    """Least squares that can be solved exactly: fewer rows than features."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    return Objective(linear, F.mse_loss, inputs, torch.randn(rows, 1, generator=generator, dtype=torch.float64))


def descent(objective, rate, steps, start):
    weights = {"w": start}
    for step in range(steps + 1):
        yield step, weights
        weights = {"w": weights["w"] - rate * objective.slope(weights)[1]["w"]}


def test_the_ratio_of_linear_regression_lies_between_the_eigenvalues():
    """F = ‖Xw − y‖²/n has ‖∇F‖²/F = (4/n) rᵀXXᵀr/rᵀr."""
    objective = regression(6, 10)
    values = 4 / 6 * torch.linalg.eigvalsh(objective.inputs @ objective.inputs.T)
    start = torch.zeros(1, 10, dtype=torch.float64)
    points = list(follow(descent(objective, 0.1, 200, start), range(0, 200, 7), objective))
    assert len(points) == 29
    for point in points:
        assert values[0] <= point.ratio <= values[-1]
    assert points[-1].loss < 1e-3 * points[0].loss
    assert points[-1].ratio == pytest.approx(float(values[0]), rel=0.05)  # the slowest direction is left


@pytest.mark.parametrize("k", [0, 3, 5])
def test_along_an_eigenvector_the_ratio_is_its_eigenvalue(k):
    objective = regression(6, 10)
    values, vectors = torch.linalg.eigh(objective.inputs @ objective.inputs.T)
    objective = objective._replace(targets=vectors[:, k : k + 1])
    [point] = follow([(0, {"w": torch.zeros(1, 10, dtype=torch.float64)})], {0}, objective)
    assert point.ratio == pytest.approx(4 / 6 * float(values[k]), rel=1e-12)
    assert (point.following, point.forecast) == (None, None)


def test_the_forecast_of_gradient_descent():
    """F(1 − ηq), and what it misses is the curvature along the step: η²gᵀ(XᵀX/n)g."""
    objective, rate = regression(6, 10), 0.05
    states = list(descent(objective, rate, 4, torch.zeros(1, 10, dtype=torch.float64)))
    points = list(follow(states, {1, 2}, objective))
    assert [p.step for p in points] == [1, 2]
    for point in points:
        assert point.forecast == pytest.approx(point.loss * (1 - rate * point.ratio), rel=1e-12)
        slope = objective.slope(states[point.step][1])[1]["w"]
        missed = rate**2 * float((objective.inputs @ slope.T).square().sum()) / 6
        assert point.following == pytest.approx(point.forecast + missed, rel=1e-12)


def test_a_step_that_is_not_seen_has_no_forecast():
    objective = regression(6, 10)
    states = dict(descent(objective, 0.05, 4, torch.zeros(1, 10, dtype=torch.float64)))
    points = list(follow([(0, states[0]), (2, states[2]), (3, states[3])], {0, 2, 3}, objective))
    assert [(p.step, p.following is None) for p in points] == [(0, True), (2, False), (3, True)]


def test_blocks_add_up(monkeypatch):
    part, weights = tiny.part(0, 23), tiny.weights()
    objective = Objective(tiny.forward, F.cross_entropy, part.inputs, part.targets)
    value, slopes = objective.slope(weights)
    assert objective.value(weights) == pytest.approx(float(tiny.loss(weights, {}, part)), rel=1e-12)
    monkeypatch.setattr(descent_path, "BLOCK", 5)
    again, others = objective.slope(weights)
    assert (again, objective.value(weights)) == (pytest.approx(value, rel=1e-12), pytest.approx(value, rel=1e-12))
    torch.testing.assert_close(others, slopes, rtol=1e-12, atol=1e-15)
    assert not any(slope.requires_grad for slope in slopes.values())


def test_movement():
    """From diag(3, 4) by diag(1.5, 0): 1.5/5 and 1.5/4. A filter bank is a matrix of one row a filter."""
    first = {"w": torch.diag(torch.tensor([3.0, 4.0])), "b": torch.ones(2), "zero": torch.zeros(2, 2)}
    last = {"w": torch.diag(torch.tensor([4.5, 4.0])), "b": torch.zeros(2), "zero": torch.ones(2, 2)}
    w, zero = movement(first, last)
    assert (w.name, w.frobenius, w.spectral) == ("w", pytest.approx(0.3), pytest.approx(0.375))
    assert (zero.name, zero.frobenius, zero.spectral) == ("zero", None, None)
    [filters] = movement({"k": torch.ones(2, 3, 2, 2)}, {"k": 2 * torch.ones(2, 3, 2, 2)})
    assert (filters.frobenius, filters.spectral) == (pytest.approx(1.0), pytest.approx(1.0))


INPUTS = torch.tensor([[1.0], [2.0], [-1.0], [-3.0]])


def chained(first_bias, second_bias):
    return {
        "a.weight": torch.tensor([[1.0], [-1.0]]),
        "a.bias": torch.tensor(first_bias),
        "b.weight": torch.eye(2),
        "b.bias": torch.tensor(second_bias),
        "c.weight": torch.ones(1, 2),
    }


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "softplus"])
def test_flips(monkeypatch, activation):
    """The first unit's sign is that of x + b: b = 1.5 moves the row −1 over. Nothing moves under the other unit."""
    monkeypatch.setattr(descent_path, "BLOCK", 3)
    chain = (dense("a.weight", "a.bias", activation), dense("b.weight", "b.bias", activation), dense("c.weight", None))
    first, last = chained([0.0, 0.0], [-9.0, -9.0]), chained([1.5, 0.0], [9.0, -9.0])
    assert flips(chain, first, first, INPUTS)[0].share == 0
    found = flips(chain, first, last, INPUTS)
    assert [(f.name, f.share) for f in found] == [("a", 1 / 8), ("b", 1 / 2)]


def test_flips_of_another_kind_of_stage_are_those_of_its_outputs():
    chain = (
        Stage((), lambda w, x: x - 0.5),
        Stage(("shift.by",), lambda w, x: x + w["shift.by"]),
        dense("c.weight", None),
    )
    found = flips(chain, {"shift.by": torch.tensor(0.0)}, {"shift.by": torch.tensor(2.0)}, INPUTS)
    assert [(f.name, f.share) for f in found] == [("stage 0", 0.0), ("shift", 1 / 4)]


def test_the_steepest_direction_takes_the_rates_into_account():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix, rate = root @ root.T, torch.rand(12, generator=generator, dtype=torch.float64)
    scaled = rate.sqrt()[:, None] * matrix * rate.sqrt()[None]
    assert steepest(lambda x: matrix @ x, rate) == pytest.approx(float(torch.linalg.eigvalsh(scaled)[-1]), rel=0.02)
    assert steepest(lambda x: 0 * x, rate) == 0


def point(step, loss, ratio):
    return Point(step, loss, ratio * loss)


def test_a_stall():
    healthy = [point(0, 2.0, 0.5), point(1, 1.0, 0.3), point(2, 0.01, 0.004)]  # the ratio falls with the loss
    assert stall(healthy) is None
    found = stall([*healthy, point(3, 0.0095, 1e-4), point(4, 0.0094, 2e-4)])
    assert found is not None
    assert (found.start.step, found.stop.step, found.fall) == (2, 3, pytest.approx(40))
    assert stall([point(0, 2.0, 0.5), point(1, 2.0, 0.06)]) is None
    assert stall([point(0, 2.0, 0.5), point(1, 1.7, 1e-3)]) is None
    assert stall([point(0, 2.0, 0.5), Point(1, 0.0, 0.0)]) is None


def test_the_slope_in_logarithms():
    assert log_slope([Point(t, x, 3 * x**0.75) for t, x in enumerate([1.0, 0.5, 0.1])]) == pytest.approx(0.75)
    constant = [Point(t, x, 0.2 * x) for t, x in enumerate([1.0, 0.5, nan, inf, 0.0, 0.1])]
    assert log_slope(constant) == pytest.approx(1.0)
    assert log_slope(constant[:2]) is None
    assert log_slope([Point(t, x, x) for t, x in enumerate([1.0, 0.9, 0.8, sqrt(0.4)])]) is None
