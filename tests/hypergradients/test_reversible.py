"""The training run backwards: to the first state bit for bit, and with the derivatives of the recorded pass."""

import math

import pytest
import tiny
import torch
import torch.nn.functional as F

from hpo.hypergradients.reversible import Reversible, machinery, same
from hpo.hypergradients.training import Training, hypergradient, train
from solvers.adam import Adam
from solvers.sgd import SGD

T = 40
ROOMY = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.9), "l2": tiny.tensor(0.02)}
LIKE = list(tiny.weights().items())
RATES = {f"learning_rate.{n}": tiny.tensor(0.1 + 0.05 * i) for i, n in enumerate(tiny.weights())}
SCALES = {f"initial_scale.{n}": tiny.tensor(0.7 + 0.1 * i) for i, n in enumerate(tiny.weights())}
GRAINS = {
    "l2 neuron": {**ROOMY, **tiny.per_neuron_l2()},
    "learning_rate layer": {**ROOMY, **RATES},
    "learning_rate neuron": {**ROOMY, **tiny.per_neuron_rate()},
    "learning_rate step": {
        "learning_rate[t]": torch.linspace(0.3, 0.1, T, dtype=torch.float64),
        "momentum": tiny.tensor(0.5),
    },
    "learning_rate layer and step": {
        **{f"learning_rate.{n}[t]": torch.linspace(0.3, 0.1, T).double().reshape(T, *(1,) * w.dim()) for n, w in LIKE},
        "momentum": tiny.tensor(0.5),
    },
    "initial_scale": {**ROOMY, **SCALES},
    "momentum of shape [1]": {**ROOMY, "momentum": torch.tensor([0.9], dtype=torch.float64)},
}


@pytest.mark.parametrize("grain", GRAINS)
def test_equals_the_recorded_pass(grain):
    """Steps are exact to about 1e-13, and so are the derivatives: those of momentum and initial scale, too."""
    training, hyper = tiny.training(SGD(tiny.loss), T), GRAINS[grain]
    exact = hypergradient("exact", training, tiny.weights(), hyper)
    found = hypergradient("reversible", training, tiny.weights(), hyper)
    torch.testing.assert_close(found.value, exact.value, rtol=1e-11, atol=0)
    assert found.gradient.keys() == hyper.keys()
    for name, slope in exact.gradient.items():
        assert slope.abs().max() > 0 or name in ROOMY  # a finer key hides the global one
        torch.testing.assert_close(
            found.gradient[name], slope, rtol=1e-8, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert found.report["recovered"] == 1


@pytest.mark.parametrize("momentum", [0.05, 0.5, 0.873452198, 0.99])
def test_equals_the_recorded_pass_at_any_momentum(momentum):
    """0.873… is no fraction with a denominator of up to 2¹⁶: the nearest one takes its place, 1e-10 away."""
    training, hyper = tiny.training(SGD(tiny.loss), T), {**ROOMY, "momentum": tiny.tensor(momentum)}
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    found = hypergradient("reversible", training, tiny.weights(), hyper).gradient
    for name, slope in exact.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def test_equals_finite_differences_in_momentum():
    training, h = tiny.training(SGD(tiny.loss), T), 1e-5
    values = [
        training.validation_loss(train(training, tiny.weights(), {**ROOMY, "momentum": ROOMY["momentum"] + x}).weights)
        for x in (-h, h)
    ]
    found = hypergradient("reversible", training, tiny.weights(), ROOMY).gradient["momentum"]
    torch.testing.assert_close(found, (values[1] - values[0]) / (2 * h), rtol=1e-6, atol=1e-9)


def regression(dtype, momentum, steps):
    """Softmax regression in minibatches, a strength per input, and initial weights that are not zero."""
    part, held = (part._replace(inputs=part.inputs.to(dtype)) for part in (tiny.part(1, 60), tiny.part(2, 40)))

    def forward(weights, inputs):
        return inputs @ weights["w"].T

    def loss(weights, hyper, batch):
        return F.cross_entropy(forward(weights, batch.inputs), batch.targets)

    training = Training(SGD(loss), forward, F.cross_entropy, tiny.batches(part, 20), steps, part, held)
    hyper = {"learning_rate": torch.tensor(0.1), "momentum": torch.tensor(momentum), "l2.w": torch.full((1, 6), 0.02)}
    return training, {"w": tiny.weights()["layers.0.weight"][:3].to(dtype)}, {n: x.to(dtype) for n, x in hyper.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("momentum", "bits"), [(0.1, 3.3219), (0.9, 0.1520), (0.98, 0.02915)])
def test_two_thousand_steps_are_undone_bit_for_bit(dtype, momentum, bits):
    """Single precision too: what is rounded is rounded the same way twice. The store holds log₂(1/momentum) bits a
    weight and step, in words of 32 above a register of 64.
    """
    steps = 2000
    training, weights, hyper = regression(dtype, momentum, steps)
    found = hypergradient("reversible", training, weights, hyper)
    assert found.weights["w"].dtype == dtype
    assert found.report["recovered"] == 1
    assert 0 <= found.report["bits_per_step_per_weight"] - bits <= 64 / steps

    count = weights["w"].numel()
    memory = Reversible().charge(training, weights, hyper).memory
    assert found.report["bits_per_step_per_weight"] == 8 * found.report["store_bytes"] / (steps * count)
    assert 0 <= memory - (96 * count + found.report["store_bytes"]) + 16 * count <= 24 * count


def test_equals_the_recorded_pass_after_two_thousand_steps():
    """Each step drops up to 9·2⁻⁴⁸ of the velocity: 3e-14, 2000 times."""
    training, weights, hyper = regression(torch.float64, 0.9, 2000)
    exact = hypergradient("exact", training, weights, hyper).gradient
    found = hypergradient("reversible", training, weights, hyper).gradient
    for name, slope in exact.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_a_stop_on_the_way_changes_no_bit():
    training = tiny.training(SGD(tiny.loss), T)
    plain = list(Reversible().follow(training, tiny.weights(), ROOMY))
    stopped = list(Reversible().follow(training, tiny.weights(), ROOMY, stops={7, 20, T}))
    assert [t for t, _ in plain] == [0, T]
    assert [t for t, _ in stopped] == [0, 7, 20, T]
    for (_, one), (_, two) in ((plain[0], stopped[0]), (plain[-1], stopped[-1])):
        for name, w in one.weights.items():
            assert torch.equal(two.weights[name], w)
    for name, w in train(training._replace(steps=7), tiny.weights(), ROOMY).weights.items():
        torch.testing.assert_close(stopped[1][1].weights[name], w, rtol=1e-11, atol=1e-12)


def test_every_state_on_the_way_back_is_the_one_on_the_way_forth():
    training = tiny.training(SGD(tiny.loss), T)
    machine = machinery(training, tiny.weights(), ROOMY)
    reels = [machine.at_rest(tiny.weights())]
    for t in range(T):
        reels.append(machine.run(reels[-1], t, t + 1))
    reel = reels[-1]
    for t in range(T - 1, -1, -1):
        reel = machine.back(reel, t)
        assert same(reel, reels[t])
        assert not same(reel, reels[t + 1])


def test_gradients_that_differ_from_one_evaluation_to_the_next_are_reported():
    """What a device does that adds in another order each time: the way back does not end where it began."""
    calls = 0

    def restless(weights, hyper, batch):
        nonlocal calls
        calls += 1
        return (1 + 1e-12 * calls) * tiny.loss(weights, hyper, batch)

    found = hypergradient("reversible", tiny.training(SGD(restless), T), tiny.weights(), ROOMY)
    assert found.report["recovered"] == 0


def test_cost_is_what_was_announced():
    calls = 0

    def counted(weights, hyper, batch):
        nonlocal calls
        calls += 1
        return tiny.loss(weights, hyper, batch)

    found = hypergradient("reversible", tiny.training(SGD(counted), T), tiny.weights(), ROOMY)
    assert found.gradient_evaluations == T + 8 * T + 40 / 20
    assert calls == 3 * T + 2  # a look at what was given; forth, back, and the step that is differentiated


class Steps(SGD):
    """Another solver as far as anyone can know."""


def test_bad_requests_are_named():
    training, weights = tiny.training(SGD(tiny.loss), T), tiny.weights()
    for solver, name in ((Adam(tiny.loss), "Adam"), (Steps(tiny.loss), "Steps")):
        with pytest.raises(ValueError, match=f"runs the steps of SGD backwards, not of {name}: use exact"):
            hypergradient("reversible", training._replace(solver=solver), weights, ROOMY)

    without = {name: x for name, x in ROOMY.items() if name != "momentum"}
    for momentum, given in (
        ({}, "given none"),
        ({"momentum": tiny.tensor(0.5, 0.6)}, r"given shape \[2\]"),
        ({"momentum[t]": torch.full((T,), 0.5)}, r"given momentum\[t\]"),
        (
            {"momentum": tiny.tensor(0.5), "momentum.layers.0.weight": tiny.tensor(0.5)},
            "given momentum.layers.0.weight",
        ),
    ):
        with pytest.raises(ValueError, match=f"one momentum for the whole training, {given}: give one, or use exact"):
            hypergradient("reversible", training, weights, {**without, **momentum})

    for value, shown in ((0.0, "0"), (1.0, "1"), (-0.5, "-0.5"), (1e-7, "1e-07"), (math.nan, "nan")):
        with pytest.raises(ValueError, match=f"momentum {shown} must lie between 1/65536 and 1 - 1/65536.*use exact"):
            hypergradient("reversible", training, weights, {**ROOMY, "momentum": tiny.tensor(value)})


@pytest.mark.parametrize("wrong", [2.0**14, -(2.0**20), math.nan])
def test_weights_out_of_range_are_named(wrong):
    training, weights = tiny.training(SGD(tiny.loss), T), tiny.weights()
    weights["layers.1.bias"][2] = wrong
    with pytest.raises(OverflowError, match=r"step 0: .*beyond ±16384.*lower the learning rate, or use exact"):
        hypergradient("reversible", training, weights, ROOMY)


@pytest.mark.parametrize("stops", [(), range(T)], ids=["at the end", "at every step"])
@pytest.mark.parametrize("steepness", [1.0, 1000.0], ids=["weight", "velocity"])
def test_the_step_that_leaves_the_range_is_named(steepness, stops):
    """The loss −½kw², of rate 1/k and momentum ½: v ← ½v − kw, w ← w − v/k; plain floats tell which step passes 2¹⁴."""

    def away(weights, hyper, batch):
        return -steepness * (weights["w"] ** 2).sum() / 2

    training = tiny.training(SGD(away), T)
    weights = {"w": tiny.tensor(1.0)}
    hyper = {"learning_rate": tiny.tensor(1 / steepness), "momentum": tiny.tensor(0.5)}
    w, v, step = 1.0, -steepness, 0
    while max(abs(w - v / steepness), abs(v)) < 2**14:
        w -= v / steepness
        v = 0.5 * v - steepness * w
        step += 1
    with pytest.raises(OverflowError, match=f"step {step}: a weight or a velocity is not finite or beyond"):
        list(Reversible().follow(training, weights, hyper, stops))
