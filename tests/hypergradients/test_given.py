"""What is handed to the one call, and what it says about it."""

import pytest
import tiny
import torch
from torch.nn.functional import dropout

from hpo.hypergradients import hypergradient
from solvers.sgd import SGD

T = 12
RATE = {"learning_rate": tiny.tensor(0.2)}


def found(hyper, loss=tiny.loss, name="exact", **options):
    return hypergradient(name, tiny.training(SGD(loss), T), tiny.weights(), hyper, **options)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        (
            {"learning_rates": tiny.tensor(0.1)},
            "'learning_rates' is read neither by SGD nor by the loss: did you mean 'learning_rate'?",
        ),
        (
            {"warmth": tiny.tensor(0.1)},
            "'warmth' is read neither by SGD nor by the loss, which knows initial_scale, l2",
        ),
        ({"l2.wight": tiny.tensor(0.1)}, "'l2.wight' names no weight: there are layers.0.weight, layers.0.bias"),
        (
            {"l2.layers.0.weight": torch.full((1, 7), 0.1)},
            r"l2.layers.0.weight of shape \[1, 7\] does not broadcast against layers.0.weight of shape \[5, 6\]",
        ),
        (
            {"learning_rate[t]": torch.full((5,), 0.1)},
            r"step 11 cannot be taken with .*\[t\] \[5\]: index",
        ),
        ({"learning_rate": torch.full((12,), 0.1)}, r"step 11 cannot be taken with learning_rate \[12\]: The size of"),
        ({"momentum[t]": torch.full((12,), 0.1)}, "momentum has one value for the whole training: give no schedule"),
        (
            {"momentum.layers.0.weight": tiny.tensor(0.1)},
            "momentum has one value for all weights",
        ),
    ],
)
def test_what_would_train_in_silence_is_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        found({**RATE, **hyper})


def test_numbers_will_do_and_come_back_as_they_went():
    number = found({"learning_rate": 0.2, "l2": 1}).gradient
    tensor = found({**RATE, "l2": tiny.tensor(1.0)}).gradient
    assert number == tensor
    single = hypergradient(
        "drmad",
        tiny.training(SGD(tiny.loss), T),
        tiny.weights(),
        {"learning_rate": torch.tensor(0.2), "l2": torch.tensor(0.01)},
    )
    assert {x.dtype for x in single.gradient.values()} == {torch.float32}


def test_what_the_loss_reads_is_no_mistake():
    def loss(weights, hyper, batch):
        return hyper["warmth"] * tiny.loss(weights, dict(hyper), batch)

    assert found({**RATE, "warmth": 1.5}, loss).gradient["warmth"] != 0


def test_a_loss_that_draws_random_numbers_is_refused():
    def loss(weights, hyper, batch):
        return tiny.loss(weights, hyper, batch._replace(inputs=dropout(batch.inputs, 0.5)))

    with pytest.raises(ValueError, match="gave two results: .*leave out dropout, or make its mask a function of batch"):
        found(RATE, loss)


def test_a_weight_that_nothing_uses_has_no_gradient_and_does_no_harm():
    weights = {**tiny.weights(), "spare": torch.ones(3, dtype=torch.float64)}
    for name in ("exact", "drmad", "implicit", "reversible"):
        training = tiny.training(SGD(tiny.loss), T)._replace(held=("learning_rate", "momentum"))
        hyper = {**RATE, "momentum": tiny.tensor(0.5), "l2": tiny.tensor(0.1)}
        plain = hypergradient(name, training, tiny.weights(), hyper)
        more = hypergradient(name, training, weights, hyper)
        assert torch.equal(more.weights["spare"], weights["spare"])
        torch.testing.assert_close(more.gradient["l2"], plain.gradient["l2"], rtol=1e-6, atol=0)
