"""What every solver keeps: a new entry in `solvers.SOLVERS` is tested by being there."""

import pytest
import tiny
import torch

from hpo.registry import resolve
from solvers import SOLVERS
from solvers.ranges import GRAINS
from solvers.solver import run
from solvers.vectors import leaves

HYPER = {
    "sgd": {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.5), **tiny.per_neuron_l2()},
    "adam": {
        "learning_rate": tiny.tensor(0.02),
        "beta1": tiny.tensor(0.8),
        "beta2": tiny.tensor(0.95),
        **tiny.per_neuron_l2(),
    },
}


def made(name):
    return resolve(SOLVERS[name])(tiny.loss)


def started(name):
    solver, batch = made(name), tiny.batches(tiny.part(1, 60), 20)
    return solver, solver.init(tiny.weights(), HYPER[name], batch(0)), batch


@pytest.fixture(params=sorted(SOLVERS))
def name(request):
    return request.param


def test_every_solver_has_hyperparameters_to_test_it_with():
    assert set(HYPER) == set(SOLVERS)


def test_arguments_are_untouched(name):
    solver, state, batch = started(name)
    hyper = HYPER[name]
    before = [x.clone() for x in [*leaves(state), *hyper.values(), batch(0).inputs]]
    solver.step(state, hyper, batch(0))
    after = [*leaves(state), *hyper.values(), batch(0).inputs]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_repeats_itself_and_keeps_structure(name):
    solver, state, batch = started(name)
    one, two = (solver.step(state, HYPER[name], batch(0)) for _ in range(2))
    assert type(one) is type(state)
    for x, y, z in zip(leaves(one), leaves(two), leaves(state), strict=True):
        assert torch.equal(x, y)
        assert (x.shape, x.dtype) == (z.shape, z.dtype)
    assert not torch.equal(one.weights[tiny.NAMES[0]], state.weights[tiny.NAMES[0]])


def test_ignores_the_global_generator(name):
    solver, state, batch = started(name)
    torch.manual_seed(1)
    one = solver.step(state, HYPER[name], batch(0))
    torch.manual_seed(2)
    two = solver.step(state, HYPER[name], batch(0))
    assert all(torch.equal(x, y) for x, y in zip(leaves(one), leaves(two), strict=True))


def test_same_values_with_and_without_a_graph(name):
    solver, state, batch = started(name)
    with torch.no_grad():
        plain = leaves(solver.step(state, HYPER[name], batch(3)))
    knobs = {n: x.clone().requires_grad_() for n, x in HYPER[name].items()}
    recorded = leaves(solver.step(state, knobs, batch(3)))
    assert all(torch.equal(x, y) for x, y in zip(plain, recorded, strict=True))
    assert not any(x.requires_grad for x in plain)
    assert any(x.requires_grad for x in recorded)


def test_no_graph_grows_when_nothing_requires_grad(name):
    solver, state, batch = started(name)
    for t in range(3):
        state = solver.step(state, HYPER[name], batch(t))
    assert not any(x.requires_grad for x in leaves(state))


def test_reverse_mode_equals_finite_differences(name):
    solver, state, batch = started(name)

    def value(hyper):
        now = state
        for t in range(8):
            now = solver.step(now, hyper, batch(t))
        return tiny.loss(now.weights, hyper, tiny.part(2, 40))

    generator = torch.Generator().manual_seed(5)
    for key, x in HYPER[name].items():
        knob = x.clone().requires_grad_()
        slope = torch.autograd.grad(value({**HYPER[name], key: knob}), knob)[0]
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ends = [value({**HYPER[name], key: x + sign * 1e-5 * direction}) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / 2e-5
        assert torch.isclose((slope * direction).sum(), difference, rtol=1e-6, atol=1e-8), key


def test_vmap_over_replicas_equals_a_loop(name):
    solver, _, batch = started(name)
    starts = [tiny.weights(seed) for seed in range(3)]
    stacked = {n: torch.stack([w[n] for w in starts]) for n in starts[0]}
    rates = HYPER[name]["learning_rate"] * tiny.tensor(0.5, 1.0, 1.5)

    def trained(weights, rate):
        hyper = {**HYPER[name], "learning_rate": rate}
        return run(solver, solver.init(weights, hyper, batch(0)), hyper, batch, 0, 4).weights

    together = torch.vmap(trained)(stacked, rates)
    for i, (weights, rate) in enumerate(zip(starts, rates, strict=True)):
        for n, w in trained(weights, rate).items():
            torch.testing.assert_close(together[n][i], w, rtol=1e-12, atol=1e-12)


def test_heavy_ball_form_describes_the_step(name):
    """w_{t+1} − w_t = −rate·v with v = momentum·v_before + ∇L: for Adam v is the first moment over 1 − β₁."""
    solver, state, batch = started(name)
    hyper = HYPER[name]
    for t in range(3):
        before, state = state, solver.step(state, hyper, batch(t))
    ball = solver.heavy_ball(state, hyper, 2)
    for n, w in state.weights.items():
        assert ball.rate[n].shape == w.shape
        velocity = state.velocity[n] if name == "sgd" else state.mean[n] / (1 - ball.momentum)
        torch.testing.assert_close(w - before.weights[n], -ball.rate[n] * velocity, rtol=1e-10, atol=1e-12)


def test_a_missing_learning_rate_is_named(name):
    solver, state, batch = started(name)
    with pytest.raises(KeyError, match=r"learning_rate.*layers\.0\.weight"):
        solver.step(state, {}, batch(0))


def test_ranges_hold_together(name):
    for key, declared in made(name).hyperparameters.items():
        assert declared.low < declared.high, key
        assert declared.low <= declared.default <= declared.high, key
        assert not declared.log or declared.low > 0, key
        assert set(declared.grains) <= set(GRAINS), key


def test_vmap_over_minibatches_alone(name):
    solver, state, batch = started(name)
    parts = [batch(0), batch(1)]
    inputs, targets = (torch.stack([p[i] for p in parts]) for i in (1, 2))
    together = torch.vmap(lambda x, y: solver.step(state, HYPER[name], parts[0]._replace(inputs=x, targets=y)).weights)
    found = together(inputs, targets)
    for i, part in enumerate(parts):
        alone = solver.step(state, HYPER[name], part._replace(index=0)).weights
        for n, w in alone.items():
            torch.testing.assert_close(found[n][i], w, rtol=1e-12, atol=1e-12)
