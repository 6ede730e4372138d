"""The cosine to the exact hypergradient: of the right two vectors, and at no cost to the method's own digits."""

import math

import pytest
import tiny
import torch

from hpo.hypergradients.agreement import COSINE, Agreement, cosines
from hpo.hypergradients.drmad import DrMAD
from hpo.hypergradients.implicit import Implicit
from hpo.hypergradients.training import conclude, hypergradient
from hpo.hypergradients.truncated import Truncated
from solvers.sgd import SGD

T = 24
HYPER = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.5), **tiny.per_neuron_l2()}
METHODS = [DrMAD(), Truncated(steps=10), Implicit()]


def training():
    return tiny.training(SGD(tiny.loss), T)._replace(held=("learning_rate", "momentum"))


def derived(method):
    following = method.follow(training(), tiny.weights(), HYPER)
    assert next(step for step, _ in following if step == T) == T
    return conclude(following)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_the_cosine_is_that_of_the_two_and_the_digits_are_the_methods(method):
    alone, beside = derived(method), derived(Agreement(method))
    assert all(torch.equal(slope, beside.gradient[name]) for name, slope in alone.gradient.items())
    exact = hypergradient("exact", training(), tiny.weights(), HYPER).gradient
    a, b = (torch.cat([some[key].flatten() for key in exact]) for some in (alone.gradient, exact))
    name = f"{COSINE} l2"
    assert beside.report == {**alone.report, name: pytest.approx((a @ b / a.norm() / b.norm()).item())}
    assert -1 <= beside.report[name] <= 1


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_both_are_charged(method):
    both, one = (m.charge(training(), tiny.weights(), HYPER) for m in (Agreement(method), method))
    exact = Agreement(method).exact.charge(training(), tiny.weights(), HYPER)
    assert both.gradient_evaluations == one.gradient_evaluations + exact.gradient_evaluations
    assert both.memory == one.memory + exact.memory


def test_all_steps_backwards_agree_entirely():
    assert derived(Agreement(Truncated(steps=T))).report == {f"{COSINE} l2": pytest.approx(1.0)}


def test_each_hyperparameter_has_its_own_and_none_without_a_direction():
    one = {
        "l2.a": tiny.tensor([1.0, 0.0]),
        "l2.b": tiny.tensor([1.0]),
        "rate": tiny.tensor([0.0]),
        "m": tiny.tensor(2.0),
    }
    other = {
        "l2.a": tiny.tensor([1.0, 1.0]),
        "l2.b": tiny.tensor([0.0]),
        "rate": tiny.tensor([1.0]),
        "m": tiny.tensor(-3.0),
    }
    assert cosines(one, other) == {"l2": pytest.approx(0.5), "m": -1.0}
    broken = {name: slope * math.nan for name, slope in other.items()}
    assert cosines(one, broken) == {}
