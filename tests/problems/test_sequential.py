from __future__ import annotations

import pytest
import torch
from torch import nn

from hpo.problems.network import perceptron
from hpo.problems.sequential import chain
from solvers.chain import dense, layers, through


def sample(*shape):
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))


def named(module):
    return {name: p.detach() for name, p in module.named_parameters()}


def test_a_sequential_perceptron_is_a_chain_of_dense_stages():
    made = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4, bias=False), nn.Linear(4, 3))
    stages = chain(made, sample(2, 3))
    assert stages is not None
    assert [stage.dense for stage in stages] == [
        ("1.weight", "1.bias", "tanh"),
        ("3.weight", None, "identity"),
        ("4.weight", "4.bias", "identity"),
    ]
    other = {name: 2 * w for name, w in named(made).items()}
    expected = torch.func.functional_call(made, other, (sample(2, 3),))
    torch.testing.assert_close(through(stages, other, sample(2, 3)), expected)


def test_sequentials_inside_are_taken_apart():
    inner = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    made = nn.Sequential(nn.Sequential(nn.Flatten(), inner), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 3))
    stages = chain(made, sample(2, 3))
    assert stages is not None
    assert [stage.dense for stage in stages] == [
        ("0.1.0.weight", "0.1.0.bias", "relu"),
        ("1.0.weight", "1.0.bias", "identity"),
        ("2.weight", "2.bias", "identity"),
    ]
    torch.testing.assert_close(through(stages, named(made), sample(2, 3)), made(sample(2, 3)))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Softplus(), "softplus"),
        (nn.GELU(), "gelu"),
        (nn.LeakyReLU(0.2), None),
        (nn.GELU("tanh"), None),
        (nn.Softplus(2.0), None),
        (nn.Softmax(dim=1), None),
    ],
)
def test_activations_are_known_by_what_they_do(layer, name):
    made = nn.Sequential(nn.Linear(6, 4), layer, nn.Linear(4, 3))
    stages = chain(made, sample(6))
    assert stages is not None
    assert (None if stages[0].dense is None else stages[0].dense.activation) == name
    torch.testing.assert_close(through(stages, named(made), sample(6)), made(sample(6)))


def test_what_has_no_parameters_belongs_to_the_stage_before_it():
    made = nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False, track_running_stats=False), nn.ReLU(),
        nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 16, 3),
    )  # fmt: skip
    stages = chain(made, sample(1, 6, 6))
    assert stages is not None
    assert [stage.names for stage in stages] == [("1.weight", "1.bias"), ("4.weight", "4.bias"), ("6.weight", "6.bias")]
    assert [stage.dense is None for stage in stages] == [True, True, False]
    torch.testing.assert_close(through(stages, named(made), sample(1, 6, 6)), made(sample(1, 6, 6)))


def test_frozen_children_are_part_of_a_stage():
    made = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4).requires_grad_(False), nn.Linear(4, 3))
    stages = chain(made, sample(6))
    assert stages is not None
    assert [stage.names for stage in stages] == [("0.weight", "0.bias"), ("2.weight", "2.bias")]
    torch.testing.assert_close(through(stages, named(made), sample(6)), made(sample(6)))


def test_a_linear_layer_on_more_than_rows_is_no_dense_stage():
    made = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    stages = chain(made, sample(2, 6))
    assert stages is not None
    assert stages[0].dense is None
    torch.testing.assert_close(through(stages, named(made), sample(2, 6)), made(sample(2, 6)))


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def test_other_modules_and_shared_parameters_are_no_chain():
    tied = nn.Linear(4, 4)
    assert chain(nn.Linear(6, 3), sample(6)) is None
    assert chain(Twice(nn.Linear(6, 3)), sample(6)) is None
    assert chain(nn.Sequential(nn.Linear(6, 4), tied, nn.ReLU(), tied, nn.Linear(4, 3)), sample(6)) is None


def test_a_perceptron_is_its_chain():
    network, weights = perceptron((6,), [4], 3, "leaky_relu", seed=0)
    assert network.chain is not None
    assert layers(network.chain, "any")[0] == ("layers.0.weight", "layers.0.bias", "leaky_relu")
    assert torch.equal(through(network.chain, weights, sample(6)), network.forward(weights, sample(6)))


def test_a_stage_that_is_not_dense_is_named():
    stages = chain(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 16, 3)), sample(1, 6, 6))
    assert stages is not None
    with pytest.raises(
        ValueError, match=r"dladmm trains fully connected stages only, .*, and 0\.weight, 0\.bias is none"
    ):
        layers(stages, "dladmm")


def test_an_unknown_activation_is_no_stage():
    with pytest.raises(KeyError, match="swish"):
        dense("w", "b", "swish")
