"""What every hypergradient keeps to, whatever it computes. A new one is in this suite by its registry line."""

import math

import pytest
import tiny
import torch
import torch.nn.functional as F

import hpo.hypergradients
from hpo.hypergradients import HYPERGRADIENTS, hypergradient
from hpo.hypergradients.training import conclude, method, train
from solvers.sgd import SGD

T = 24
FIXED = ("learning_rate", "momentum")
HYPER = {"learning_rate": tiny.tensor(0.2), "momentum": tiny.tensor(0.5), **tiny.per_neuron_l2()}


def training(steps=T, loss=tiny.loss):
    """A training every method can serve: only strengths are sought."""
    return tiny.training(SGD(loss), steps)._replace(held=FIXED)


def followed(name, stops=()):
    """(What was yielded, the derivative)."""
    made = method(name).follow(training(), tiny.weights(), HYPER, stops)
    seen = []
    for step, state in made:
        seen.append((step, state))
        if step == T:
            break
    return seen, conclude(made)


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_the_one_call_answers_for_what_is_sought(name):
    result = hypergradient(name, training(), tiny.weights(), HYPER)
    assert result.gradient.keys() == tiny.per_neuron_l2().keys()
    for key, slope in result.gradient.items():
        assert slope.shape == HYPER[key].shape
        assert slope.dtype == torch.float64
        assert torch.isfinite(slope).all()
    assert any((slope != 0).any() for slope in result.gradient.values())
    assert result.gradient_evaluations > T
    assert all(math.isfinite(figure) for figure in result.report.values())
    assert training().validation_loss(result.weights) == result.value
    assert result.hyper.keys() == HYPER.keys()


@pytest.mark.parametrize("name", sorted(set(HYPERGRADIENTS) - {"reversible", "online"}))
def test_the_training_is_the_plain_one(name):
    """Not reversible's, whose numbers are whole, nor online's, whose hyperparameters move."""
    result = hypergradient(name, training(), tiny.weights(), HYPER)
    plain = train(training(), tiny.weights(), HYPER)
    assert all(torch.equal(w, plain.weights[n]) for n, w in result.weights.items())


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_it_halts_where_it_is_asked_to_and_that_changes_nothing(name):
    seen, derivative = followed(name)
    halted, same = followed(name, stops=(5, 11))
    steps = [step for step, _ in halted]
    assert steps == sorted(steps)
    assert {0, 5, 11, T} <= set(steps)
    assert all(torch.equal(w, halted[-1][1].weights[n]) for n, w in seen[-1][1].weights.items())
    assert all(torch.equal(slope, same.gradient[n]) for n, slope in derivative.gradient.items())


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_whoever_has_seen_enough_may_leave(name):
    following = method(name).follow(training(), tiny.weights(), HYPER, (5,))
    assert next(step for step, _ in following if step == 5) == 5
    following.close()
    assert list(following) == []


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_neither_weights_nor_hyperparameters_are_changed(name):
    weights, hyper = tiny.weights(), {key: x.clone() for key, x in HYPER.items()}
    hypergradient(name, training(), weights, hyper)
    assert all(torch.equal(w, tiny.weights()[n]) for n, w in weights.items())
    assert all(torch.equal(x, HYPER[key]) for key, x in hyper.items())
    assert not any(x.requires_grad for x in (*weights.values(), *hyper.values()))


def permuted(values, order):
    """The units of the first hidden layer in another order."""
    found = dict(values)
    for key, axis in [("layers.0.weight", 0), ("layers.0.bias", 0), ("layers.1.weight", 1), ("l2.layers.1.weight", 1)]:
        if key in found:
            found[key] = found[key].index_select(axis, order)
    return found


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_units_in_another_order_have_their_derivatives_in_that_order(name):
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = hypergradient(name, training(), tiny.weights(), HYPER)
    other = hypergradient(name, training(), permuted(tiny.weights(), order), permuted(HYPER, order))
    expected = permuted(plain.gradient, order)
    size = max(float(slope.abs().max()) for slope in expected.values())
    for key, slope in other.gradient.items():
        torch.testing.assert_close(slope, expected[key], rtol=1e-6, atol=1e-8 * size)


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_a_training_without_steps_is_refused(name):
    with pytest.raises(ValueError, match="a training of 0 steps has no hypergradient: give it 1 or more"):
        hypergradient(name, training(0), tiny.weights(), HYPER)


@pytest.mark.parametrize("name", sorted(set(HYPERGRADIENTS) - {"reversible"}))
def test_an_exploding_training_gives_no_number_that_looks_like_one(name):
    """reversible says so by an error: its whole numbers have a largest one."""
    wild = {**HYPER, "learning_rate": tiny.tensor(1e160)}
    result = hypergradient(name, training(), tiny.weights(), wild)
    gradient = torch.cat([slope.reshape(-1) for slope in result.gradient.values()])
    assert not torch.isfinite(result.value)
    assert not torch.isfinite(gradient).all() or result.report.get("skipped", 0) > 0


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_a_loss_without_a_derivative_is_refused(name):
    def rounded(weights, hyper, batch):
        return tiny.loss({n: w.detach() for n, w in weights.items()}, hyper, batch)

    with pytest.raises(ValueError, match="step 23: the loss depends on no weight in a way that can be differentiated"):
        hypergradient(name, training(loss=rounded), tiny.weights(), HYPER)


@pytest.mark.parametrize("name", ["exact", "truncated", "reversible", "online", "forward"])
def test_a_step_without_a_second_derivative_is_named(name):
    def loss(weights, hyper, batch):
        return F.multi_margin_loss(tiny.forward(weights, batch.inputs), batch.targets)

    last = {"online": 9, "forward": 0}.get(name, T - 1)
    with pytest.raises(RuntimeError, match=f"step {last} cannot be differentiated: .*multi_margin_loss_backward"):
        hypergradient(name, training(loss=loss), tiny.weights(), HYPER)


def test_names_are_found_without_loading_torch_before_they_are_used():
    with pytest.raises(AttributeError, match="has no attribute 'hypergradients'"):
        _ = hpo.hypergradients.hypergradients
    with pytest.raises(ValueError, match="unknown hypergradient 'drmat': use one of drmad, exact"):
        method("drmat")
