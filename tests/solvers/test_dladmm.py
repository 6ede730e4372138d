"""dlADMM as a whole: the Lagrangian falls, the multiplier is known, the hypergradient is exact."""

from functools import partial

import pytest
import tiny
import torch
import torch.nn.functional as F

from hpo.hypergradients.training import Training, hypergradient
from solvers.chain import Stage, dense, through
from solvers.dladmm import DLADMM
from solvers.lagrangian import lagrangian, residuals
from solvers.solver import Batch, run
from solvers.vectors import leaves, rebuild

MATRICES = [f"layers.{i}.weight" for i in range(3)]
BLOCKS = ["exact", "line-search", "paper"]


def chain(activation="relu"):
    kinds = (activation, activation, "identity")
    return tuple(dense(f"layers.{i}.weight", f"layers.{i}.bias", kind) for i, kind in enumerate(kinds))


def whole(index=0, rows=40):
    return tiny.part(1, rows)._replace(index=index)


def hyper(nu=0.3, rho=0.5, **more):
    return {"nu": tiny.tensor(nu), "rho": tiny.tensor(rho), **tiny.per_neuron_l2(), **more}


def started(activation="relu", knobs=None, criterion=F.cross_entropy, **options):
    solver, knobs = DLADMM(chain(activation), criterion, **options), knobs or hyper()
    return solver, solver.init(tiny.weights(), knobs, whole()), knobs


def anywhere(state, seed):
    """A state with nothing of the method's own order in it."""
    generator = torch.Generator().manual_seed(seed)
    found = rebuild(state, [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in leaves(state)])
    return found._replace(gram=state.gram)


def trained(solver, state, knobs, steps):
    return run(solver, state, knobs, whole, 0, steps)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("penalised", ["nothing", "neurons", "weights and biases"])
def test_no_block_raises_the_lagrangian(block, activation, penalised):
    knobs = {"nu": tiny.tensor(0.3), "rho": tiny.tensor(0.5)}
    if penalised == "neurons":
        knobs = hyper(**{"l2.layers.1.weight": tiny.tensor(1e-6, 1.0, 1e-2, 10.0, 0.1)})
    if penalised == "weights and biases":
        knobs |= {f"l2.{name}": 0.1 + 0 * w for name, w in tiny.weights().items()}
    solver, start, knobs = started(activation, knobs, block=block)
    fell = set()
    for seed in range(3):
        sweep = solver.sweep(anywhere(start, seed), knobs, whole())
        order = [(name, k) for k in (2, 1, 0) for name in "azbw"] + [(name, k) for k in range(3) for name in "wbza"]
        last = lagrangian(solver.layers, solver.output, sweep.state, knobs, whole())
        for name, k in order:
            if (name, k) == ("a", 2):
                continue
            getattr(sweep, f"update_{name}")(k)
            now = lagrangian(solver.layers, solver.output, sweep.state, knobs, whole())
            assert now <= last + 1e-12 * last.abs(), (name, k)
            fell |= {(name, k)} if now < last - 1e-3 * last.abs() else set()
            last = now
    assert len(fell) >= 8


def test_exact_blocks_are_where_the_lagrangian_is_flat():
    solver, start, knobs = started("leaky_relu")
    sweep = solver.sweep(anywhere(start, 0), knobs, whole())
    for name, k in [("z", 2), ("b", 2), ("w", 2), ("a", 1), ("z", 1), ("b", 0), ("w", 0)]:
        for _ in range(3):  # the floor's pull
            getattr(sweep, f"update_{name}")(k)
        state = sweep.state
        points = [x.clone().requires_grad_() for x in leaves(state)]
        value = lagrangian(solver.layers, solver.output, rebuild(state, points), knobs, whole())
        slopes = rebuild(state, torch.autograd.grad(value, points, materialize_grads=True))
        found = {
            "w": slopes.weights[MATRICES[k]],
            "b": slopes.weights[f"layers.{k}.bias"],
            "z": slopes.z[MATRICES[k]] * (state.z[MATRICES[k]] != 0),  # there it has a kink
            "a": slopes.a.get(MATRICES[k]),
        }[name]
        assert found.abs().max() < 1e-9, (name, k)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("criterion", [F.cross_entropy, F.mse_loss])
def test_the_multiplier_is_minus_the_slope_of_the_loss(block, criterion):
    solver, state, knobs = started(block=block, criterion=criterion)
    batch = whole()
    if criterion is F.mse_loss:
        batch = batch._replace(targets=F.one_hot(batch.targets, 3).double())
    assert solver.logs(state, knobs, batch)["multiplier"] > 1e-2
    for t in range(3):
        state = solver.step(state, knobs, batch._replace(index=t))
        assert solver.logs(state, knobs, batch)["multiplier"] < 1e-12


@pytest.mark.parametrize("block", BLOCKS)
def test_the_lagrangian_falls_at_every_step_above_rho_1(block):
    solver, state, knobs = started(knobs=hyper(nu=0.5, rho=1.2), block=block)
    steps = []
    for t in range(50):
        before, state = state, solver.step(state, knobs, whole(t))
        change = solver.change(before, state, knobs, whole(t))
        assert change["monotone"] == 1
        assert change["descent"] > 0
        assert change["movement.layers.1.weight"] > 0
        steps.append(change["step"].item())
    assert min(steps[25:]) < 0.1 * steps[1]
    assert solver.change(state, before, knobs, whole())["monotone"] == 0


def test_a_large_nu_makes_the_network_consistent():
    worst = []
    for nu in (1.0, 1e3, 1e6):
        solver, state, knobs = started(knobs={"nu": tiny.tensor(nu), "rho": tiny.tensor(1.0)})
        state = trained(solver, state, knobs, 20)
        equations, activations = residuals(solver.layers, state, whole())
        worst.append(max(x.abs().max().item() for x in [*equations[:-1], *activations]))
    assert worst[0] > 10 * worst[1] > 100 * worst[2]
    assert worst[2] < 1e-3
    outputs = through(chain(), state.weights, whole().inputs)
    assert (state.z[MATRICES[2]] - equations[-1] - outputs).abs().max() < 1e-2


@pytest.mark.parametrize("block", BLOCKS)
def test_hypergradient_equals_finite_differences(block):
    solver, _, knobs = started("leaky_relu", block=block)
    knobs |= {"initial_scale": tiny.tensor(1.05)}

    def value(knobs):
        state = solver.init(tiny.weights(), knobs, whole())
        for t in range(5):
            state = solver.step(state, knobs, whole(t))
        return F.cross_entropy(through(chain("leaky_relu"), state.weights, whole().inputs), whole().targets)

    for key, x in knobs.items():
        knob = x.clone().requires_grad_()
        slope = torch.autograd.grad(value({**knobs, key: knob}), knob)[0]
        direction = slope / slope.norm()
        ends = [value({**knobs, key: x + sign * 1e-6 * direction}).item() for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope.norm().item(), rel=1e-6), key


def test_derivatives_go_forward_by_a_second_pass():
    """J v by double backward, which is how tangents are taken, equals a finite difference."""
    solver, state, knobs = started()
    point = knobs["rho"].clone().requires_grad_()
    outputs = leaves(solver.step(state, {**knobs, "rho": point}, whole()))[:-1]  # not the Gram matrix
    dual = [torch.ones_like(x).requires_grad_() for x in outputs]
    (slope,) = torch.autograd.grad(outputs, point, dual, create_graph=True)
    tangents = torch.autograd.grad(slope, dual)
    ends = [leaves(solver.step(state, {**knobs, "rho": knobs["rho"] + e}, whole()))[:-1] for e in (1e-6, -1e-6)]
    for tangent, high, low in zip(tangents, *ends, strict=True):
        torch.testing.assert_close(tangent, (high - low) / 2e-6, rtol=1e-5, atol=1e-7)


def test_a_huge_penalty_takes_the_weights_to_zero():
    for shape in ((), (1, 6), (5, 1), (5, 6)):
        for block in BLOCKS:
            knobs = hyper(**{"l2.layers.0.weight": torch.full(shape, 1e9, dtype=torch.float64)})
            solver, state, knobs = started(knobs=knobs, block=block)
            state = trained(solver, state, knobs, 2)
            assert state.weights[MATRICES[0]].abs().max() < 1e-6, (shape, block)
            assert state.weights[MATRICES[1]].abs().max() > 1e-3


@pytest.mark.parametrize("r", [0.0, 0.3])
def test_a_single_layer_is_ridge_regression(r):
    inputs, targets = whole().inputs, torch.randn(40, 2, generator=torch.Generator().manual_seed(3)).double()
    batch = Batch(0, inputs, targets)
    solver = DLADMM((dense("w", "b"),), F.mse_loss)
    knobs = {"rho": tiny.tensor(1.0), "l2": tiny.tensor(r)}
    start = {"w": torch.zeros(2, 6, dtype=torch.float64), "b": torch.zeros(2, dtype=torch.float64)}
    state = run(solver, solver.init(start, knobs, batch), knobs, lambda t: batch, 0, 300)
    centred = inputs - inputs.mean(dim=0)
    ridge = len(inputs) * 2 / 2 * r * torch.eye(6)  # N D/2 · r: the loss is a mean over N·D entries
    best = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ targets).T
    torch.testing.assert_close(state.weights["w"], best, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(state.weights["b"], (targets - inputs @ best.T).mean(dim=0), rtol=1e-8, atol=1e-8)


def test_regression_with_a_hidden_layer_learns():
    batch = whole(rows=60)
    batch = batch._replace(targets=batch.inputs[:, :2].abs())
    generator = torch.Generator().manual_seed(0)
    start = {n: torch.randn(s, generator=generator).double() / 2 for n, s in (("in", (30, 6)), ("out", (2, 30)))}
    stages = (dense("in", None, "relu"), dense("out", None))
    solver = DLADMM(stages, F.mse_loss)
    state = run(solver, solver.init(start, {}, batch), {}, lambda t: batch, 0, 30)
    assert F.mse_loss(through(stages, state.weights, batch.inputs), batch.targets) < 0.25 * batch.targets.var()


@pytest.mark.parametrize("block", BLOCKS)
def test_learns_a_classification(block):
    solver, state, knobs = started(knobs={"nu": tiny.tensor(0.1), "rho": tiny.tensor(0.1)}, block=block)
    first = F.cross_entropy(through(chain(), state.weights, whole().inputs), whole().targets)
    state = trained(solver, state, knobs, 40)
    assert F.cross_entropy(through(chain(), state.weights, whole().inputs), whole().targets) < 0.5 * first


def test_nu_and_rho_have_values_of_their_own():
    solver, state, _ = started()
    default = solver.hyperparameters["nu"].default
    one = solver.step(state, {}, whole())
    two = solver.step(state, {"nu": tiny.tensor(default), "rho": tiny.tensor(default)}, whole())
    assert all(torch.equal(x, y) for x, y in zip(leaves(one), leaves(two), strict=True))
    schedule = solver.step(state, {"rho[t]": tiny.tensor(9.0, default)}, whole(1))
    assert all(torch.equal(x, y) for x, y in zip(leaves(one), leaves(schedule), strict=True))


def test_vmap_over_replicas_equals_a_loop():
    solver, _, knobs = started("leaky_relu")
    starts = [tiny.weights(seed) for seed in range(3)]
    rhos, batch = tiny.tensor(0.01, 0.5, 2.0), whole()

    def last(weights, rho):
        local = {**knobs, "rho": rho}
        return run(solver, solver.init(weights, local, batch), local, lambda t: batch._replace(index=t), 0, 3)

    together = torch.vmap(last)({n: torch.stack([w[n] for w in starts]) for n in starts[0]}, rhos)
    for i, (weights, rho) in enumerate(zip(starts, rhos, strict=True)):
        for x, y in zip(leaves(together), leaves(last(weights, rho)), strict=True):
            torch.testing.assert_close(x[i], y, rtol=1e-9, atol=1e-9)


def test_drmad_is_close_to_exact():
    """Along the line through all leaves. A state made anew from the weights on it, a = f(z) and u = −∇R, is far from
    where sweeps are, and its derivatives grow from step to step.
    """
    solver, _, knobs = started("leaky_relu")
    training = Training(solver, partial(through, chain("leaky_relu")), F.cross_entropy, whole, 6, whole(), whole())
    exact, drmad = (hypergradient(name, training, tiny.weights(), knobs) for name in ("exact", "drmad"))
    for key in ("l2.layers.0.weight", "l2.layers.1.weight", "l2.layers.2.weight"):
        assert F.cosine_similarity(exact.gradient[key], drmad.gradient[key]) > 0.9, key
    assert 0.7 < drmad.gradient["rho"] / exact.gradient["rho"] < 1.4


def test_logs_are_the_lagrangian_and_its_residuals():
    solver, state, knobs = started()
    state = trained(solver, state, knobs, 2)
    figures = solver.logs(state, knobs, whole())
    equations, activations = residuals(solver.layers, state, whole())
    assert figures["residual"] == figures[f"equation.{MATRICES[2]}"] == equations[2].norm()
    assert figures[f"activation.{MATRICES[0]}"] == activations[0].norm() > 1e-3
    value = F.cross_entropy(state.z[MATRICES[2]], whole().targets, reduction="sum")
    value += sum(20 * (knobs[f"l2.{name}"] * state.weights[name] ** 2).sum() for name in MATRICES)  # N/2 = 20
    value += 0.15 * sum((x**2).sum() for x in [*equations[:2], *activations])
    value += (state.u * equations[2]).sum() + 0.25 * (equations[2] ** 2).sum()
    torch.testing.assert_close(figures["lagrangian"], value)


def test_figures_are_summed_in_double_precision():
    solver = DLADMM(chain(), F.cross_entropy)
    single = {name: w.float() for name, w in tiny.weights().items()}
    batch = whole()._replace(inputs=whole().inputs.float())
    state = solver.step(solver.init(single, {}, batch), {}, batch)
    assert solver.logs(state, {}, batch)["lagrangian"].dtype == torch.float64
    assert all(x.dtype == torch.float32 for x in leaves(state))


def test_layers_without_bias_and_images():
    stages = (dense("one", None, "relu"), dense("two", None))
    weights = {"one": tiny.weights()["layers.0.weight"], "two": tiny.weights()["layers.1.weight"]}
    flat = whole()
    images = flat._replace(inputs=flat.inputs.reshape(40, 1, 2, 3))
    solver = DLADMM(stages, F.cross_entropy)
    one, two = (solver.step(solver.init(weights, {}, batch), {}, batch) for batch in (flat, images))
    assert torch.equal(one.weights["one"], two.weights["one"])
    assert not torch.equal(one.weights["one"], weights["one"])


def test_wide_layers_are_not_solved():
    """By `auto`, W of 1,600 inputs goes a step; a, between 4 and 3 units, is solved."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(0, torch.randn(5, 1600, generator=generator), torch.arange(5) % 3)
    weights = {"one": torch.randn(4, 1600, generator=generator) / 40, "two": torch.randn(3, 4, generator=generator)}
    stages = (dense("one", None, "relu"), dense("two", None))
    auto, line = (DLADMM(stages, F.cross_entropy, block=block) for block in ("auto", "line-search"))
    sweeps = [solver.sweep(solver.init(weights, {}, batch), {}, batch) for solver in (auto, line)]
    for sweep in sweeps:
        sweep.z = [z + torch.arange(5).unsqueeze(1) for z in sweep.z]
        sweep.update_w(0)
    assert torch.equal(sweeps[0].weights["one"], sweeps[1].weights["one"])
    for sweep in sweeps:
        sweep.update_a(0)
    assert not torch.allclose(sweeps[0].inputs[1], sweeps[1].inputs[1])


def test_what_it_cannot_train_is_refused():
    with pytest.raises(ValueError, match=r"dladmm.*layers\.0\.weight.*activation tanh.*use relu or leaky_relu"):
        DLADMM(chain("tanh"), F.cross_entropy)
    with pytest.raises(ValueError, match=r"dladmm.*linear last layer.*w has activation relu"):
        DLADMM((dense("w", None, "relu"),), F.cross_entropy)
    with pytest.raises(ValueError, match=r"dladmm.*share their weights"):
        DLADMM((dense("w", None, "relu"), dense("w", None)), F.cross_entropy)
    with pytest.raises(ValueError, match=r"dladmm.*fully connected.*kernel"):
        DLADMM((Stage(("kernel",), lambda w, x: x), dense("w", None)), F.cross_entropy)
    with pytest.raises(ValueError, match=r"dladmm.*cross_entropy or mse_loss.*not l1_loss"):
        DLADMM(chain(), F.l1_loss)
    with pytest.raises(ValueError, match=r"block 'newton' must be one of auto, exact, line-search, paper"):
        DLADMM(chain(), F.cross_entropy, block="newton")


def test_other_rows_are_refused():
    solver, state, knobs = started()
    with pytest.raises(ValueError, match=r"step 0.*40 rows and was given 10.*all training rows"):
        solver.step(state, knobs, whole(rows=10))


def test_arguments_are_untouched_and_no_graph_grows():
    solver, state, knobs = started()
    before = [x.clone() for x in [*leaves(state), *knobs.values()]]
    after = solver.step(state, knobs, whole())
    assert all(torch.equal(x, y) for x, y in zip(before, [*leaves(state), *knobs.values()], strict=True))
    assert not any(x.requires_grad for x in leaves(after))
