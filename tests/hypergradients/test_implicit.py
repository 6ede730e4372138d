"""Implicit differentiation against closed forms, other people's solvers, and long trainings differentiated exactly."""

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from sklearn.datasets import make_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

from hpo.hypergradients.implicit import Implicit
from hpo.hypergradients.training import Training, hypergradient, train, validation_gradient
from solvers.adam import Adam
from solvers.sgd import SGD, SGDState
from solvers.solver import Batch, gradient
from solvers.vectors import zeros

INVERSES = [
    pytest.param({"inverse": "cg", "damping": 0.0}, id="cg"),
    pytest.param({"inverse": "neumann", "iterations": 500, "damping": 0.0}, id="neumann"),
    pytest.param({"inverse": "nystrom", "damping": 1e-12}, id="nystrom"),
]


def full_batch(forward, criterion, part, validation, steps, loss=None, solver=SGD):
    """A training whose minibatch is the whole part, so that it ends where the gradient is zero."""

    def plain(weights, hyper, batch):
        return criterion(forward(weights, batch.inputs), batch.targets)

    made, held = solver(loss or plain), ("learning_rate", "momentum")
    return Training(made, forward, criterion, lambda t: part._replace(index=t), steps, part, validation, held)


def steps_of(learning_rate, momentum=None):
    """What the solver needs and nobody asks the derivative of."""
    rate = {"learning_rate": tiny.tensor(learning_rate)}
    return rate if momentum is None else {**rate, "momentum": tiny.tensor(momentum)}


def linear(weights, inputs):
    return inputs @ weights["w"].T


def ridge(steps=400):
    """Linear regression with a strength per weight, and its minimum in closed form."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    held = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(30, 1, generator=generator, dtype=torch.float64) + inputs[:, :1]
    part, held = Batch(-1, inputs, targets), Batch(-1, held, held @ torch.ones(4, 1, dtype=torch.float64))
    training = full_batch(linear, F.mse_loss, part, held, steps)
    hyper = {"l2.w": torch.linspace(0.1, 0.7, 4, dtype=torch.float64).reshape(1, 4), **steps_of(0.2, 0.5)}
    curvature = 2 * inputs.T @ inputs / 30 + torch.diag(hyper["l2.w"][0])
    minimum = torch.linalg.solve(curvature, 2 * inputs.T @ targets / 30).T
    slope = 2 * held.inputs.T @ (held.inputs @ minimum.T - held.targets) / 20
    return training, hyper, minimum, -torch.linalg.solve(curvature, slope).T * minimum


def softmax(steps, learning_rate, momentum=None, solver=SGD):
    """Regression of three classes on six inputs, a strength per input; strongly convex."""
    training = full_batch(linear, F.cross_entropy, tiny.part(1, 60), tiny.part(2, 40), steps, solver=solver)
    strength = torch.linspace(0.05, 0.3, 6, dtype=torch.float64).reshape(1, 6)
    hyper = {"l2.w": strength, **steps_of(learning_rate, momentum)}
    return training, hyper, {"w": torch.zeros(3, 6, dtype=torch.float64)}


def at(weights):
    """These weights, at rest."""
    return SGDState(weights, zeros(weights))


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
@pytest.mark.parametrize("options", INVERSES)
def test_ridge_regression_in_closed_form(options, kind):
    training, hyper, minimum, expected = ridge()
    weights = {"w": torch.full((1, 4), 2.0, dtype=torch.float64)}
    found = hypergradient("implicit", training, weights, hyper, curvature=kind, **options)
    torch.testing.assert_close(found.weights["w"], minimum, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.gradient["l2.w"], expected, rtol=1e-6, atol=1e-9)
    assert found.gradient.keys() == {"l2.w"}
    assert found.report["residual"] < 1e-7
    assert found.report["stationary"] == 1
    assert found.report["negative_curvature"] == 0


def test_damping_is_added_to_the_curvature():
    training, hyper, minimum, _ = ridge()
    inputs = training.train.inputs
    curvature = 2 * inputs.T @ inputs / 30 + torch.diag(hyper["l2.w"][0] + 0.5)
    slope = validation_gradient(training, {"w": minimum})["w"]
    found = Implicit(damping=0.5).differentiate(training, hyper, {"w": 0 * minimum}, at({"w": minimum}))
    expected = -torch.linalg.solve(curvature, slope.T).T * minimum
    torch.testing.assert_close(found.gradient["l2.w"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [100, 2000])
def test_damping_is_what_the_steps_amount_to(steps):
    """(1 − momentum)/(rate·T) unless another one is given; of a schedule, the mean rate counts."""
    training, hyper, minimum, _ = ridge(steps)
    slopes = [
        Implicit(**options).differentiate(training, knobs, {"w": 0 * minimum}, at({"w": minimum})).gradient["l2.w"]
        for options, knobs in (
            ({}, hyper),
            ({"damping": 0.5 / (0.2 * steps)}, hyper),
            ({}, {**hyper, "learning_rate[t]": torch.linspace(0.4, 0.0, steps, dtype=torch.float64)}),
        )
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(slopes[0], slopes[2], rtol=1e-10, atol=1e-14)
    assert (
        error(
            Implicit(damping=0.0)
            .differentiate(training, hyper, {"w": 0 * minimum}, at({"w": minimum}))
            .gradient["l2.w"],
            slopes[0],
        )
        > 1e-4
    )


def test_ridge_regression_of_scikit_learn():
    """How its solution moves with λ = 5, by finite differences of that library's own fits. Its objective
    |y − Xw|² + λ|w|² is n times ours at r = 2λ/n; a validation row e_j with target 0 has the loss w_j².
    """
    inputs, targets = make_regression(n_samples=10, n_features=3, random_state=0)
    strength, h = 5.0, 1e-4

    def solution(value):
        return Ridge(alpha=value, fit_intercept=False, solver="svd").fit(inputs, targets).coef_

    moved = (solution(strength + h) - solution(strength - h)) / (2 * h)
    part = Batch(-1, torch.from_numpy(inputs), torch.from_numpy(targets).reshape(-1, 1))
    hyper, weights = {"l2": tiny.tensor(1.0), **steps_of(0.2)}, {"w": torch.zeros(1, 3, dtype=torch.float64)}
    for j, row in enumerate(torch.eye(3, dtype=torch.float64)):
        held = Batch(-1, row.reshape(1, 3), torch.zeros(1, 1, dtype=torch.float64))
        training = full_batch(linear, F.mse_loss, part, held, 300)
        found = hypergradient("implicit", training, weights, hyper, damping=0.0)
        np.testing.assert_allclose(found.weights["w"][0].numpy(), solution(strength), rtol=1e-9)
        slope = float(found.gradient["l2"]) * 2 / 10 / (2 * float(found.weights["w"][0, j]))
        assert slope == pytest.approx(moved[j], rel=1e-5)


@pytest.mark.parametrize("options", INVERSES)
def test_tends_to_the_exact_pass_as_the_training_grows(options):
    errors = []
    for steps in (50, 200, 800):
        training, hyper, weights = softmax(steps, 0.2)
        exact = hypergradient("exact", training, weights, hyper).gradient["l2.w"]
        found = hypergradient("implicit", training, weights, hyper, **options)
        errors.append(error(found.gradient["l2.w"], exact))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < 0.1 < errors[0]


def test_does_not_depend_on_the_way_to_the_minimum():
    """Another solver, another rate, other initial weights: the same derivative."""
    training, hyper, weights = softmax(600, 0.5, momentum=0.5)
    one = hypergradient("implicit", training, weights, hyper, damping=0.0).gradient["l2.w"]
    training, hyper, weights = softmax(600, 0.02, solver=Adam)
    two = hypergradient("implicit", training, {"w": weights["w"] + 0.3}, hyper, damping=0.0).gradient["l2.w"]
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


def test_a_network_trained_long_agrees_with_the_exact_pass():
    part, held = tiny.part(1, 60), tiny.part(2, 40)
    training = full_batch(tiny.forward, F.cross_entropy, part, held, 1000, loss=tiny.loss)
    hyper = {**tiny.per_neuron_l2(), **steps_of(0.5, 0.5)}
    exact = hypergradient("exact", training, tiny.weights(), hyper).gradient
    found = hypergradient("implicit", training, tiny.weights(), hyper, iterations=83).gradient
    assert found.keys() == exact.keys() == tiny.per_neuron_l2().keys()
    for name, slope in exact.items():
        assert error(found[name], slope) < 0.15, name


def test_the_weights_of_single_rows_in_a_loss_of_the_users_own():
    """A log weight for each training row, which the loss reads; against finite differences of converged trainings."""

    def loss(weights, hyper, batch):
        each = F.cross_entropy(linear(weights, batch.inputs), batch.targets, reduction="none")
        return (hyper["row"].exp() * each).mean()

    part, held = tiny.part(1, 60), tiny.part(2, 40)
    training = full_batch(linear, F.cross_entropy, part, held, 800, loss=loss)
    weights = {"w": torch.zeros(3, 6, dtype=torch.float64)}
    hyper = {"l2": tiny.tensor(0.1), "row": torch.linspace(-1, 1, 60, dtype=torch.float64), **steps_of(0.5, 0.5)}
    found = hypergradient("implicit", training, weights, hyper, iterations=18, damping=0.0)
    generator, h = torch.Generator().manual_seed(1), 1e-4
    for name in found.gradient:
        x = hyper[name]
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ends = [
            training.validation_loss(train(training, weights, {**hyper, name: x + share * direction}).weights)
            for share in (-h, h)
        ]
        slope = (found.gradient[name] * direction).sum()
        torch.testing.assert_close(slope, (ends[1] - ends[0]) / (2 * h), rtol=1e-5, atol=1e-8)


def oracle():
    """Twenty Gaussian inputs, all of which matter, 500 rows to train on and 500 to validate: the synthetic data of the
    logistic regression notebook of hypertorch (Grazzi et al. 2020), in the order it draws them.
    """
    random = np.random.RandomState(1)  # the stream those data come from
    truth, inputs = random.randn(20), random.randn(1000, 20)
    targets = (inputs @ truth + 0.1 * random.randn(1000) > 0).astype(float)
    drawn = train_test_split(inputs, targets, test_size=0.5, random_state=random)
    rows, held, labels, held_labels = (torch.from_numpy(x) for x in drawn)
    return Batch(-1, rows, labels), Batch(-1, held, held_labels)


def test_strengths_of_a_logistic_regression_are_tuned_as_published():
    """That notebook trains 100 steps of rate 0.1, moves one strength per input from 1 by steps of the size of the
    derivative and momentum 0.9, and prints validation losses of .5744 at first, .5338, .3615 and .2945 after 10, 20
    and 50 of them with reverse mode cut off after ten steps, .2805 after 990. Cut off, ours is the same to four
    digits; the implicit derivative gets there sooner: .4724, .3325, .2882, and .2818 after 100.
    """
    part, held = oracle()

    def forward(weights, inputs):
        return inputs @ weights["w"]

    training = full_batch(forward, F.binary_cross_entropy_with_logits, part, held, 100)
    weights = {"w": torch.zeros(20, dtype=torch.float64)}

    def tuned(iterations, method, **options):
        strength = torch.ones(20, dtype=torch.float64)
        velocity, losses = torch.zeros_like(strength), []
        for _ in range(iterations + 1):
            found = hypergradient(method, training, weights, {"l2.w": strength, **steps_of(0.1)}, **options)
            losses.append(float(found.value))
            velocity = 0.9 * velocity + found.gradient["l2.w"]
            strength = (strength - velocity).clamp_min(0)
        return losses

    published = tuned(20, "truncated", steps=10)
    assert published[::10] == pytest.approx([0.5744, 0.5338, 0.3615], abs=6e-5)
    found = tuned(50, "implicit", damping=0.0)
    assert found[0] == published[0]
    assert found[10] < 0.48
    assert found[20] < 0.34
    assert found[50] < 0.29


def test_rows_are_spread_over_the_training_part():
    training, hyper, weights = softmax(50, 0.2)
    thin = Batch(-1, training.train.inputs[::3], training.train.targets[::3])
    end = train(training, weights, hyper)
    expected = Implicit().differentiate(training._replace(train=thin), hyper, weights, end)
    found = Implicit(rows=20).differentiate(training, hyper, weights, end)
    assert torch.equal(found.gradient["l2.w"], expected.gradient["l2.w"])
    assert found.report == expected.report
    everything = Implicit(rows=1000).differentiate(training, hyper, weights, end)
    assert torch.equal(
        everything.gradient["l2.w"], Implicit().differentiate(training, hyper, weights, end).gradient["l2.w"]
    )


def test_the_report_says_how_stationary_the_end_is():
    for steps, stationary in ((10, 0), (400, 1)):
        training, hyper, weights = softmax(steps, 0.5)
        found = hypergradient("implicit", training, weights, hyper)
        slopes = [
            gradient(training.solver.loss, w, hyper, training.train)["w"].norm() for w in (weights, found.weights)
        ]
        assert found.report["gradient_norm"] == pytest.approx(float(slopes[1]), rel=1e-12)
        assert found.report["relative_gradient_norm"] == pytest.approx(float(slopes[1] / slopes[0]), rel=1e-12)
        assert found.report["stationary"] == stationary
        assert 1 <= found.report["iterations"] <= 18
        assert found.report["residual"] < 1e-6


def test_a_start_without_a_gradient_leaves_the_norm_as_it_is():
    training, hyper, weights = softmax(1, 0.5)
    flat = training._replace(train=training.train._replace(inputs=torch.zeros(60, 6, dtype=torch.float64)))
    found = Implicit().differentiate(flat, hyper, weights, at({"w": weights["w"] + 1.0}))
    assert found.report["relative_gradient_norm"] == found.report["gradient_norm"] > 0


def test_negative_curvature_is_reported_and_does_not_explode():
    """At the initial weights of a network the Hessian is indefinite, the Gauss-Newton matrix is not."""
    part, held = tiny.part(1, 60), tiny.part(2, 40)
    training = full_batch(tiny.forward, F.cross_entropy, part, held, 1, loss=tiny.loss)
    hyper, weights = {"l2": tiny.tensor(1e-6), **steps_of(1e-6)}, tiny.weights(scale=2.0)
    bent = hypergradient("implicit", training, weights, hyper, iterations=80, damping=0.0)
    assert bent.report["negative_curvature"] == 1
    assert torch.isfinite(bent.gradient["l2"])
    positive = hypergradient(
        "implicit", training, weights, hyper, curvature="gauss-newton", iterations=80, damping=1e-3
    )
    assert positive.report["negative_curvature"] == 0


def test_biases_have_no_strength_unless_one_is_given():
    """The strength of the matrices is a sum over the matrices alone."""
    part, held = tiny.part(1, 60), tiny.part(2, 40)
    training = full_batch(tiny.forward, F.cross_entropy, part, held, 30, loss=tiny.loss)
    matrices = {f"l2.{n}": torch.full_like(w, 0.05) for n, w in tiny.weights().items() if w.dim() > 1}
    one = hypergradient("implicit", training, tiny.weights(), {"l2": tiny.tensor(0.05), **steps_of(0.3)}).gradient
    each = hypergradient("implicit", training, tiny.weights(), {**matrices, **steps_of(0.3)}).gradient
    torch.testing.assert_close(one["l2"], torch.stack([x.sum() for x in each.values()]).sum(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "products"),
    [({}, 20), ({"inverse": "neumann", "iterations": 7}, 12), ({"inverse": "nystrom", "iterations": 7}, 8)],
)
def test_cost_is_announced(options, products):
    """60 training rows in minibatches of 20 make a gradient evaluation 3; 40 rows are validated."""
    hyper = {"l2": tiny.tensor(0.1), **steps_of(0.2)}
    training, weights = tiny.training(SGD(tiny.loss), 30)._replace(held=("learning_rate", "momentum")), tiny.weights()
    charge = Implicit(**options).charge(training, weights, hyper)
    assert charge.gradient_evaluations == pytest.approx(3 * (1 + 1 + 2 * products) + 2)
    own = Implicit(**options, rows=40).charge(training, weights, {**hyper, "row": tiny.tensor(0.0)})
    assert own.gradient_evaluations == pytest.approx(2 * (1 + 1 + 2 * products + 2) + 2)
    gauss = Implicit(**options, rows=40, curvature="gauss-newton").charge(training, weights, hyper)
    assert gauss.gradient_evaluations == pytest.approx(2 * (1 + 2 + 4 / 3 * products) + 2)
    numbers = sum(w.numel() for w in weights.values())
    assert charge.memory == 8 * numbers * (35 if "nystrom" in options.values() else 16)
    assert hypergradient("implicit", training, weights, hyper, **options).gradient_evaluations == (
        30 + charge.gradient_evaluations
    )


def test_bad_requests_are_named():
    training, weights = tiny.training(SGD(tiny.loss), 10), tiny.weights()
    l2 = {"l2": tiny.tensor(0.1)}
    for outside in ("learning_rate", "momentum", "initial_scale"):
        with pytest.raises(ValueError, match=rf"cannot differentiate {outside}, which act outside the loss.*use exact"):
            hypergradient("implicit", training, weights, {**l2, outside: tiny.tensor(0.5)})
    many = {**l2, "learning_rate[t]": torch.full((10,), 0.1), "momentum": tiny.tensor(0.5)}
    with pytest.raises(ValueError, match="cannot differentiate learning_rate, momentum, which"):
        hypergradient("implicit", training, weights, many)
    with pytest.raises(ValueError, match="not the loss that reads row: use curvature hessian"):
        hypergradient("implicit", training, weights, {**l2, "row": tiny.tensor(0.5)}, curvature="gauss-newton")

    silent = SGD(tiny.loss)
    del silent.loss
    with pytest.raises(ValueError, match="implicit needs the loss that is minimised, and SGD shows none"):
        hypergradient("implicit", training._replace(solver=silent), weights, l2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inverse": "lu"}, "inverse 'lu' must be one of cg, neumann, nystrom"),
        ({"iterations": 0}, "iterations 0 must be 1 or more"),
        ({"damping": -0.1}, "damping -0.1 must be 0 or more"),
        ({"inverse": "nystrom", "damping": 0.0}, "damping 0 must be above 0 for inverse nystrom"),
        ({"curvature": "fisher"}, "curvature 'fisher' must be one of gauss-newton, hessian"),
        ({"rows": 0}, "rows 0 must be 1 or more"),
    ],
)
def test_options_out_of_range_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        Implicit(**options)
