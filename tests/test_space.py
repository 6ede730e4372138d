"""Grains resolved against a model: how many values, and which weights each touches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpo.dimension import Dimension, searched
from hpo.failures import BadStudy
from hpo.placement import gather, place
from hpo.problems.network import perceptron
from hpo.space import Space, Weight, resolve
from solvers.adam import Adam
from solvers.sgd import SGD
from solvers.solver import required

MNIST = perceptron((784,), (50, 50, 50), 10, "relu", 0)[0].layout
SMALL = perceptron((3,), (4,), 2, "relu", 0)[0].layout
RANGES = SGD.hyperparameters


def space(dimensions, weights=SMALL, steps=7, per=None):
    wanted = searched({k: Dimension(**v) for k, v in dimensions.items()}, RANGES)
    return resolve(wanted, RANGES, weights, steps, per)


@pytest.mark.parametrize(
    ("name", "per", "size"),
    [
        ("l2", "neuron", 934), ("l2", "layer", 4), ("l2", "weight", 44_700), ("l2", "global", 1),
        ("learning_rate", "neuron", 160), ("learning_rate", "layer", 4), ("learning_rate", "weight", 44_860),
        ("learning_rate", "global", 1), ("learning_rate", "step", 600), ("learning_rate", "layer-step", 2400),
        ("momentum", "global", 1),
    ],
)  # fmt: skip
def test_sizes_on_the_perceptron_of_the_papers(name, per, size):
    assert space({name: {"per": per}}, MNIST, steps=600).size == size


def touched(name, per, index):
    """The entries of each weight that value `index` reaches, by marking it."""
    resolved = space({name: {"per": per}})
    values = {name: np.zeros(resolved.size)}
    values[name][index] = 1.0
    hyper = place(resolved, values, {}, torch.zeros(()))
    return {
        w.name: torch.zeros(w.shape).add(hyper[f"{name}.{w.name}"]).nonzero().tolist()
        for w in SMALL
        if f"{name}.{w.name}" in hyper and hyper[f"{name}.{w.name}"].any()
    }


def test_an_l2_strength_touches_outgoing_weights_only():
    assert touched("l2", "neuron", 1) == {"layers.0.weight": [[i, 1] for i in range(4)]}
    assert touched("l2", "neuron", 3) == {"layers.1.weight": [[0, 0], [1, 0]]}
    assert set(touched("l2", "global", 0)) == {"layers.0.weight", "layers.1.weight"}


def test_a_learning_rate_touches_incoming_weights_and_the_bias():
    assert touched("learning_rate", "neuron", 2) == {
        "layers.0.weight": [[2, 0], [2, 1], [2, 2]],
        "layers.0.bias": [[2]],
    }
    assert set(touched("learning_rate", "layer", 1)) == {"layers.1.weight", "layers.1.bias"}


def test_a_convolution_counts_output_channels():
    weights = [Weight("c.weight", (8, 3, 5, 5), "c", 0, 0), Weight("c.bias", (8,), "c", None, 0)]
    assert space({"l2": {"per": "neuron"}}, weights).size == 8
    resolved = space({"learning_rate": {"per": "neuron"}}, weights)
    assert resolved.size == 8
    assert [p.shape for p in resolved.groups[0].pieces] == [(8, 1, 1, 1), (8,)]


@given(st.lists(st.floats(-14, 0), min_size=7, max_size=7), st.floats(0, 0.99))
def test_flatten_and_unflatten_are_inverse(logs, momentum):
    resolved = space({"l2": {"per": "neuron", "low": 1e-7, "high": 1.0}, "momentum": {}})
    values = {"l2": np.exp(np.array(logs)), "momentum": np.array([momentum])}
    back = resolved.unflatten(resolved.flatten(values))
    np.testing.assert_allclose(back["l2"], values["l2"], rtol=1e-12)
    np.testing.assert_allclose(back["momentum"], values["momentum"])


@given(st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=8))
def test_unflatten_stays_inside_the_bounds(coordinates):
    resolved = space({"l2": {"per": "neuron"}, "momentum": {}})
    values = resolved.unflatten(np.array(coordinates))
    for group in resolved.groups:
        assert (values[group.name] >= group.low).all()
        assert (values[group.name] <= group.high).all()


def test_bounds_and_defaults_come_from_the_solver_where_the_study_is_silent():
    group = space({"learning_rate": {}}).groups[0]
    declared = RANGES["learning_rate"]
    assert (group.low, group.high, group.default) == (declared.low, declared.high, declared.default)
    assert space({"learning_rate": {"low": 0.2, "high": 0.4}}).groups[0].default == 0.2
    low, high = space({"l2": {"per": "layer", "low": 1e-4, "high": 1e-2}}).bounds()
    np.testing.assert_allclose(low, np.log([1e-4, 1e-4]))
    np.testing.assert_allclose(high, np.log([1e-2, 1e-2]))


def test_slopes_on_a_log_scale_are_multiplied_by_the_value():
    resolved = space({"learning_rate": {}, "momentum": {}})
    values = {"learning_rate": np.array([0.1]), "momentum": np.array([0.5])}
    slopes = resolved.slopes(values, {"learning_rate": np.array([3.0]), "momentum": np.array([3.0])})
    np.testing.assert_allclose(slopes, [0.3, 3.0])


@pytest.mark.parametrize(
    "rate",
    [{"per": "layer"}, {"per": "step", "windows": 3}, {"per": "layer-step"}, {"per": "layer-step", "windows": 2}],
)
def test_gather_is_the_transpose_of_place(rate):
    resolved = space({"l2": {"per": "neuron"}, "learning_rate": rate, "momentum": {}})
    generator = torch.Generator().manual_seed(0)
    values = {g.name: np.arange(1.0, g.size + 1) for g in resolved.groups}
    hyper = place(resolved, values, {}, torch.zeros((), dtype=torch.float64))
    slopes = {k: torch.randn(x.shape, generator=generator, dtype=torch.float64) for k, x in hyper.items()}
    forward = sum(float((hyper[k] * slopes[k]).sum()) for k in hyper)
    gathered = gather(resolved, slopes)
    assert forward == pytest.approx(sum(float(values[n] @ gathered[n]) for n in values))


def test_a_schedule_of_windows_gives_each_step_the_value_of_its_window():
    resolved = space({"learning_rate": {"per": "step", "windows": 3}})
    hyper = place(resolved, {"learning_rate": np.array([0.1, 0.2, 0.3])}, {}, torch.zeros(()))
    torch.testing.assert_close(hyper["learning_rate[t]"], torch.tensor([0.1] * 3 + [0.2] * 2 + [0.3] * 2))
    slopes = {"learning_rate[t]": torch.tensor([1.0, 2, 3, 10, 20, 100, 200])}
    assert gather(resolved, slopes)["learning_rate"].tolist() == [6, 30, 300]


def test_a_schedule_per_layer_has_windows_of_its_own():
    resolved = space({"learning_rate": {"per": "layer-step", "windows": 2}}, steps=4)
    assert resolved.size == 4
    hyper = place(resolved, {"learning_rate": np.array([0.1, 0.2, 0.3, 0.4])}, {}, torch.zeros(()))
    first, second = hyper["learning_rate.layers.0.weight[t]"], hyper["learning_rate.layers.1.bias[t]"]
    torch.testing.assert_close(first, torch.tensor([0.1, 0.1, 0.2, 0.2]).reshape(4, 1, 1))
    torch.testing.assert_close(second, torch.tensor([0.3, 0.3, 0.4, 0.4]).reshape(4, 1))
    torch.testing.assert_close(required(hyper, "learning_rate", "layers.1.weight", 3), torch.full((1, 1), 0.4))
    grains = [space({"learning_rate": {"per": "layer-step"}}, per=g).groups[0].per for g in ("global", "layer", "step")]
    assert grains == ["global", "layer", "step"]
    assert space({"learning_rate": {"per": "layer-step"}}, per="neuron").groups[0].per == "layer"


def test_windows_without_a_schedule_or_steps_are_refused():
    with pytest.raises(ValueError, match="windows 3 needs per: step or layer-step, not per: layer"):
        Dimension(per="layer", windows=3)
    with pytest.raises(BadStudy, match=r"space\.learning_rate\.windows: 9 is more than the training's 7 steps"):
        space({"learning_rate": {"per": "step", "windows": 9}})


def test_a_method_may_take_a_coarser_grain():
    fine = {"l2": {"per": "neuron"}, "learning_rate": {"per": "layer"}, "momentum": {}}
    assert [g.per for g in space(fine, per="layer").groups] == ["layer", "layer", "global"]
    assert [g.per for g in space(fine, per="global").groups] == ["global"] * 3
    assert [g.per for g in space({"learning_rate": {"per": "step"}}, per="layer").groups] == ["global"]


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"l3": {}}, r"space\.l3: unknown hyperparameter of this solver 'l3'.*did you mean 'l2'"),
        (
            {"momentum": {"per": "neuron"}},
            r"space\.momentum\.per: momentum cannot be given per neuron: use one of global",
        ),
        ({"l2": {"per": "step"}}, r"space\.l2\.per: l2 cannot be given per step"),
        ({"l2": {"high": 1e-7}}, r"space\.l2: low 1e-06 must be below high 1e-07"),
        ({"l2": {"low": 0.0}}, r"space\.l2: low 0 must be above 0 on a log scale"),
        (
            {"learning_rate": {"low": -1.0, "log": False}},
            "learning_rate: -1 … 1 leaves what learning_rate can",
        ),
        ({"momentum": {"high": 1.5}}, r"space\.momentum: 0 … 1\.5 leaves what momentum can be: 0 … 0\.999999"),
        ({"l2": {"default": 5.0}}, r"space\.l2: default 5 must lie between low 1e-06 and high 1"),
    ],
)
def test_what_a_solver_cannot_take_is_named(dimensions, message):
    with pytest.raises(BadStudy, match=message):
        space(dimensions)


def test_a_finer_grain_than_the_space_is_refused():
    with pytest.raises(BadStudy, match="per neuron is finer than the whole space, which is per layer at most"):
        space({"l2": {"per": "layer"}, "momentum": {}}, per="neuron")


def test_l2_needs_a_weight_matrix():
    with pytest.raises(BadStudy, match=r"space\.l2: this model has no weight matrix or convolution"):
        space({"l2": {"per": "neuron"}}, [Weight("scale", (3,), "", None, 0)])


def test_an_empty_space_has_no_values():
    assert Space(()).size == 0


def test_a_solver_searches_what_it_declares_when_it_is_left_to_it():
    found = searched({"solver": "auto"}, RANGES)
    assert {name: d.per for name, d in found.items()} == {
        "l2": "neuron",
        "learning_rate": "layer",
        "momentum": "global",
    }
    resolved = resolve(found, RANGES, SMALL, 7)
    assert {g.name: (g.low, g.high, g.default) for g in resolved.groups} == {
        name: (RANGES[name].low, RANGES[name].high, RANGES[name].default) for name in found
    }


def test_what_is_given_or_held_is_not_left_to_the_solver():
    found = searched({"l2": Dimension(per="layer"), "solver": "auto"}, RANGES, held=["momentum"])
    assert {name: d.per for name, d in found.items()} == {"l2": "layer", "learning_rate": "layer"}


def test_entries_of_other_solvers_are_theirs():
    space = {"momentum": Dimension(), "l2": Dimension()}
    assert list(searched(space, Adam.hyperparameters, elsewhere=RANGES)) == ["l2"]
    with pytest.raises(BadStudy, match=r"space\.momentum: unknown hyperparameter of this solver 'momentum'"):
        searched(space, Adam.hyperparameters)
    with pytest.raises(
        BadStudy, match=r"space: momentum: nothing of it is left for adam to search \(beta1 fixed\): use one of l2"
    ):
        searched({"momentum": Dimension()}, Adam.hyperparameters, RANGES, ["beta1"], "adam")
