"""The recorded pass against finite differences and against one unrolled graph, to the last digits."""

import pytest
import tiny
import torch

from hpo.hypergradients.training import hypergradient, train
from solvers.adam import Adam
from solvers.sgd import SGD

T = 24
ROOMY = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.6), "l2": tiny.tensor(0.02)}


def per_weight_l2():
    generator = torch.Generator().manual_seed(3)
    return {
        f"l2.{n}": 0.05 * torch.rand(w.shape, generator=generator, dtype=w.dtype)
        for n, w in tiny.weights().items()
        if w.dim() > 1
    }


def per_layer(name, values):
    return {
        f"{name}.{n}": tiny.tensor(values[int(n.split(".")[1])]).reshape((1,) * w.dim())
        for n, w in tiny.weights().items()
        if name != "l2" or w.dim() > 1
    }


def per_layer_and_step(first, last):
    return {
        f"learning_rate.{n}[t]": torch.linspace(first, last, T, dtype=torch.float64).reshape(T, *(1,) * w.dim())
        for n, w in tiny.weights().items()
    }


GRAINS = {
    "l2 global": ROOMY,
    "l2 layer": {**ROOMY, **per_layer("l2", [0.01, 0.02, 0.03])},
    "l2 neuron": {**ROOMY, **tiny.per_neuron_l2()},
    "l2 weight": {**ROOMY, **per_weight_l2()},
    "learning_rate layer": {**ROOMY, **per_layer("learning_rate", [0.1, 0.2, 0.3])},
    "learning_rate neuron": {**ROOMY, **tiny.per_neuron_rate()},
    "learning_rate step": {
        "learning_rate[t]": torch.linspace(0.3, 0.1, T, dtype=torch.float64),
        "l2": tiny.tensor(0.02),
    },
    "learning_rate layer and step": {**per_layer_and_step(0.3, 0.1), "l2": tiny.tensor(0.02)},
    "initial_scale global": {**ROOMY, "initial_scale": tiny.tensor(0.8)},
    "initial_scale layer": {**ROOMY, **per_layer("initial_scale", [0.7, 0.9, 1.2])},
}


def difference(training, hyper, key, direction, h=2e-5):
    """The slope of the validation loss along a direction, by central differences of fourth order."""

    def value(share):
        final = train(training, tiny.weights(), {**hyper, key: hyper[key] + share * h * direction})
        return training.validation_loss(final.weights)

    return (8 * (value(1) - value(-1)) - (value(2) - value(-2))) / (12 * h)


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("solver", [SGD, Adam])
def test_equals_finite_differences(grain, solver):
    hyper = dict(GRAINS[grain])
    if solver is Adam:
        hyper.pop("momentum", None)
        for key in [k for k in hyper if k.startswith("learning_rate")]:
            hyper[key] = hyper[key] / 10
        hyper["beta1"] = tiny.tensor(0.7)
    training = tiny.training(solver(tiny.loss), T)
    found = hypergradient("exact", training, tiny.weights(), hyper)
    generator = torch.Generator().manual_seed(9)
    for key, x in hyper.items():
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        slope = (found.gradient[key] * direction).sum()
        expected = difference(training, hyper, key, direction)
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")


def test_equals_one_unrolled_graph():
    training = tiny.training(SGD(tiny.loss), T)
    hyper = {n: x.clone().requires_grad_() for n, x in GRAINS["l2 neuron"].items()}
    state = training.solver.init(tiny.weights(), hyper, training.batches(0))
    for t in range(T):
        state = training.solver.step(state, hyper, training.batches(t))
    value = training.validation_loss(state.weights)
    expected = torch.autograd.grad(value, list(hyper.values()), materialize_grads=True)
    found = hypergradient("exact", training, tiny.weights(), GRAINS["l2 neuron"])
    assert torch.equal(found.value, value.detach())
    for slope, other in zip(found.gradient.values(), expected, strict=True):
        torch.testing.assert_close(slope, other, rtol=1e-10, atol=1e-14)


def test_per_neuron_is_the_sum_of_per_weight():
    training, neuron = tiny.training(SGD(tiny.loss), T), GRAINS["l2 neuron"]
    weight = {
        n: x.expand(tiny.weights()[n.removeprefix("l2.")].shape) if n.startswith("l2.") else x
        for n, x in neuron.items()
    }
    fine = hypergradient("exact", training, tiny.weights(), weight).gradient
    coarse = hypergradient("exact", training, tiny.weights(), neuron).gradient
    for n in tiny.per_neuron_l2():
        torch.testing.assert_close(fine[n].sum(dim=0, keepdim=True), coarse[n], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("method", ["exact", "drmad"])
def test_a_pixel_blank_in_every_training_row_has_no_hypergradient(method):
    """Its weights only shrink, and the validation rows are blank there too: nothing depends on its strength."""
    train_part, validation = tiny.part(1, 60), tiny.part(2, 40)
    train_part.inputs[:, 2] = 0
    validation.inputs[:, 2] = 0
    training = tiny.training(SGD(tiny.loss), T, train=train_part)._replace(validation=validation)
    found = hypergradient(method, training, tiny.weights(), GRAINS["l2 neuron"]).gradient["l2.layers.0.weight"]
    assert found[0, 2] == 0
    assert (found[0, [0, 1, 3, 4, 5]] != 0).all()


@pytest.mark.parametrize("method", ["exact", "drmad"])
def test_renaming_hidden_units_renames_their_hypergradient(method):
    training, order = tiny.training(SGD(tiny.loss), T), torch.tensor([3, 1, 4, 0, 2])
    weights, hyper = tiny.weights(), GRAINS["l2 neuron"]
    turned = dict(weights)
    turned["layers.0.weight"], turned["layers.0.bias"] = (
        weights["layers.0.weight"][order],
        weights["layers.0.bias"][order],
    )
    turned["layers.1.weight"] = weights["layers.1.weight"][:, order]
    turned_hyper = {**hyper, "l2.layers.1.weight": hyper["l2.layers.1.weight"][:, order]}
    one = hypergradient(method, training, weights, hyper).gradient
    two = hypergradient(method, training, turned, turned_hyper).gradient
    torch.testing.assert_close(two["l2.layers.1.weight"], one["l2.layers.1.weight"][:, order], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(two["l2.layers.0.weight"], one["l2.layers.0.weight"], rtol=1e-8, atol=1e-12)


def test_cost_is_what_was_announced():
    training = tiny.training(SGD(tiny.loss), T)
    found = hypergradient("exact", training, tiny.weights(), ROOMY)
    assert found.gradient_evaluations == T + 4 * T + 40 / 20


def test_bad_requests_are_named():
    training = tiny.training(SGD(tiny.loss), 0)
    with pytest.raises(ValueError, match="0 steps"):
        hypergradient("exact", training, tiny.weights(), ROOMY)
    with pytest.raises(ValueError, match=r"unknown hypergradient 'exakt'.*exact"):
        hypergradient("exakt", training._replace(steps=3), tiny.weights(), ROOMY)
    with pytest.raises(TypeError, match="unexpected keyword argument .knots."):
        hypergradient("exact", training._replace(steps=3), tiny.weights(), ROOMY, knots=3)
