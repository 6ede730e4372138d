"""The exact hypergradient beside another one: the digits of both, and what both cost."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from hpo.hypergradients.agreement import EXPLODED, Agreement
from hpo.hypergradients.drmad import DrMAD
from hpo.hypergradients.exact import Exact
from hpo.hypergradients.implicit import Implicit
from hpo.hypergradients.training import Training, conclude
from hpo.hypergradients.truncated import Truncated
from solvers.sgd import SGD
from solvers.solver import Batch

T = 24
HYPER = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.5), **tiny.per_neuron_l2()}
METHODS = [DrMAD(), DrMAD(spacing="arc"), Truncated(steps=10), Implicit()]


def training():
    return tiny.training(SGD(tiny.loss), T)._replace(held=("learning_rate", "momentum"))


def derived(method):
    following = method.follow(training(), tiny.weights(), HYPER)
    assert next(step for step, _ in following if step == T) == T
    return conclude(following)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_both_have_the_digits_they_have_alone(method):
    alone, exact, both = derived(method), derived(Exact()), derived(Agreement(method))
    assert alone.exact is None and both.report == alone.report
    for name, slope in alone.gradient.items():
        assert torch.equal(slope, both.gradient[name])
        assert torch.equal(exact.gradient[name], both.exact[name])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_both_are_charged(method):
    both, one, other = (m.charge(training(), tiny.weights(), HYPER) for m in (Agreement(method), method, Exact()))
    assert both.gradient_evaluations == one.gradient_evaluations + other.gradient_evaluations
    assert both.memory == one.memory + other.memory


def test_an_exact_pass_that_overflows_is_told():
    """Every step leads from one bottom of a double well, of curvature 1e100, to the other."""

    def loss(weights, hyper, batch):
        return (weights["w"] ** 2 + 1e100 * (weights["w"] ** 2 - 1) ** 2 / 4).sum()

    part = Batch(-1, torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64))
    hyper = {"learning_rate": tiny.tensor(1.0), "momentum": tiny.tensor(0.0)}
    well = Training(
        SGD(loss), lambda w, x: w["w"] + x, F.mse_loss, lambda t: part._replace(index=t), 7, part, part,
        held={"momentum"},
    )  # fmt: skip
    following = Agreement(Truncated(steps=2)).follow(well, {"w": tiny.tensor(1.0)}, hyper)
    assert next(step for step, _ in following if step == 7) == 7
    found = conclude(following)
    assert torch.isfinite(found.gradient["learning_rate"])
    assert not torch.isfinite(found.exact["learning_rate"])
    assert 0 < found.report[EXPLODED] < 6
