"""Values that move while a training runs: each derivative against matrices, the moves against torch's Adam."""

import math

import pytest
import tiny
import torch

from hpo.hypergradients.online import Online
from hpo.hypergradients.training import Training, conclude, hypergradient, train
from solvers.adam import Adam
from solvers.ranges import Range
from solvers.sgd import SGD
from solvers.solver import run

SGD_HYPER = {"momentum": tiny.tensor(0.5), **tiny.per_neuron_rate(0.05), **tiny.per_neuron_l2()}
ADAM_HYPER = {"beta1": tiny.tensor(0.7), "learning_rate": tiny.tensor(0.01), **tiny.per_neuron_l2()}


class Quadratic:
    """½ w'Aw − b'w for the training, mean (Xw − y)² for the validation; weights `[1, 6]`, so that l2 touches them."""

    size = 6
    hyper = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.6), "l2": tiny.tensor(0.1)}

    def __init__(self):
        generator = torch.Generator().manual_seed(4)
        root, self.b = torch.randn(6, 6, generator=generator).double(), torch.randn(6, generator=generator).double()
        self.A = root @ root.T / 6 + 0.3 * torch.eye(6).double()
        self.validation = tiny.part(2, 40)
        self.validation = self.validation._replace(targets=self.validation.inputs.sum(dim=1))

    def training(self, steps):
        def loss(weights, hyper, batch):
            w = weights["w"][0]
            return 0.5 * w @ self.A @ w - self.b @ w

        def forward(weights, inputs):
            return inputs @ weights["w"][0]

        def criterion(outputs, targets):
            return ((outputs - targets) ** 2).mean()

        part = self.validation
        return Training(
            SGD(loss), forward, criterion, lambda t: part._replace(index=t), steps, part._replace(index=-1), part
        )

    def slope(self, w):
        X, y = self.validation.inputs, self.validation.targets
        return 2 * X.T @ (X @ w - y) / len(y)

    def sum(self, w, v, terms):
        """Σ_j Bᵀ (Mᵀ)ʲ ∇f by dense matrices, at the state (w, v) that the last step started from."""
        rate, momentum, strength = (float(self.hyper[n]) for n in ("learning_rate", "momentum", "l2"))
        one, H = torch.eye(6).double(), self.A + strength * torch.eye(6).double()
        after = momentum * v + H @ w - self.b
        M = torch.cat(
            [torch.cat([one - rate * H, -rate * momentum * one], dim=1), torch.cat([H, momentum * one], dim=1)]
        )
        zero = torch.zeros(6).double()
        B = {
            "learning_rate": torch.cat([-after, zero]),
            "momentum": torch.cat([-rate * v, v]),
            "l2": torch.cat([-rate * w, w]),
        }
        adjoint = torch.cat([self.slope(w - rate * after), zero])
        total = dict.fromkeys(B, 0.0)
        for _ in range(terms):
            total = {n: total[n] + float(b @ adjoint) for n, b in B.items()}
            adjoint = M.T @ adjoint
        return total


@pytest.mark.parametrize(("solver", "hyper"), [(SGD, SGD_HYPER), (Adam, ADAM_HYPER)])
def test_one_term_is_the_derivative_of_the_last_step(solver, hyper):
    training = tiny.training(solver(tiny.loss), 7)
    start = training.solver.init(tiny.weights(), hyper, training.batches(0))
    before = run(training.solver, start, hyper, training.batches, 0, 6)
    knobs = {n: x.clone().requires_grad_() for n, x in hyper.items()}
    value = training.validation_loss(training.solver.step(before, knobs, training.batches(6)).weights)
    expected = torch.autograd.grad(value, list(knobs.values()))
    found = hypergradient("online", training, tiny.weights(), hyper, every=7, terms=1, rows=40).gradient
    for name, slope in zip(knobs, expected, strict=True):
        torch.testing.assert_close(found[name], slope, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("terms", [1, 2, 5, 30])
def test_terms_are_powers_of_the_steps_jacobian(terms):
    problem = Quadratic()
    training, weights = problem.training(9), {"w": torch.ones(1, 6).double()}
    before = train(training._replace(steps=8), weights, problem.hyper)
    found = hypergradient("online", training, weights, problem.hyper, every=9, terms=terms, rows=40).gradient
    for name, slope in problem.sum(before.weights["w"][0], before.velocity["w"][0], terms).items():
        assert float(found[name]) == pytest.approx(slope, rel=1e-11), name


def test_with_many_terms_it_is_implicit_differentiation_where_the_training_has_converged():
    problem = Quadratic()
    weights, steps = {"w": torch.ones(1, 6).double()}, 300
    options = {"every": steps, "terms": 300, "rows": 40}
    found = hypergradient("online", problem.training(steps), weights, problem.hyper, **options)
    H = problem.A + 0.1 * torch.eye(6).double()
    w = torch.linalg.solve(H, problem.b)
    expected = -problem.slope(w) @ torch.linalg.solve(H, w)
    torch.testing.assert_close(found.gradient["l2"], expected, rtol=1e-9, atol=0)
    assert float(found.gradient["learning_rate"]) == pytest.approx(0, abs=1e-9)


class Tempered(SGD):
    """A solver with one hyperparameter of every scale; `temperature` is on a linear one."""

    hyperparameters = {**SGD.hyperparameters, "temperature": Range(0.0, 20.0, 1.0, log=False)}


def tempered(weights, hyper, batch):
    return tiny.loss(weights, hyper, batch) * hyper["temperature"]


TEMPERED = {**SGD_HYPER, "temperature": tiny.tensor(2.0)}


def coordinate(name, x):
    return -torch.log1p(-x) if name == "momentum" else x / 2 if name == "temperature" else torch.log(x)


def natural(name, z):
    return 1 - torch.exp(-z) if name == "momentum" else 2 * z if name == "temperature" else torch.exp(z)


def test_the_moves_are_those_of_torch_adam_in_the_coordinates():
    online = Online(every=3, terms=2, rate=0.1, betas=(0.8, 0.95))
    training = tiny.training(Tempered(tempered), 30)
    hyper = dict(TEMPERED)
    points = {n: coordinate(n, x).requires_grad_() for n, x in hyper.items()}
    adam = torch.optim.Adam(list(points.values()), lr=0.1, betas=(0.8, 0.95), eps=1e-12)
    state = training.solver.init(tiny.weights(), hyper, training.batches(0))
    for t in range(30):
        before, state = state, run(training.solver, state, hyper, training.batches, t, t + 1)
        if t % 3 == 2:
            slopes = online.slopes(training, before, state, hyper, t)
            value = sum((slopes[n] * natural(n, z)).sum() for n, z in points.items())
            adam.zero_grad()
            value.backward()
            adam.step()
            hyper = {n: natural(n, z).detach() for n, z in points.items()}
    options = {"every": 3, "terms": 2, "rate": 0.1, "betas": (0.8, 0.95)}
    found = hypergradient("online", training, tiny.weights(), TEMPERED, **options)
    assert found.report == {"moves": 10, "skipped": 0}
    for name, x in hyper.items():
        torch.testing.assert_close(found.hyper[name], x, rtol=1e-9, atol=0)
    for name, w in state.weights.items():
        torch.testing.assert_close(found.weights[name], w, rtol=1e-9, atol=1e-12)


def test_a_rate_that_is_far_too_low_rises_and_the_training_gains():
    hyper = {"learning_rate": tiny.tensor(1e-3), "momentum": tiny.tensor(0.0), **tiny.per_neuron_l2(1e-3, 1e-3)}
    training = tiny.training(SGD(tiny.loss), 200)
    found = hypergradient("online", training, tiny.weights(), hyper, every=5, terms=3, rate=0.1)
    fixed = training.validation_loss(train(training, tiny.weights(), hyper).weights)
    assert found.hyper["learning_rate"] > 5e-3
    assert 0.5 < found.hyper["momentum"] < 1
    assert found.value < 0.7 * fixed
    for name in tiny.per_neuron_l2():
        strengths = found.hyper[name]
        assert strengths.shape == hyper[name].shape
        assert (strengths > 0).all()
        assert strengths.unique().numel() == strengths.numel(), "each unit went its own way"


def until(last, following):
    for step, state in following:
        yield step, state
        if step == last:
            return


@pytest.mark.parametrize(("solver", "hyper"), [(SGD, SGD_HYPER), (Adam, ADAM_HYPER)])
def test_a_replay_gives_the_same_digits_wherever_it_is_looked_at(solver, hyper):
    training, online = tiny.training(solver(tiny.loss), 37), Online(every=5)

    def followed(stops):
        following = online.follow(training, tiny.weights(), hyper, stops)
        seen = dict(until(training.steps, following))
        return seen, conclude(following)

    seen, one = followed(())
    looked, two = followed({1, 2, 5, 9, 22, 36})
    assert {0, 37} <= set(seen)
    assert {0, 1, 2, 5, 9, 22, 36, 37} <= set(looked)
    assert one.hyper is not None and two.hyper is not None
    for name in hyper:
        assert torch.equal(one.hyper[name], two.hyper[name])
        assert torch.equal(one.gradient[name], two.gradient[name])
    for name, w in seen[37].weights.items():
        assert torch.equal(looked[37].weights[name], w)


def test_nothing_moves_before_the_first_move():
    training = tiny.training(SGD(tiny.loss), 9)
    states = dict(until(9, Online(every=8).follow(training, tiny.weights(), SGD_HYPER)))
    plain = train(training._replace(steps=8), tiny.weights(), SGD_HYPER)
    moved = train(training, tiny.weights(), SGD_HYPER)
    assert all(torch.equal(states[8].weights[n], w) for n, w in plain.weights.items())
    assert not any(torch.equal(states[9].weights[n], w) for n, w in moved.weights.items())


def test_a_derivative_that_is_not_finite_moves_nothing_and_is_counted():
    training = tiny.training(SGD(tiny.loss), 40)
    training.validation.inputs[10:20] = math.nan  # the rows of every fourth move, beginning with the second
    found = hypergradient("online", training, tiny.weights(), SGD_HYPER, every=5, rows=10)
    assert found.report == {"moves": 6, "skipped": 2}
    assert all(torch.isfinite(x).all() for x in found.hyper.values())
    clean = hypergradient("online", training._replace(steps=9), tiny.weights(), SGD_HYPER, every=5, rows=10)
    skipped = hypergradient("online", training._replace(steps=10), tiny.weights(), SGD_HYPER, every=5, rows=10)
    for name in SGD_HYPER:
        assert torch.equal(clean.hyper[name], skipped.hyper[name])
        assert not torch.equal(clean.hyper[name], SGD_HYPER[name])
    assert not any(torch.isfinite(x).all() for x in skipped.gradient.values())


class Narrow(SGD):
    hyperparameters = {**SGD.hyperparameters, "learning_rate": Range(1e-3, 2e-3, 1e-3, limits=(1e-3, 2e-3))}


def test_the_limits_are_kept():
    training = tiny.training(Narrow(tiny.loss), 100)
    found = hypergradient("online", training, tiny.weights(), {"learning_rate": tiny.tensor(1.5e-3)})
    assert float(found.hyper["learning_rate"]) == pytest.approx(2e-3)
    high = {"learning_rate": tiny.tensor(0.1), "momentum": tiny.tensor(1e-3)}
    slowed = hypergradient("online", tiny.training(SGD(tiny.loss), 50), tiny.weights(), high, every=1, rate=0.5)
    assert 0 <= slowed.hyper["momentum"] <= 1 - 1e-6


def test_a_strength_of_0_stays_0():
    training = tiny.training(SGD(tiny.loss), 20)
    hyper = {"learning_rate": tiny.tensor(0.1), "l2": tiny.tensor(0.0)}
    found = hypergradient("online", training, tiny.weights(), hyper)
    assert found.hyper["l2"] == 0
    assert found.hyper["learning_rate"] != 0.1


def test_what_is_held_stays_and_may_be_anything():
    hyper = {
        "learning_rate[t]": torch.full((20,), 0.1).double(),
        "initial_scale": tiny.tensor(0.9),
        "l2": tiny.tensor(0.1),
    }
    training = tiny.training(SGD(tiny.loss), 20)._replace(held=("learning_rate", "initial_scale"))
    found = hypergradient("online", training, tiny.weights(), hyper)
    assert list(found.gradient) == ["l2"]
    assert found.hyper["l2"] != 0.1
    assert all(torch.equal(found.hyper[n], hyper[n]) for n in ("learning_rate[t]", "initial_scale"))


@pytest.mark.parametrize(("rows", "share"), [(None, 1), (30, 1.5), (1000, 2)])
def test_cost_is_what_was_announced(rows, share):
    training = tiny.training(SGD(tiny.loss), 35)
    found = hypergradient("online", training, tiny.weights(), SGD_HYPER, terms=3, rows=rows)
    assert found.gradient_evaluations == 35 + 3 * (4 * 3 + share)
    charge = Online().charge(training, tiny.weights(), SGD_HYPER)
    states = 2 * 2 * sum(w.numel() for w in tiny.weights().values())
    assert charge.memory == 8 * (states + 3 * sum(x.numel() for x in SGD_HYPER.values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate[t]": torch.ones(20), "l2.a[t]": torch.ones(20)},
         r"online makes schedules itself, it cannot move l2\.a\[t\], learning_rate\[t\]: give one value for all"),
        ({"initial_scale.a": tiny.tensor(1.0)}, "online cannot move initial_scale, which acts before the first step"),
        ({"temper": tiny.tensor(1.0), "l3.a": tiny.tensor(1.0)}, "online knows no range of l3, temper: declare it"),
    ],
)  # fmt: skip
def test_what_cannot_move_is_refused_by_name(changes, message):
    training, hyper = tiny.training(SGD(tiny.loss), 20), {**SGD_HYPER, **changes}
    with pytest.raises(ValueError, match=message):
        Online().charge(training, tiny.weights(), hyper)
    with pytest.raises(ValueError, match=message):
        next(Online().follow(training, tiny.weights(), hyper))


def test_a_training_that_ends_before_the_first_move_is_refused():
    with pytest.raises(ValueError, match="every 10 is more than the 9 steps of the training: lower it"):
        hypergradient("online", tiny.training(SGD(tiny.loss), 9), tiny.weights(), SGD_HYPER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every 0 must be 1 or more"),
        ({"terms": 0}, "terms 0 must be 1 or more"),
        ({"rows": 0}, "rows 0 must be 1 or more"),
        ({"rate": 0.0}, "rate 0 must be above 0"),
        ({"rate": math.nan}, "rate nan must be above 0"),
        ({"betas": (0.9, 1.0)}, r"betas \[0\.9, 1\.0\] must be two numbers, each at least 0 and below 1"),
        ({"betas": (0.9,)}, r"betas \[0\.9\] must be two numbers"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Online(**options)
