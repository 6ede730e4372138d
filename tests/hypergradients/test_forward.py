"""Tangents that travel with the training, against the recorded pass, an unrolled graph and finite differences."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.hypergradients.forward import Forward, advance, start
from hpo.hypergradients.training import Training, hypergradient, state_bytes, train, walk
from solvers.adam import Adam
from solvers.sgd import SGD
from solvers.solver import Batch
from solvers.vectors import leaves

T = 12
SOLVERS = {
    SGD: {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.6), "l2": tiny.tensor(0.02)},
    Adam: {
        "learning_rate": tiny.tensor(0.02),
        "beta1": tiny.tensor(0.7),
        "beta2": tiny.tensor(0.95),
        "l2": tiny.tensor(0.02),
    },
}


def per_layer(name, values):
    return {
        f"{name}.{n}": tiny.tensor(values[int(n.split(".")[1])])
        for n, w in tiny.weights().items()
        if name != "l2" or w.dim() > 1
    }


def schedule(steps):
    return torch.linspace(0.03, 0.01, steps, dtype=torch.float64)


GRAINS = {
    "global": {},
    "learning_rate layer": per_layer("learning_rate", [0.01, 0.02, 0.03]),
    "learning_rate neuron": tiny.per_neuron_rate(0.02),
    "learning_rate step": {"learning_rate[t]": schedule(T)},
    "learning_rate layer and step": {"learning_rate.layers.0.weight[t]": schedule(T).reshape(T, 1, 1)},
    "a schedule that is longer than the training": {"learning_rate[t]": schedule(T + 5)},
    "l2 layer": per_layer("l2", [0.01, 0.02, 0.03]),
    "initial_scale global": {"initial_scale": tiny.tensor(0.8)},
    "initial_scale layer": per_layer("initial_scale", [0.7, 0.9, 1.2]),
    "all at once": {"learning_rate[t]": schedule(T), "initial_scale": tiny.tensor(0.8), **tiny.per_neuron_l2()},
}


@pytest.fixture(params=list(SOLVERS), ids=lambda solver: solver.__name__)
def solver(request):
    return request.param


def unrolled(solver, hyper, training):
    """The validation loss as one graph of the hyperparameters, in the formulas themselves."""

    def value(name, weight, t):
        for key, at in ((f"{name}.{weight}[t]", t), (f"{name}.{weight}", ...), (f"{name}[t]", t), (name, ...)):
            if key in hyper:
                return hyper[key][at]
        return None

    def scale(n):
        found = value("initial_scale", n, 0)
        return 1 if found is None else found

    w = {n: (scale(n) * x).requires_grad_() for n, x in tiny.weights().items()}
    m, s = ({n: torch.zeros_like(x) for n, x in w.items()} for _ in range(2))
    for t in range(training.steps):
        batch = training.batches(t)
        loss = F.cross_entropy(tiny.forward(w, batch.inputs), batch.targets)
        slopes = dict(zip(w, torch.autograd.grad(loss, list(w.values()), create_graph=True), strict=True))
        for n, x in w.items():
            g = slopes[n] + (value("l2", n, t) * x if x.dim() > 1 else 0)
            rate = value("learning_rate", n, t)
            if solver is SGD:
                m[n] = hyper["momentum"] * m[n] + g
                w[n] = x - rate * m[n]
            else:
                b1, b2 = hyper["beta1"], hyper["beta2"]
                m[n], s[n] = b1 * m[n] + (1 - b1) * g, b2 * s[n] + (1 - b2) * g**2
                first, second = m[n] / (1 - b1 ** (t + 1)), s[n] / (1 - b2 ** (t + 1))
                w[n] = x - rate * first / (torch.sqrt(second + 1e-16) + 1e-8)
    return training.validation_loss(w)


@pytest.mark.parametrize("grain", GRAINS)
def test_equals_the_recorded_pass_and_one_unrolled_graph(solver, grain):
    hyper, training = {**SOLVERS[solver], **GRAINS[grain]}, tiny.training(solver(tiny.loss), T)
    found = hypergradient("forward", training, tiny.weights(), hyper, most=200)
    exact = hypergradient("exact", training, tiny.weights(), hyper)
    knobs = {n: x.clone().requires_grad_() for n, x in hyper.items()}
    value = unrolled(solver, knobs, training)
    slopes = torch.autograd.grad(value, list(knobs.values()), materialize_grads=True)
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-12, atol=0)
    assert list(found.gradient) == list(hyper)
    for (name, slope), other in zip(found.gradient.items(), slopes, strict=True):
        assert (slope.shape, slope.dtype) == (hyper[name].shape, torch.float64)
        torch.testing.assert_close(slope, exact.gradient[name], rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(slope, other, rtol=1e-10, atol=1e-13)
    assert all((found.gradient[name] != 0).any() for name in GRAINS[grain])
    assert found.report == {}


@pytest.mark.parametrize("grain", ["global", "learning_rate step", "initial_scale layer"])
def test_equals_finite_differences(solver, grain):
    hyper, training, h = {**SOLVERS[solver], **GRAINS[grain]}, tiny.training(solver(tiny.loss), T), 2e-5
    found = hypergradient("forward", training, tiny.weights(), hyper).gradient
    generator = torch.Generator().manual_seed(9)
    for key, x in hyper.items():
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ends = [
            training.validation_loss(train(training, tiny.weights(), {**hyper, key: x + share * direction}).weights)
            for share in (-h, h)
        ]
        expected = (ends[1] - ends[0]) / (2 * h)
        torch.testing.assert_close((found[key] * direction).sum(), expected, rtol=1e-6, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 40), st.sampled_from(list(SOLVERS)))
def test_chunks_of_any_size_agree(steps, longer, chunk, solver):
    """Also where a chunk has no tangent yet, or never gets one."""
    hyper = {
        **SOLVERS[solver],
        "learning_rate[t]": schedule(steps + longer),
        **per_layer("initial_scale", [1, 0.9, 1.1]),
    }
    training = tiny.training(solver(tiny.loss), steps)
    found = hypergradient("forward", training, tiny.weights(), hyper, chunk=chunk).gradient
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    for name, slope in exact.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-10, atol=1e-13)


def test_the_training_keeps_its_digits_and_its_stops(solver):
    hyper, training = {**SOLVERS[solver], **GRAINS["all at once"]}, tiny.training(solver(tiny.loss), T)
    seen = list(Forward().follow(training, tiny.weights(), hyper, stops={3, 7, T}))
    assert [step for step, _ in seen] == [0, 3, 7, T]
    for (step, state), (other, plain) in zip(seen, walk(training, tiny.weights(), hyper, {3, 7}), strict=True):
        assert step == other
        assert all(torch.equal(x, y) for x, y in zip(leaves(state), leaves(plain), strict=True))
        assert not any(x.requires_grad for x in leaves(state))


def test_other_layers(solver):
    """A network of convolutions, whose group norm rounds otherwise when it is recorded, and a weight without axes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {"conv": 0.5 * draw(4, 1, 3, 3), "scale": 1 + 0.1 * draw(4), "dense": 0.5 * draw(3, 16), "gain": draw()}

    def forward(w, x):
        x = F.group_norm(F.conv2d(x, w["conv"], padding=1), 2, w["scale"])
        return F.linear(F.max_pool2d(F.silu(x), 3).flatten(1), w["dense"]) * w["gain"]

    def loss(w, hyper, batch):
        return F.cross_entropy(forward(w, batch.inputs), batch.targets)

    whole, held = (Batch(-1, draw(n, 1, 6, 6), torch.arange(n) % 3) for n in (30, 20))
    training = Training(solver(loss), forward, F.cross_entropy, tiny.batches(whole, 10), 6, whole, held)
    hyper = SOLVERS[solver]
    found = hypergradient("forward", training, weights, hyper)
    exact = hypergradient("exact", training, weights, hyper)
    plain = train(training, weights, hyper)
    for name, slope in exact.gradient.items():
        torch.testing.assert_close(found.gradient[name], slope, rtol=1e-10, atol=1e-13)
    assert all(torch.equal(found.weights[n], w) for n, w in plain.weights.items())


def test_single_precision(solver):
    hyper, training = {**SOLVERS[solver], **GRAINS["all at once"]}, tiny.training(solver(tiny.loss), T)
    double = hypergradient("forward", training, tiny.weights(), hyper).gradient
    whole, held = (p._replace(inputs=p.inputs.float()) for p in (training.train, training.validation))
    training = tiny.training(solver(tiny.loss), T, train=whole)._replace(validation=held)
    weights, knobs = ({n: x.float() for n, x in group.items()} for group in (tiny.weights(), hyper))
    found = hypergradient("forward", training, weights, knobs)
    assert {w.dtype for w in found.weights.values()} == {torch.float32}
    for name, slope in double.items():
        torch.testing.assert_close(found.gradient[name].double(), slope, rtol=1e-3, atol=1e-6)


def test_what_is_held_has_no_tangent():
    training, hyper = tiny.training(SGD(tiny.loss), T), {**SOLVERS[SGD], **tiny.per_neuron_l2()}
    everything = hypergradient("forward", training, tiny.weights(), hyper)
    held = hypergradient("forward", training._replace(held=["l2"]), tiny.weights(), hyper)
    assert set(held.gradient) == {"learning_rate", "momentum"}
    for name, slope in held.gradient.items():
        torch.testing.assert_close(slope, everything.gradient[name], rtol=1e-12, atol=1e-14)
    assert held.gradient_evaluations == T + 4 * T + 2 * 2 * T + 40 / 20


def test_a_value_of_a_schedule_has_no_tangent_before_its_step():
    hyper = {"learning_rate[t]": schedule(T), "momentum": tiny.tensor(0.6)}
    training = tiny.training(SGD(tiny.loss), T)
    state, chunks = start(training, tiny.weights(), hyper, 5)
    rows = [sum(len(chunk.tangents[0]) for chunk in chunks)]
    for t in range(T):
        state = advance(training, state, hyper, chunks, t)
        rows.append(sum(len(chunk.tangents[0]) for chunk in chunks))
    assert rows == [2, *range(2, T + 2)]
    held = sum(z.numel() for chunk in chunks for z in chunk.tangents)
    assert held == (T + 1) * sum(x.numel() for x in leaves(state))
    cost = Forward().charge(training, tiny.weights(), hyper).gradient_evaluations
    assert cost == 4 * T + 2 * sum(rows[1:]) + 40 / 20


def test_the_charge_grows_with_the_steps_and_the_memory_does_not():
    short, long = (tiny.training(SGD(tiny.loss), steps) for steps in (10, 1000))
    hyper = {**SOLVERS[SGD], **tiny.per_neuron_l2()}
    values, one = 3 + 6 + 5 + 4, state_bytes(short, tiny.weights(), hyper)
    for training in (short, long):
        evaluations, memory = Forward(chunk=7).charge(training, tiny.weights(), hyper)
        assert evaluations == (4 + 2 * values) * training.steps + 40 / 20
        assert memory == (values + 2 * 7) * one
    assert Forward(chunk=50).charge(short, tiny.weights(), hyper).memory == 3 * values * one


@pytest.mark.parametrize("name", ["initial_scale", "learning_rate", "momentum"])
def test_the_first_step_whose_tangent_is_not_finite_is_named(name):
    """L = w² + 10¹⁰⁰ (w² − 1)²/4 has slope 2 and curvature 2·10¹⁰⁰ at w = ±1, between which a rate of 1 swings: each
    step multiplies a tangent by 10¹⁰⁰. That of initial_scale is 1 at first, those of the others after the first step
    or, of momentum, which the first step does not see, after the second.
    """

    def loss(weights, hyper, batch):
        return (weights["w"] ** 2 + 1e100 * (weights["w"] ** 2 - 1) ** 2 / 4).sum()

    part = Batch(-1, torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64))
    hyper = {"learning_rate": tiny.tensor(1.0), "momentum": tiny.tensor(0.0), "initial_scale": tiny.tensor(1.0)}
    last = {"initial_scale": 3, "learning_rate": 4, "momentum": 5}[name]
    training = Training(
        SGD(loss), lambda w, x: w["w"] + x, F.mse_loss, lambda t: part._replace(index=t), last, part, part,
        held=set(hyper) - {name},
    )  # fmt: skip
    weights = {"w": tiny.tensor(1.0)}
    fine = hypergradient("forward", training, weights, hyper)
    assert torch.isfinite(fine.gradient[name])
    assert fine.report == {}
    for steps in (last + 1, last + 4):
        found = hypergradient("forward", training._replace(steps=steps), weights, hyper)
        assert found.weights["w"].abs() == 1
        assert not torch.isfinite(found.gradient[name])
        assert found.report == {"exploded": last}


def test_bad_requests_are_named():
    training, hyper = tiny.training(SGD(tiny.loss), T), {**SOLVERS[SGD], **tiny.per_neuron_l2()}
    named = r"18 of l2 \(16\), learning_rate \(1\), momentum \(1\), and at most 17: use exact or drmad"
    with pytest.raises(ValueError, match=named):
        hypergradient("forward", training, tiny.weights(), hyper, most=17)
    assert hypergradient("forward", training, tiny.weights(), hyper, most=18).report == {}
    with pytest.raises(ValueError, match=r"l2 \(200\).*at most 100"):
        Forward().charge(training, tiny.weights(), {**hyper, "l2.layers.0.weight": torch.ones(190)})
    for option in ("chunk", "most"):
        with pytest.raises(ValueError, match=f"{option} 0 must be 1 or more"):
            hypergradient("forward", training, tiny.weights(), hyper, **{option: 0})
