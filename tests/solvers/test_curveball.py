"""CurveBall's step against its formulae, and against the numbers of the paper's small problems."""

import math
from itertools import pairwise

import pytest
import tiny
import torch
import torch.nn.functional as F

from solvers.curveball import EVERY, FACTOR, CurveBall, minimiser
from solvers.solver import Batch, run
from solvers.vectors import flatten, leaves, unflatten

CHAIN = tiny.chain()
L2 = tiny.per_neuron_l2()
WAYS = {"automatic": None, "by hand": CHAIN}


def made(way, **options):
    return CurveBall(tiny.forward, F.cross_entropy, WAYS[way], **options)


def objective(weights, batch, hyper):
    penalties = sum((hyper[f"l2.{n}"] * w**2).sum() for n, w in weights.items() if f"l2.{n}" in hyper) / 2
    return tiny.loss(weights, {}, batch) + penalties


def matrix(weights, batch, hyper, damping):
    """G + diag r + λ `[N, N]` and the gradient `[N]`, explicitly."""
    point = flatten(weights)

    def outputs(w):
        return tiny.forward(unflatten(w, weights), batch.inputs).flatten()

    jacobian = torch.func.jacrev(outputs)(point)
    shape = (len(batch.targets), -1)
    hessian = torch.func.hessian(lambda z: F.cross_entropy(z.reshape(shape), batch.targets))(outputs(point))
    nothing = {n: torch.zeros_like(w) for n, w in weights.items()}
    strength = flatten({n: hyper.get(f"l2.{n}", x) + x for n, x in nothing.items()})
    gradient = torch.func.grad(lambda w: objective(unflatten(w, weights), batch, hyper))(point)
    return jacobian.t() @ hessian @ jacobian + torch.diag(strength + damping), gradient


@pytest.mark.parametrize("way", WAYS)
def test_step_is_the_minimiser_over_the_plane(way):
    """(ρ, β) is the best of a grid around it on the explicit model, and z and w follow from them."""
    solver, batch = made(way), tiny.batches(tiny.part(1, 60), 20)
    hyper = {**L2, "damping": tiny.tensor(0.3), "learning_rate": tiny.tensor(0.7)}
    state = run(solver, solver.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, 3)
    after = solver.step(state, hyper, batch(3))
    bent, gradient = matrix(state.weights, batch(3), hyper, state.damping)
    z = flatten(state.velocity)
    delta = bent @ z + gradient

    def model(rho, beta):
        ahead = rho * z - beta * delta
        return gradient @ ahead + ahead @ bent @ ahead / 2

    rho, beta = after.momentum, after.rate
    best = model(rho, beta)
    assert best < 0
    for a in torch.linspace(-0.5, 0.5, 11, dtype=torch.float64):
        for b in torch.linspace(-0.5, 0.5, 11, dtype=torch.float64):
            assert model(rho + a, beta + b) >= best
    torch.testing.assert_close(flatten(after.velocity), rho * z - beta * delta)
    torch.testing.assert_close(flatten(after.weights), flatten(state.weights) + 0.7 * flatten(after.velocity))


@pytest.mark.parametrize("way", WAYS)
def test_first_step_goes_down_the_gradient(way):
    solver, batch = made(way), tiny.part(1, 20)
    state = solver.init(tiny.weights(), {}, batch)
    assert state.damping == 1
    after = solver.step(state, {}, batch._replace(index=0))
    bent, gradient = matrix(state.weights, batch, {}, 1.0)
    best = gradient @ gradient / (gradient @ bent @ gradient)
    assert after.momentum == 0
    torch.testing.assert_close(after.rate, best)
    torch.testing.assert_close(flatten(after.weights), flatten(state.weights) - best * gradient)


def test_both_ways_of_linearising_train_alike():
    batch = tiny.batches(tiny.part(1, 60), 20)
    hyper = {**L2, "damping": tiny.tensor(5.0)}
    ends = [run(s, s.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, 25) for s in map(made, WAYS)]
    assert ends[0].damping != 5
    for x, y in zip(*map(leaves, ends), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10)


class Quadratic:
    """Least squares y ≈ X w: F is the model itself where λ = 0."""

    def __init__(self, dimension, rows=12):
        generator = torch.Generator().manual_seed(dimension)
        self.inputs = torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
        self.targets = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
        self.start = {"w": torch.randn(1, dimension, generator=generator, dtype=torch.float64)}

    def forward(self, weights, inputs):
        return inputs @ weights["w"].t()

    def batch(self, index):
        return Batch(index, self.inputs, self.targets)

    def value(self, state, l2=0.0):
        w = state.weights["w"]
        return F.mse_loss(self.forward(state.weights, self.inputs), self.targets) + l2 * (w**2).sum() / 2

    def trained(self, hyper, steps, **options):
        solver = CurveBall(self.forward, F.mse_loss, **options)
        hyper = {name: tiny.tensor(x) for name, x in hyper.items()}
        states = [solver.init(self.start, hyper, self.batch(0))]
        for t in range(steps):
            states.append(solver.step(states[-1], hyper, self.batch(t)))
        return states


def test_a_quadratic_goes_down_at_every_step():
    problem = Quadratic(8)
    values = [problem.value(s).item() for s in problem.trained({"damping": 0.0}, 60, adapt=False)]
    solution = torch.linalg.lstsq(problem.inputs, problem.targets).solution
    lowest = F.mse_loss(problem.inputs @ solution, problem.targets).item()
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(values))
    assert values[1] < values[0]
    assert values[-1] - lowest < 1e-5 * (values[0] - lowest)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_a_plane_is_solved_in_one_step(l2):
    """In two dimensions Δ and z span everything, from the second step on."""
    problem = Quadratic(2)
    states = problem.trained({"damping": 0.0, "l2": l2}, 2, adapt=False)
    rows = len(problem.targets)
    normal = 2 * problem.inputs.t() @ problem.inputs / rows + l2 * torch.eye(2, dtype=torch.float64)
    lowest = torch.linalg.solve(normal, 2 * problem.inputs.t() @ problem.targets / rows).t()
    assert (states[1].weights["w"] - lowest).norm() > 1e-2
    torch.testing.assert_close(states[2].weights["w"], lowest, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_model_foretells_a_quadratic(damping):
    """F(w⁺) − F(w) = M(z⁺) − ½λ|z⁺|²: γ = 1 without damping, 1 + ½λ|z⁺|²/|M| with it."""
    problem, l2 = Quadratic(6), 0.2
    before, after = problem.trained({"damping": damping, "l2": l2}, 3, adapt=False)[-2:]
    rows, z = len(problem.targets), after.velocity["w"].squeeze()
    bent = 2 * problem.inputs.t() @ problem.inputs / rows + (l2 + damping) * torch.eye(6, dtype=torch.float64)
    gradient = torch.func.grad(lambda w: problem.value(before._replace(weights={"w": w}), l2))(before.weights["w"])
    model = gradient.squeeze() @ z + z @ bent @ z / 2
    ratio = (problem.value(after, l2) - problem.value(before, l2)) / model
    torch.testing.assert_close(ratio, 1 + damping * z @ z / (2 * model.abs()))
    z = before.velocity["w"].squeeze()
    delta = bent @ z + gradient.squeeze()
    products = torch.stack([delta @ bent @ delta, delta @ bent @ z, z @ bent @ z, delta @ delta, delta @ z])
    found = minimiser(products)
    torch.testing.assert_close(found.foretold, model)
    torch.testing.assert_close((found.beta, found.rho), (after.rate, after.momentum))


def test_damping_falls_where_more_comes_than_was_foretold():
    """A heavily damped quadratic: γ is near 2. It is looked at in the steps 4, 9 … alone."""
    found = [s.damping.item() for s in Quadratic(6).trained({"damping": 100.0}, 12)]
    assert found[: EVERY + 1] == [100] * EVERY + [pytest.approx(100 * FACTOR)]
    assert found[2 * EVERY :] == [pytest.approx(100 * FACTOR**2)] * 3


def test_damping_rises_where_less_comes_than_was_foretold():
    """Twice as far as the minimum of a quadratic: nothing is gained, γ is near 0."""
    found = Quadratic(6).trained({"damping": 1e-4, "learning_rate": 2.0}, EVERY)
    assert found[-1].damping == pytest.approx(1e-4 / FACTOR)


def test_damping_stays_without_adaptation():
    found = Quadratic(6).trained({"damping": 100.0}, 6, adapt=False)
    assert found[-1].damping == 100


def test_damping_stays_where_the_model_is_right():
    found = Quadratic(6).trained({"damping": 1e-4}, 6)
    assert found[-1].damping == 1e-4


@pytest.mark.parametrize("way", WAYS)
def test_hypergradient_equals_finite_differences(way):
    """Through ρ, β and λ as they find themselves, over a change of λ."""
    solver, batch = made(way), tiny.batches(tiny.part(1, 60), 20)
    hyper = {**L2, "damping": tiny.tensor(5.0), "learning_rate": tiny.tensor(0.8)}

    def value(knobs):
        state = solver.init(tiny.weights(), knobs, batch(0))
        for t in range(EVERY + 2):
            state = solver.step(state, knobs, batch(t))
        return tiny.loss(state.weights, {}, tiny.part(2, 40)), state

    for key in hyper:  # alone: what requires grad decides what is recorded
        knob = hyper[key].clone().requires_grad_()
        loss, state = value({**hyper, key: knob})
        assert state.damping != 5
        slope = torch.autograd.grad(loss, knob)[0].flatten()
        for i in range(0, knob.numel(), 4):
            unit = torch.zeros_like(slope)
            unit[i] = 1e-5
            ends = [value({**hyper, key: hyper[key] + s * unit.reshape(knob.shape)})[0] for s in (1, -1)]
            assert torch.isclose(slope[i], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-10), key


@pytest.mark.parametrize("way", WAYS)
def test_derivative_with_respect_to_the_state(way):
    solver, batch = made(way), tiny.batches(tiny.part(1, 60), 20)
    state = run(solver, solver.init(tiny.weights(), {}, batch(0)), {}, batch, 0, 4)

    def value(weights, velocity, damping):
        now = state._replace(
            weights=unflatten(weights, state.weights), velocity=unflatten(velocity, state.weights), damping=damping
        )
        after = solver.step(now, L2, batch(4))
        return torch.stack([(flatten(x) ** 2).sum() for x in (after.weights, after.velocity)] + [after.rate])

    points = flatten(state.weights), flatten(state.velocity), state.damping
    torch.autograd.gradcheck(value, [x.clone().requires_grad_() for x in points], rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("way", WAYS)
def test_vmap_over_weights_strengths_and_damping_equals_a_loop(way):
    solver, batch = made(way), tiny.batches(tiny.part(1, 60), 20)
    starts = [tiny.weights(seed) for seed in range(3)]
    stacked = {n: torch.stack([w[n] for w in starts]) for n in starts[0]}
    factors = tiny.tensor(0.1, 1.0, 10.0)

    def trained(weights, factor):
        hyper = {n: factor * x for n, x in L2.items()} | {"damping": factor}
        return run(solver, solver.init(weights, hyper, batch(0)), hyper, batch, 0, 6)

    together = torch.vmap(trained)(stacked, factors)
    for i, (weights, factor) in enumerate(zip(starts, factors, strict=True)):
        for many, one in zip(leaves(together), leaves(trained(weights, factor)), strict=True):
            torch.testing.assert_close(many[i], one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 3])
def test_parallel_directions_and_the_solution_itself(dtype, dimension):
    """In one dimension Δ and z are always parallel; from the solution nothing moves. No derivative is NaN."""
    problem = Quadratic(dimension)
    inputs, targets = problem.inputs.to(dtype), problem.targets.to(dtype)
    solver = CurveBall(problem.forward, F.mse_loss)
    damping = torch.tensor(0.0 if dimension == 1 else 1e-3, dtype=dtype, requires_grad=True)
    lowest = torch.linalg.lstsq(inputs, targets).solution.t()
    for start in (problem.start["w"].to(dtype), lowest, torch.zeros_like(lowest)):
        y = inputs @ lowest.t() if start is lowest else targets if start.any() else torch.zeros_like(targets)
        point = start.clone().requires_grad_()
        state = solver.init({"w": point}, {"damping": damping}, problem.batch(0))
        for t in range(30):
            state = solver.step(state, {}, Batch(t, inputs, y))
        expected = lowest if start.any() else start
        torch.testing.assert_close(state.weights["w"], expected, rtol=1e-3, atol=1e-4)
        total = sum(x.sum() for x in leaves(state))
        assert all(torch.isfinite(x).all() for x in torch.autograd.grad(total, [point, damping], allow_unused=False))


def test_minimiser_of_parallel_directions():
    """z = 2Δ: β alone, and derivatives that are finite."""
    plane = tiny.tensor(2.0, 4.0, 8.0, 5.0, 10.0).requires_grad_()
    found = minimiser(plane)
    assert (found.beta, found.rho, found.foretold) == (0.5, 0, -0.25)
    assert torch.autograd.grad(found.beta, plane)[0].tolist() == [-0.25, -0.5, 0, 0.5, 0]
    nothing = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    found = minimiser(nothing)
    assert (found.beta, found.rho, found.foretold) == (0, 0, 0)
    assert torch.isfinite(torch.autograd.grad(sum(found), nothing)[0]).all()


def test_heavy_ball_is_the_recursion_where_the_hessian_is_the_gauss_newton_matrix():
    """v = −z/β of a quadratic, ρ and β held: v ← (ρ − βλ − drag·rate·(G + r)) v + ∇L, w ← w − rate·v."""
    problem, l2 = Quadratic(5), 0.2
    hyper = {"damping": tiny.tensor(0.4), "learning_rate": tiny.tensor(0.6), "l2": tiny.tensor(l2)}
    before, after = problem.trained({n: x.item() for n, x in hyper.items()}, 4, adapt=False)[-2:]
    solver = CurveBall(problem.forward, F.mse_loss, adapt=False)
    ball = solver.heavy_ball(after._replace(usual_momentum=after.momentum, usual_rate=after.rate), hyper, 3)
    bent = 2 * problem.inputs.t() @ problem.inputs / len(problem.targets) + l2 * torch.eye(5, dtype=torch.float64)
    gradient = torch.func.grad(lambda w: problem.value(before._replace(weights={"w": w}), l2))(before.weights["w"])
    velocity = -before.velocity["w"] / after.rate
    velocity = ball.momentum * velocity - ball.drag * ball.rate["w"] * (velocity @ bent) + gradient
    torch.testing.assert_close(velocity, -after.velocity["w"] / after.rate)
    torch.testing.assert_close(after.weights["w"], before.weights["w"] - ball.rate["w"] * velocity)


def test_heavy_ball_is_differentiable_in_damping_and_learning_rate():
    solver, batch = made("by hand"), tiny.batches(tiny.part(1, 60), 20)
    hyper = {"damping": tiny.tensor(5.0), "learning_rate.layers.0.weight": tiny.tensor(0.5)}
    state = run(solver, solver.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, 2 * EVERY)
    assert state.damping != 5
    knobs = {n: x.clone().requires_grad_() for n, x in hyper.items()}
    ball = solver.heavy_ball(state, knobs, 9)
    state = state._replace(momentum=state.usual_momentum, rate=state.usual_rate)
    torch.testing.assert_close(ball.momentum, state.momentum - state.rate * state.damping)
    by_damping, by_rate = torch.autograd.grad(ball.momentum + ball.rate["layers.0.weight"].sum(), list(knobs.values()))
    torch.testing.assert_close(by_damping, -state.rate * state.damping / 5)
    torch.testing.assert_close(by_rate, 30 * state.rate)
    assert torch.equal(ball.rate["layers.1.bias"], state.rate.expand(4))
    count = sum(w.numel() for w in state.weights.values())
    assert ball.drag == pytest.approx(count / (count - 15))


def test_heavy_ball_takes_a_negative_beta_for_0():
    batch = tiny.part(1, 20)
    solver = made("by hand")
    state = solver.init(tiny.weights(), {}, batch)._replace(
        usual_rate=tiny.tensor(-0.5), usual_momentum=tiny.tensor(0.9)
    )
    ball = solver.heavy_ball(state, {}, 0)
    assert not any(rate.any() for rate in ball.rate.values())
    assert ball.momentum == 0.9


def test_between_rebuilds_the_velocity_from_the_path():
    solver, batch = made("by hand"), tiny.batches(tiny.part(1, 60), 20)
    hyper = {"learning_rate": tiny.tensor(0.5)}
    first = run(solver, solver.init(tiny.weights(), hyper, batch(0)), hyper, batch, 0, 3)
    last = run(solver, first, hyper, batch, 3, 13)
    middle = solver.between(first, last, 0.25, 10, hyper, batch(5))
    for n, w in middle.weights.items():
        torch.testing.assert_close(w, 0.75 * first.weights[n] + 0.25 * last.weights[n])
        torch.testing.assert_close(first.weights[n] + 10 * 0.5 * middle.velocity[n], last.weights[n])
    torch.testing.assert_close(middle.rate, 0.75 * first.rate + 0.25 * last.rate)
    plain = solver.between(first, last, 0.25, 10, {}, batch(5))
    torch.testing.assert_close(plain.velocity["layers.0.bias"], 0.5 * middle.velocity["layers.0.bias"])


def test_logs():
    solver, batch = made("by hand"), tiny.batches(tiny.part(1, 60), 20)
    state = run(solver, solver.init(tiny.weights(), {}, batch(0)), {}, batch, 0, 7)
    found = solver.logs(state, {}, batch(7))
    assert found.keys() == {"rho", "beta", "lambda", "velocity"}
    assert (found["rho"], found["beta"], found["lambda"]) == (state.momentum, state.rate, state.damping)
    torch.testing.assert_close(found["velocity"] ** 2, (flatten(state.velocity) ** 2).sum())


def test_a_chain_with_another_stage_is_linearised_automatically():
    squared = CHAIN[0]._replace(dense=None)
    solver = CurveBall(tiny.forward, F.cross_entropy, (squared, *CHAIN[1:]))
    batch = tiny.part(1, 20)._replace(index=0)
    found = solver.step(solver.init(tiny.weights(), {}, batch), {}, batch)
    other = made("by hand").step(made("by hand").init(tiny.weights(), {}, batch), {}, batch)
    torch.testing.assert_close(found.weights, other.weights)


def test_another_criterion_is_refused():
    with pytest.raises(ValueError, match=r"curveball needs .*cross_entropy or mse_loss .*not l1_loss"):
        CurveBall(tiny.forward, F.l1_loss)


def mean_iterations(forward, damping, rate, starts, rows, most):
    """To the first loss below 1e-4; `rows()`: this iteration's (inputs, targets) of every replica."""
    solver, hyper = CurveBall(forward, F.mse_loss, adapt=False), {"learning_rate": tiny.tensor(rate)}
    empty = Batch(0, torch.empty(0), torch.empty(0))
    state = torch.vmap(lambda w: solver.init(w, {"damping": tiny.tensor(damping)}, empty))(starts)

    def iteration(state, inputs, targets):
        return F.mse_loss(forward(state.weights, inputs), targets), solver.step(state, hyper, Batch(0, inputs, targets))

    solved = torch.full((len(next(iter(starts.values()))),), 10 * most)
    for count in range(1, most + 1):
        loss, state = torch.vmap(iteration)(state, *rows())
        solved = torch.where(loss < 1e-4, solved.clamp(max=count), solved)
    return solved.double().mean()


def rosenbrock(weights, inputs):
    """Residuals whose squared sum is the Rosenbrock function with ε = `inputs`; mse_loss is a mean of two."""
    x = weights["x"]
    return math.sqrt(2) * torch.stack([10 * inputs[0] * (x[1] - x[0] ** 2), 1 - x[0]])[None]


@pytest.mark.parametrize(("noise", "published"), [(None, 13), (1.0, 12), (3.0, 13)])
def test_rosenbrock_takes_as_many_iterations_as_published(noise, published):
    generator = torch.Generator().manual_seed(0)

    def uniform():
        return torch.rand(100, 1, generator=generator, dtype=torch.float64)

    def rows():
        drawn = uniform()
        return torch.ones_like(drawn) if noise is None else noise * drawn, torch.zeros(100, 1, 2, dtype=torch.float64)

    starts = {"x": (-0.25 + (uniform() - 0.5) / 2).expand(100, 2)}
    assert abs(mean_iterations(rosenbrock, 0.1, 0.5, starts, rows, 30) - published) < 1.5


def test_the_linear_network_takes_as_many_iterations_as_published():
    """6-10-10 on y = A x; six rows with the same XᵀX/N stand for a thousand, and mse_loss is a mean of sixty."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(50, *shape, generator=generator, dtype=torch.float64)

    x = normal(1000, 6)
    true = torch.linspace(1, 1e-5, 10, dtype=torch.float64)[:, None]
    true = true * torch.rand(50, 10, 6, generator=generator, dtype=torch.float64)
    inputs = torch.linalg.cholesky(x.mT @ x / 1000).mT * math.sqrt(60)
    starts = {"first": normal(10, 6) / 8, "second": normal(10, 10) / 10}

    def forward(weights, inputs):
        return inputs @ weights["first"].T @ weights["second"].T

    assert 25 < mean_iterations(forward, 1.0, 1.0, starts, lambda: (inputs, inputs @ true.mT), 80) < 45


def test_the_usual_figures_are_means_of_the_last_steps():
    solver, batch = made("by hand"), tiny.batches(tiny.part(1, 60), 20)
    hyper = {"damping": tiny.tensor(1.0)}
    state, seen = solver.init(tiny.weights(), hyper, batch(0)), []
    for t in range(6):
        state = solver.step(state, hyper, batch(t))
        seen.append(torch.stack([state.momentum, state.rate]))
        torch.testing.assert_close(torch.stack([state.usual_momentum, state.usual_rate]), torch.stack(seen).mean(dim=0))
