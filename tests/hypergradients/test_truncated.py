"""The last steps only: the whole pass when they are all, an error that falls with them where the loss is convex."""

import pytest
import tiny
import torch

from hpo.hypergradients.training import hypergradient
from solvers.adam import Adam
from solvers.sgd import SGD

HYPER = {"momentum": tiny.tensor(0.5), **tiny.per_neuron_rate(), **tiny.per_neuron_l2()}


@pytest.mark.parametrize("solver", [SGD, Adam])
def test_all_steps_are_the_exact_pass(solver):
    hyper = {"learning_rate": tiny.tensor(0.05), **tiny.per_neuron_l2()}
    training = tiny.training(solver(tiny.loss), 20)
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    found = hypergradient("truncated", training, tiny.weights(), hyper, steps=25).gradient
    for name, slope in exact.items():
        assert torch.equal(found[name], slope)


def test_a_schedule_is_served_by_a_pass_that_sees_all_of_it():
    hyper = {"learning_rate[t]": torch.full((30,), 0.1, dtype=torch.float64)}
    training = tiny.training(SGD(tiny.loss), 30)
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient["learning_rate[t]"]
    found = hypergradient("truncated", training, tiny.weights(), hyper, steps=30).gradient["learning_rate[t]"]
    assert torch.equal(found, exact)
    with pytest.raises(ValueError, match=r"does not reach the first steps, where learning_rate\[t\] acts"):
        hypergradient("truncated", training, tiny.weights(), hyper, steps=29)


def test_the_error_falls_with_the_horizon_on_a_convex_loss():
    import torch.nn.functional as F

    from hpo.hypergradients.training import Training

    part, held = tiny.part(1, 60), tiny.part(2, 40)

    def forward(w, x):
        return x @ w["w"].T

    def loss(w, hyper, batch):
        return F.cross_entropy(forward(w, batch.inputs), batch.targets)

    training = Training(SGD(loss), forward, F.cross_entropy, lambda t: part._replace(index=t), 400, part, held)
    hyper = {"learning_rate": tiny.tensor(0.5), "l2.w": torch.full((1, 6), 0.3, dtype=torch.float64)}
    weights = {"w": torch.zeros(3, 6, dtype=torch.float64)}
    exact = hypergradient("exact", training, weights, hyper).gradient["l2.w"]
    errors = []
    for steps in (2, 8, 32, 128):
        found = hypergradient("truncated", training, weights, hyper, steps=steps).gradient["l2.w"]
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_cost_and_refusals():
    training = tiny.training(SGD(tiny.loss), 30)
    found = hypergradient("truncated", training, tiny.weights(), HYPER, steps=10)
    assert found.gradient_evaluations == 30 + 4 * 10 + 40 / 20
    with pytest.raises(ValueError, match="truncated does not reach the first steps, where initial_scale acts"):
        hypergradient("truncated", training, tiny.weights(), {**HYPER, "initial_scale": tiny.tensor(1.0)}, steps=10)
    with pytest.raises(ValueError, match="steps 0 must be 1 or more"):
        hypergradient("truncated", training, tiny.weights(), HYPER, steps=0)
