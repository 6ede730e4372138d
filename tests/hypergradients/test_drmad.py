"""DrMAD: equal to the exact pass where its assumptions hold, close to it where they nearly do, and always finite."""

import math

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch.autograd.functional import hessian, jacobian

from hpo.hypergradients.curvature import curvature
from hpo.hypergradients.drmad import DrMAD
from hpo.hypergradients.krylov import subspace, sweep
from hpo.hypergradients.training import Training, hypergradient, walk
from solvers.adam import Adam
from solvers.sgd import SGD
from solvers.solver import Batch
from solvers.vectors import flatten, unflatten

HYPER = {"momentum": tiny.tensor(0.5), **tiny.per_neuron_rate(), **tiny.per_neuron_l2()}
SCHEDULE = {"learning_rate[t]": torch.linspace(0.3, 0.1, 24, dtype=torch.float64), "l2": tiny.tensor(0.02)}


def cosine(a, b, names=None):
    x, y = (torch.cat([g[n].reshape(-1) for n in (names or g)]) for g in (a, b))
    return float(torch.dot(x, y) / (x.norm() * y.norm()))


SCHEDULES = {
    f"learning_rate.{n}[t]": torch.linspace(0.3, 0.1, 24, dtype=torch.float64).reshape(24, *(1,) * w.dim())
    for n, w in tiny.weights().items()
}


@pytest.mark.parametrize("hyper", [HYPER, SCHEDULE, SCHEDULES], ids=["per neuron", "schedule", "schedule per layer"])
def test_a_knot_at_every_step_with_the_hessian_is_the_exact_pass(hyper):
    """One step a segment, full batch, the whole space: nothing is left to approximate but the momentum's velocity."""
    training = tiny.training(SGD(tiny.loss), 24, size=60)
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    options = {"knots": 25, "spacing": "time", "krylov": 6, "curvature": "hessian", "rows": 60, "clamp": None}
    found = hypergradient("drmad", training, tiny.weights(), hyper, **options).gradient
    for name in hyper:
        if name != "momentum":
            torch.testing.assert_close(
                found[name], exact[name], rtol=1e-8, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )


def quadratic(steps, rate=0.05, seed=0):
    """Linear regression, full batch: constant Hessian, positive, equal to the Gauss-Newton matrix."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.randn(4, 1, generator=generator, dtype=torch.float64)
    held = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    train = Batch(-1, inputs, targets)
    validation = Batch(-1, held, held @ torch.ones(4, 1, dtype=torch.float64))

    def forward(w, x):
        return x @ w["w"].T

    def loss(w, hyper, batch):
        return F.mse_loss(forward(w, batch.inputs), batch.targets)

    training = Training(SGD(loss), forward, F.mse_loss, lambda t: Batch(t, inputs, targets), steps, train, validation)
    weights = {"w": torch.full((1, 4), 2.0, dtype=torch.float64)}
    hyper = {"learning_rate": tiny.tensor(rate), "l2.w": torch.full((1, 4), 0.1, dtype=torch.float64)}
    return training, weights, hyper


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
def test_converges_to_the_exact_pass_on_a_quadratic_as_knots_are_added(kind):
    training, weights, hyper = quadratic(64)
    exact = hypergradient("exact", training, weights, hyper).gradient["l2.w"]
    errors = []
    options = {"spacing": "time", "krylov": 8, "curvature": kind}
    for knots in (2, 5, 17, 65):
        found = hypergradient("drmad", training, weights, hyper, knots=knots, **options).gradient
        errors.append(float((found["l2.w"] - exact).norm() / exact.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10


def test_with_a_penalty_one_segment_is_not_enough_and_a_segment_a_step_is():
    """On a quadratic the adjoint carries no error: b's sum over the steps is the exact pass's, whatever the path."""
    training, weights, hyper = quadratic(40)
    one = hypergradient("drmad", training, weights, hyper, knots=2, krylov=8).gradient["l2.w"]
    many = hypergradient("drmad", training, weights, hyper, knots=41, spacing="time", krylov=8).gradient["l2.w"]
    exact = hypergradient("exact", training, weights, hyper).gradient["l2.w"]
    torch.testing.assert_close(many, exact, rtol=1e-8, atol=1e-12)
    # the l2 term is r·w, so one segment differs by how far w is from the segment's mean: computable, not zero
    assert float((one - exact).norm() / exact.norm()) > 1e-3


def tilted(steps):
    """L = ½ wᵀAw − (c + Cλ)ᵀw: curvature and mixed derivative are constant, so the path does not matter."""
    generator = torch.Generator().manual_seed(0)
    root, mixed = (torch.randn(6, k, generator=generator, dtype=torch.float64) for k in (6, 3))
    matrix = root @ root.T / 6 + 0.1 * torch.eye(6, dtype=torch.float64)
    wanted, offset = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    rows = Batch(-1, torch.eye(6, dtype=torch.float64), wanted)

    def loss(w, hyper, batch):
        tilt = offset + mixed @ hyper["tilt"]
        return 0.5 * w["w"] @ matrix @ w["w"] - tilt @ w["w"]

    def batches(t):
        return rows._replace(index=t)

    training = Training(SGD(loss), lambda w, x: x @ w["w"], F.mse_loss, batches, steps, rows, rows)
    hyper = {
        "tilt": tiny.tensor(0.5, -1.0, 2.0),
        "learning_rate": tiny.tensor(0.1),
        "momentum": tiny.tensor(0.5),
    }
    return training, {"w": torch.ones(6, dtype=torch.float64)}, hyper


def test_the_papers_pass_of_t_steps_is_exact_where_the_path_does_not_matter():
    training, weights, hyper = tilted(40)
    exact = hypergradient("exact", training, weights, hyper).gradient["tilt"]
    errors = []
    for options in ({"steps": 40}, {"steps": 4, "stretched": True}, {"steps": 4}):
        found = hypergradient("drmad", training, weights, hyper, knots=2, **options).gradient["tilt"]
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] < 1e-12
    assert errors == sorted(errors)  # a tenth of the steps is short-sighted, less so where each goes ten times as far


def test_with_a_penalty_the_papers_pass_is_off_by_how_far_the_line_is_from_the_path():
    """Constant curvature: the adjoint b_t is exact, only the mixed derivative r·w is taken at another w."""
    steps = 40
    training, weights, hyper = quadratic(steps)
    rate, strength = hyper["learning_rate"], hyper["l2.w"]
    rows, held = training.train.inputs, training.validation
    hessian = 2 * rows.T @ rows / len(rows) + torch.diag(strength[0])
    states = [state for _, state in walk(training, weights, hyper, range(steps + 1))]
    first, last = states[0].weights["w"][0], states[-1].weights["w"][0]
    a = 2 * held.inputs.T @ (held.inputs @ last - held.targets[:, 0]) / len(held.inputs)
    off = torch.zeros_like(a)
    for t in range(steps - 1, -1, -1):
        b = -rate * a
        share = (t + 0.5) / steps
        off = off + b * ((1 - share) * first + share * last - states[t].weights["w"][0])
        a = a + hessian @ b
    exact = hypergradient("exact", training, weights, hyper).gradient["l2.w"]
    found = hypergradient("drmad", training, weights, hyper, knots=2, steps=steps).gradient["l2.w"]
    torch.testing.assert_close(found[0] - exact[0], off, rtol=1e-8, atol=1e-13)
    assert float(off.norm() / exact.norm()) > 1e-3


def test_stretched_steps_give_the_derivative_of_the_rate_itself():
    """One stretched step of a training of 4 is a step at 4 times the rate, by finite differences of that step."""
    training, weights, hyper = tilted(4)
    hyper = {**hyper, "momentum": tiny.tensor(0.0)}
    final = training.solver.init(weights, hyper, training.batches(0))  # both knots at one place: so is the line
    method = DrMAD(knots=2, steps=1, stretched=True)
    found = method.pull_back(training, hyper, {0: final, 4: final}).total["learning_rate"]
    point = weights["w"].clone().requires_grad_()
    slope = torch.autograd.grad(training.solver.loss({"w": point}, hyper, training.batches(0)), point)[0]
    f = torch.autograd.grad(training.validation_loss({"w": point}), point)[0]
    torch.testing.assert_close(found, -4 * f @ slope, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("solver", "rate"), [(SGD, 0.2), (Adam, 0.02)])
def test_points_the_way_of_the_exact_pass(solver, rate):
    training = tiny.training(solver(tiny.loss), 120)
    hyper = {"learning_rate": tiny.tensor(rate), **tiny.per_neuron_l2()}
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    found = hypergradient("drmad", training, tiny.weights(), hyper, knots=9).gradient
    assert cosine(found, exact, list(tiny.per_neuron_l2())) > (0.8 if solver is SGD else 0.5)


def test_stays_finite_where_the_chord_explodes():
    """Past the edge of stability on the chord the paper's recursion grows without bound; the clamped one cannot."""
    training, hyper = tiny.training(SGD(tiny.loss), 400), {"learning_rate": tiny.tensor(2.5), "l2": tiny.tensor(1e-3)}
    exact = hypergradient("exact", training, tiny.weights(scale=2.0), hyper).gradient["l2"]
    chord = hypergradient("drmad", training, tiny.weights(scale=2.0), hyper, knots=2, steps=400).gradient["l2"]
    found = hypergradient("drmad", training, tiny.weights(scale=2.0), hyper).gradient["l2"]
    assert not abs(chord) < 1e3 * max(1.0, float(abs(exact)))
    assert math.isfinite(found)
    assert abs(found) < 1e3


def test_the_papers_chord_is_two_knots_and_s_steps():
    training = tiny.training(SGD(tiny.loss), 100)
    method = DrMAD(knots=2, steps=10)
    assert method.charge(training, tiny.weights(), HYPER).gradient_evaluations == 4 * 10 + 40 / 20
    found = hypergradient("drmad", training, tiny.weights(), HYPER, knots=2, steps=10)
    assert all(torch.isfinite(g).all() for g in found.gradient.values())


def test_what_is_kept_and_charged_does_not_grow_with_the_steps():
    short, long = (tiny.training(SGD(tiny.loss), steps) for steps in (100, 10_000))
    method = DrMAD(knots=5, spacing="time", krylov=8, rows=40)
    assert method.charge(short, tiny.weights(), HYPER) == method.charge(long, tiny.weights(), HYPER)
    charged = method.charge(long, tiny.weights(), HYPER)
    assert charged.gradient_evaluations == pytest.approx(4 * (1 + 8 * 4 / 3) * 40 / 20 + 40 / 20)
    one = 8 * sum(w.numel() for w in tiny.weights().values())  # bytes of the weights; the velocity has as many
    assert charged.memory == 5 * 2 * one + 5 * 8 * one
    hessian = DrMAD(knots=5, krylov=8, rows=40, curvature="hessian").charge(long, tiny.weights(), HYPER)
    assert hessian.gradient_evaluations == 4 * (1 + 8 * 2) * 40 / 20 + 2
    few = method.charge(tiny.training(SGD(tiny.loss), 2), tiny.weights(), HYPER)
    assert few.memory == 3 * 2 * one + 5 * 8 * one
    looking = DrMAD(knots=5, spacing="loss", krylov=8, rows=40)
    extra = looking.charge(long, tiny.weights(), HYPER).gradient_evaluations - charged.gradient_evaluations
    assert extra == pytest.approx(33 / 3 * 40 / 20)
    assert looking.charge(short, tiny.weights(), HYPER) == looking.charge(long, tiny.weights(), HYPER)


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
def test_curvature_products_equal_the_dense_matrix(kind):
    training, weights, batch = tiny.training(SGD(tiny.loss), 5), tiny.weights(), tiny.part(4, 30)
    flat = flatten(weights)

    def outputs(v):
        return tiny.forward(unflatten(v, weights), batch.inputs)

    def value(v):
        return F.cross_entropy(outputs(v), batch.targets)

    if kind == "hessian":
        dense = hessian(value, flat)
    else:
        slopes = jacobian(outputs, flat).reshape(-1, flat.numel())
        tips = outputs(flat)
        inner = hessian(lambda z: F.cross_entropy(z, batch.targets), tips).reshape(tips.numel(), -1)
        dense = slopes.T @ inner @ slopes
    product = curvature(kind, training, weights, batch)
    x = torch.randn(flat.numel(), generator=torch.Generator().manual_seed(0), dtype=flat.dtype)
    torch.testing.assert_close(product(x), dense @ x, rtol=1e-10, atol=1e-12)


def test_the_sweep_is_the_recursion():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix = root @ root.T
    matrix = matrix / torch.linalg.eigvalsh(matrix)[-1]
    x, y = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    space = subspace(lambda v: matrix @ v, [x, y], 7)
    found = sweep(space, x, y, tiny.tensor(0.6), 50, 1.9)
    sum_x, sum_y = torch.zeros(7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    for _ in range(50):
        y = y - x
        sum_x, sum_y = sum_x + x, sum_y + y
        x = x + matrix @ y
        y = 0.6 * y
    for ours, theirs in zip(found, (x, y, sum_x, sum_y), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_a_space_that_closes_costs_fewer_products():
    calls = []

    def product(v):
        calls.append(1)
        return 2 * v

    space = subspace(product, [torch.ones(50), torch.zeros(50)], 16)
    assert len(calls) == 1
    assert space.values.tolist() == pytest.approx([2.0], rel=1e-6)
    assert subspace(product, [torch.zeros(50)], 4).vectors.shape == (50, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knots": 1}, "knots 1 must be 2 or more"),
        ({"krylov": 1}, "krylov 1 must be 2 or more"),
        ({"curvature": "fisher"}, "'fisher' must be one of gauss-newton, hessian"),
        ({"rows": 0}, "rows 0 must be 1 or more"),
        ({"clamp": 2.0}, r"clamp 2\.0 must lie between 0 and 2"),
        ({"steps": 0}, "steps 0 must be 1 or more"),
        ({"spacing": "even"}, "spacing 'even' must be one of late, time, arc, loss"),
        ({"stretched": True}, "stretched needs steps"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DrMAD(**options)


def test_a_segment_is_the_plain_recursion_with_constant_curvature_and_velocity():
    """Every derivative of one segment, momentum and schedule included, against the loop the paper's recursion is."""
    steps, momentum = 7, 0.4
    training, weights, _ = quadratic(steps)
    hyper = {
        "learning_rate[t]": torch.linspace(0.02, 0.05, steps, dtype=torch.float64),
        "momentum": tiny.tensor(momentum),
        "l2.w": torch.full((1, 4), 0.3, dtype=torch.float64),
    }
    first = training.solver.init(weights, hyper, training.batches(0))
    last = first._replace(weights={"w": weights["w"] + tiny.tensor(0.3, -0.2, 0.1, 0.5)})
    found = DrMAD(knots=2, krylov=8, clamp=None).pull_back(training, hyper, {0: first, steps: last}).total

    rate = hyper["learning_rate[t]"].mean()
    rows = training.train.inputs
    hessian = 2 * rows.T @ rows / len(rows) + 0.3 * torch.eye(4, dtype=torch.float64)
    velocity = (weights["w"] - last.weights["w"])[0] / (steps * rate)  # w moves by −rate·v a step
    middle = weights["w"][0] + (steps - 1) / (2 * steps) * (last.weights["w"] - weights["w"])[0]
    point = last.weights["w"].clone().requires_grad_()
    a = torch.autograd.grad(training.validation_loss({"w": point}), point)[0][0]
    b, rate_bar, momentum_bar, l2_bar = torch.zeros_like(a), 0.0, 0.0, torch.zeros_like(a)
    for _ in range(steps):
        rate_bar = rate_bar - a @ velocity
        b = b - rate * a
        momentum_bar = momentum_bar + b @ velocity
        l2_bar = l2_bar + b * middle
        a = a + hessian @ b
        b = momentum * b
    torch.testing.assert_close(found["l2.w"][0], l2_bar, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["momentum"], momentum_bar, rtol=1e-9, atol=1e-12)
    schedule = (rate_bar / steps).expand(steps)
    torch.testing.assert_close(found["learning_rate[t]"], schedule, rtol=1e-9, atol=1e-12)


def test_adams_segments_use_the_second_moment_after_the_step():
    """A knot at every step: the first segment starts where the second moment is zero, and must not explode."""
    training = tiny.training(Adam(tiny.loss), 24, size=60)
    hyper = {"learning_rate": tiny.tensor(0.02), **tiny.per_neuron_l2()}
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    options = {"knots": 25, "spacing": "time", "krylov": 6, "curvature": "hessian", "clamp": None, "rows": 60}
    found = hypergradient("drmad", training, tiny.weights(), hyper, **options).gradient
    names = list(tiny.per_neuron_l2())
    sizes = [torch.cat([g[n].reshape(-1) for n in names]).norm() for g in (found, exact)]
    assert 0.3 < float(sizes[0] / sizes[1]) < 3
    assert cosine(found, exact, names) > 0.8


def test_every_segment_sees_rows_of_its_own_while_there_are_any():
    training = tiny.training(SGD(tiny.loss), 40)
    method = DrMAD(knots=4, rows=20)
    seen = [method._batch(training, segment).inputs for segment in (1, 2, 3)]
    assert torch.equal(torch.cat(seen), training.train.inputs)
    wrapped = method._batch(training, 4)
    assert torch.equal(wrapped.inputs, training.train.inputs[:20])
    assert torch.equal(wrapped.targets, training.train.targets[:20])
    assert torch.equal(DrMAD(rows=50)._batch(training, 2).targets[10:], training.train.targets[:40])


def test_the_paper_takes_its_states_from_the_line_between_knots():
    """A solver that writes down where it was asked to be: the middle of each of the S pieces of the path."""
    places = []

    class Watched(SGD):
        def step(self, state, hyper, batch):
            places.append((batch.index, state.weights["layers.0.bias"].detach()[0].item()))
            return super().step(state, hyper, batch)

    training = tiny.training(Watched(tiny.loss), 8)
    knots = {}
    for step, value in [(0, 0.0), (4, 4.0), (8, 16.0)]:
        weights = {**tiny.weights(), "layers.0.bias": torch.full((5,), value, dtype=torch.float64)}
        knots[step] = training.solver.init(weights, {}, training.batches(0))
    DrMAD(knots=3, spacing="time", steps=4).pull_back(training, HYPER, knots)
    assert places == [(3, 13.0), (2, 7.0), (1, 3.0), (0, 1.0)]


def test_what_is_not_finite_stays_visible():
    training, weights, hyper = quadratic(8)
    spoilt = training.validation._replace(inputs=training.validation.inputs * math.nan)
    found = hypergradient("drmad", training._replace(validation=spoilt), weights, hyper).gradient
    assert torch.isnan(found["l2.w"]).all()


def test_adams_betas_and_uncovered_schedules_are_refused_by_name():
    training = tiny.training(Adam(tiny.loss), 5)
    hyper = {"learning_rate": tiny.tensor(0.1), "beta1": tiny.tensor(0.9), "beta2": tiny.tensor(0.99)}
    with pytest.raises(ValueError, match="drmad cannot differentiate beta1, beta2: use exact"):
        hypergradient("drmad", training, tiny.weights(), hyper)
    schedule = {"learning_rate[t]": torch.full((5,), 0.1, dtype=torch.float64)}
    with pytest.raises(ValueError, match="a pass of 6 steps does not see all 5 values of learning_rate"):
        hypergradient("drmad", training, tiny.weights(), schedule, knots=2, steps=6)
