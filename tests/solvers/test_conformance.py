"""What every solver keeps: a new entry in `solvers.SOLVERS` is tested by being there."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from solvers_tiny import HYPER, NET, REPLICATED, ROWS, STEP, made

from solvers import SOLVERS
from solvers.chain import through
from solvers.ranges import GRAINS
from solvers.solver import run
from solvers.vectors import leaves


def started(name):
    solver = made(name)
    batch = tiny.batches(ROWS, 60 if solver.whole else 20)
    return solver, solver.init(tiny.weights(), HYPER[name], batch(0)), batch


def predicted(solver, name, weights):
    """The validation loss of the weights that are read out."""
    part = tiny.part(2, 40)
    return F.cross_entropy(through(NET.get(name, tiny.chain()), solver.readout(weights), part.inputs), part.targets)


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


def test_keeps_single_precision(name):
    """Over so many steps that whatever happens only now and then has happened."""
    solver, hyper = made(name), {key: x.float() for key, x in HYPER[name].items()}
    rows = ROWS._replace(inputs=ROWS.inputs.float())
    batch = tiny.batches(rows, 60 if solver.whole else 20)
    state = solver.init({n: w.float() for n, w in tiny.weights().items()}, hyper, batch(0))
    for t in range(6):
        state = solver.step(state, hyper, batch(t))
    assert {x.dtype for x in leaves(state)} == {torch.float32}
    assert all(torch.isfinite(x).all() for x in leaves(state))


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
    """From the start: damping, for one, is read there."""
    solver, _, batch = started(name)
    h = STEP.get(name, 1e-5)

    def value(hyper):
        now = solver.init(tiny.weights(), hyper, batch(0))
        for t in range(5):
            now = solver.step(now, hyper, batch(t))
        return predicted(solver, name, now.weights)

    generator = torch.Generator().manual_seed(5)
    for key, x in HYPER[name].items():
        knob = x.clone().requires_grad_()
        slope = torch.autograd.grad(value({**HYPER[name], key: knob}), knob)[0]
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ends = [value({**HYPER[name], key: x + sign * h * direction}) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * h)
        assert torch.isclose((slope * direction).sum(), difference, rtol=1e-6, atol=1e-8), key


def test_vmap_over_replicas_equals_a_loop(name):
    solver, _, batch = started(name)
    starts = [tiny.weights(seed) for seed in range(3)]
    stacked = {n: torch.stack([w[n] for w in starts]) for n in starts[0]}
    key = REPLICATED.get(name, "learning_rate")
    values = HYPER[name][key] * tiny.tensor(0.5, 1.0, 1.5)

    def trained(weights, value):
        hyper = {**HYPER[name], key: value}
        return run(solver, solver.init(weights, hyper, batch(0)), hyper, batch, 0, 4).weights

    together = torch.vmap(trained)(stacked, values)
    for i, (weights, value) in enumerate(zip(starts, values, strict=True)):
        for n, w in trained(weights, value).items():
            torch.testing.assert_close(together[n][i], w, rtol=1e-9, atol=1e-10)


def test_heavy_ball_form_describes_the_step(name):
    """w_{t+1} − w_t = −rate·v with v = momentum·v_before + ∇L, for those that have a velocity."""
    solver, state, batch = started(name)
    hyper = HYPER[name]
    for t in range(3):
        before, state = state, solver.step(state, hyper, batch(t))
    ball = solver.heavy_ball(state, hyper, 2)
    if ball is None:
        assert name in {"dladmm", "hsic"}
        return
    for n, w in state.weights.items():
        assert ball.rate[n].shape == w.shape
        if name in VELOCITY:
            velocity = VELOCITY[name](state, ball)[n]
            torch.testing.assert_close(w - before.weights[n], -ball.rate[n] * velocity, rtol=1e-10, atol=1e-12)


VELOCITY = {
    "sgd": lambda state, ball: state.velocity,
    "adam": lambda state, ball: {n: m / (1 - ball.momentum) for n, m in state.mean.items()},
    "curveball": lambda state, ball: {n: -z / state.usual_rate for n, z in state.velocity.items()},
}


def test_between_two_states_is_a_state_like_them(name):
    solver, first, batch = started(name)
    last = run(solver, first, HYPER[name], batch, 0, 3)
    for share in (0.0, 0.4, 1.0):
        middle = solver.between(first, last, share, 3, HYPER[name], batch(1))
        assert [x.shape for x in leaves(middle)] == [x.shape for x in leaves(first)]
        for n, w in middle.weights.items():
            expected = (1 - share) * first.weights[n] + share * last.weights[n]
            torch.testing.assert_close(w, expected, rtol=1e-9, atol=1e-12)


def test_training_helps(name):
    solver, state, batch = started(name)
    trained = run(solver, state, HYPER[name], batch, 0, 60)
    assert predicted(solver, name, trained.weights) < 0.8 * predicted(solver, name, state.weights)


def test_figures_are_numbers(name):
    solver, state, batch = started(name)
    state = solver.step(state, HYPER[name], batch(0))
    for key, figure in solver.logs(state, HYPER[name], batch(0)).items():
        assert figure.shape == (), key
        assert torch.isfinite(figure), key


def test_a_missing_learning_rate_is_named(name):
    solver, state, batch = started(name)
    required = [key for key, declared in solver.hyperparameters.items() if declared.required]
    if required:
        with pytest.raises(KeyError, match=r"learning_rate.*layers\.0\.weight"):
            solver.step(state, {}, batch(0))
    else:
        assert torch.isfinite(predicted(solver, name, solver.step(state, {}, batch(0)).weights))


def test_ranges_hold_together(name):
    for key, declared in made(name).hyperparameters.items():
        assert declared.low < declared.high, key
        assert declared.low <= declared.default <= declared.high, key
        assert not declared.log or declared.low > 0, key
        assert set(declared.grains) <= set(GRAINS), key


def test_vmap_over_minibatches_alone(name):
    solver, state, batch = started(name)
    parts = [batch(0), batch(0)._replace(inputs=batch(1).inputs * 0.9)]
    inputs, targets = (torch.stack([p[i] for p in parts]) for i in (1, 2))
    together = torch.vmap(lambda x, y: solver.step(state, HYPER[name], parts[0]._replace(inputs=x, targets=y)).weights)
    found = together(inputs, targets)
    for i, part in enumerate(parts):
        alone = solver.step(state, HYPER[name], part).weights
        for n, w in alone.items():
            torch.testing.assert_close(found[n][i], w, rtol=1e-9, atol=1e-10)
