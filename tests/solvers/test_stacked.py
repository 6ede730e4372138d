"""A stack of trainings goes where each of them would have gone alone: for every solver in `solvers.SOLVERS`."""

import pytest
import tiny
import torch
from solvers_tiny import HYPER, REPLICATED, ROWS, made

from solvers import SOLVERS
from solvers.sgd import SGD
from solvers.solver import Batch, run
from solvers.stacked import Stacked, replica, stack
from solvers.traced import traced
from solvers.vectors import leaves

REPLICAS = 3


@pytest.fixture(params=sorted(SOLVERS))
def name(request):
    return request.param


def stacked_values(name):
    """Weights, hyperparameters of which one differs, and the alone versions of both."""
    starts = [tiny.weights(seed) for seed in range(REPLICAS)]
    key = REPLICATED.get(name, "learning_rate")
    alone = [{**HYPER[name], key: HYPER[name][key] * factor} for factor in (0.5, 1.0, 1.5)]
    weights = {n: torch.stack([w[n] for w in starts]) for n in starts[0]}
    hyper = {n: torch.stack([h[n] for h in alone]) for n in HYPER[name]}
    return starts, alone, weights, hyper


@pytest.mark.parametrize("shared", [True, False])
def test_equals_each_training_alone(name, shared):
    solver = made(name)
    batch = tiny.batches(ROWS, 60 if solver.whole else 20)
    own = (
        [batch] * REPLICAS if shared else [lambda t, i=i: batch(t if solver.whole else t + i) for i in range(REPLICAS)]
    )
    starts, alone, weights, hyper = stacked_values(name)

    def together(t):
        if shared:
            return batch(t)
        parts = [b(t) for b in own]
        return Batch(t, torch.stack([p.inputs for p in parts]), torch.stack([p.targets for p in parts]))

    stacked = Stacked(solver, REPLICAS, shared=shared)
    final = run(stacked, stacked.init(weights, hyper, together(0)), hyper, together, 0, 4)
    for i in range(REPLICAS):
        mine = [own[i](t)._replace(index=t) for t in range(4)]
        expected = run(solver, solver.init(starts[i], alone[i], mine[0]), alone[i], mine.__getitem__, 0, 4)
        for x, y in zip(leaves(replica(final, i)), leaves(expected), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-9)


def test_is_differentiated_as_each_alone(name):
    solver = made(name)
    batch = tiny.batches(ROWS, 60 if solver.whole else 20)
    starts, alone, weights, hyper = stacked_values(name)
    stacked = Stacked(solver, REPLICAS, shared=True)

    def slopes(solver, weights, hyper):
        knobs = {key: x.clone().requires_grad_() for key, x in hyper.items()}
        state = solver.init(weights, knobs, batch(0))
        for t in range(2):
            state = solver.step(state, knobs, batch(t))
        total = sum((w * w).sum() for w in state.weights.values())
        found = torch.autograd.grad(total, list(knobs.values()), materialize_grads=True)
        return dict(zip(knobs, found, strict=True))

    together = slopes(stacked, weights, hyper)
    for i in range(REPLICAS):
        for key, slope in slopes(solver, starts[i], alone[i]).items():
            torch.testing.assert_close(together[key][i], slope, rtol=1e-6, atol=1e-8)


def test_one_that_diverges_leaves_the_others_alone():
    solver = made("sgd")
    batch = tiny.batches(ROWS, 20)
    _, _, weights, hyper = stacked_values("sgd")
    wild = {
        **hyper,
        "learning_rate": torch.stack([torch.full_like(hyper["learning_rate"][0], 1e30), *hyper["learning_rate"][1:]]),
    }
    stacked = Stacked(solver, REPLICAS, shared=True)
    usual, odd = (run(stacked, stacked.init(weights, h, batch(0)), h, batch, 0, 20) for h in (hyper, wild))
    assert not all(torch.isfinite(x).all() for x in leaves(replica(odd, 0)))
    for i in (1, 2):
        assert all(torch.equal(x, y) for x, y in zip(leaves(replica(odd, i)), leaves(replica(usual, i)), strict=True))


def test_schedules_are_read_at_the_step_that_is_taken():
    solver, batch = made("sgd"), tiny.batches(ROWS, 20)
    _, _, weights, hyper = stacked_values("sgd")
    plan = torch.tensor([0.1, 0.0, 0.05, 0.2], dtype=torch.float64)
    hyper = {key: x for key, x in hyper.items() if key != "learning_rate"} | {"learning_rate[t]": plan.expand(3, 4)}
    stacked = Stacked(solver, REPLICAS, shared=True)
    final = run(stacked, stacked.init(weights, hyper, batch(0)), hyper, batch, 0, 4)
    mine = {key: x[1] for key, x in hyper.items()}
    alone = run(solver, solver.init({n: w[1] for n, w in weights.items()}, mine, batch(0)), mine, batch, 0, 4)
    for x, y in zip(leaves(replica(final, 1)), leaves(alone), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-9)


def test_states_are_stacked_and_parted_again():
    solver, batch = made("adam"), tiny.batches(ROWS, 20)
    states = [solver.init(tiny.weights(seed), HYPER["adam"], batch(0)) for seed in range(2)]
    for i, state in enumerate(states):
        found = replica(stack(states), i)
        assert all(torch.equal(x, y) for x, y in zip(leaves(found), leaves(state), strict=True))


def test_a_trace_is_shorter_and_the_same():
    a, b = torch.rand(3, 4), torch.rand(3, 4)

    def function(a, b):
        return [(a * b).view(3, 4).transpose(0, 1).transpose(0, 1) + (a * b).expand(3, 4) * 1, a.exp()]

    found = traced(function, a, b)
    for x, y in zip(found(a, b), function(a, b), strict=True):
        assert torch.equal(x, y)
    assert found.__self__.code.count("torch.ops") == 3  # one product, one sum, one exponential


def test_what_is_written_in_place_is_not_merged():
    """Two equal tensors of which one is written are not equal afterwards; and a factor of 1 may change the type."""
    a = torch.rand(3)
    for function in (lambda a: [(a * 2).add_(1) + a * 2], lambda a: [(a > 0) * 1 + (a > -1) * 1]):
        assert torch.equal(traced(function, a)(a)[0], function(a)[0])


def test_a_function_that_looks_at_values_is_refused():
    with pytest.raises(RuntimeError):
        traced(lambda a: [a if a.sum() > 0 else -a], torch.ones(2))


def test_a_step_that_looks_at_values_is_refused():
    class Nosy(SGD):
        def step(self, state, hyper, batch):
            return state if float(batch.inputs.sum()) > 0 else super().step(state, hyper, batch)

    solver, batch = Stacked(Nosy(made("sgd").loss), 2, shared=False), ROWS
    weights = {n: torch.stack([w, w]) for n, w in tiny.weights().items()}
    rows = Batch(0, torch.stack([batch.inputs] * 2), torch.stack([batch.targets] * 2))
    hyper = {"learning_rate": torch.full((2,), 0.1, dtype=torch.float64)}
    with pytest.raises(RuntimeError):
        solver.step(solver.init(weights, hyper, rows), hyper, rows)
